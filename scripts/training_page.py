"""Write docs/results/training.md from the measurements stored beside it.

    python scripts/training_page.py

Reads what lies in docs/results; what is missing is left out:
  ablation.json, movenet.json, growth.json   by scripts/ablation.py, compare_movenet.py and growth.py
  model_size.json                            by scripts/model_size.py
  calibration*, kernels*, throughput*        by scripts/calibration_page.py, compare_kernels.py, benchmark_training.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from probpose_edge.atomic_write import write_bytes_atomically, write_text_atomically

ROOT = Path(__file__).resolve().parents[1]
Document = dict[str, Any]
PAPER_ABLATION = {
    "heatmap-plain": (76.0, 73.7),
    "probability-plain": (76.4, 72.4),
    "heatmap-crop": (76.6, 81.7),
    "probability-crop": (76.6, 81.7),
}
"""AP of ProbPose-s on COCO val and on CropCOCO, table 2 of the paper."""
FIGURES = (
    ("plain", "mean-OKS"),
    ("plain", "AP"),
    ("plain", "Ex-AP"),
    ("cropped", "mean-OKS"),
    ("cropped", "mean-Ex-OKS"),
    ("cropped", "AP"),
    ("cropped", "Ex-AP"),
)
COLUMNS = ("mean OKS", "AP", "Ex-AP", "cropped: mean OKS", "mean Ex-OKS", "AP", "Ex-AP")


def main() -> None:
    """Read what there is, draw the picture, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "images" / "growth.png")
    options = parser.parse_args()
    sections: tuple[tuple[str, Callable[[Document], list[str]]], ...] = (
        ("ablation.json", ablation_section),
        ("movenet.json", movenet_section),
    )
    lines = [
        "# What training gives",
        "",
        "Written by `python scripts/training_page.py` from the measurements beside it.",
    ]
    documents = {path.name: json.loads(path.read_text()) for path in options.results.glob("*.json")}
    for name, section in sections:
        if name in documents:
            lines += ["", *section(documents[name])]
    if "growth.json" in documents:
        write_bytes_atomically(options.picture, draw_growth(documents["growth.json"], documents.get("movenet.json")))
        lines += ["", *growth_section(documents["growth.json"], documents.get("ablation.json"))]
    if "model_size.json" in documents:
        lines += ["", *size_section(documents["model_size.json"])]
    lines += linked_section("Calibration curves", options.results, "calibration", "`scripts/calibration_page.py`")
    lines += linked_section("Decode kernels", options.results, "kernels", "`scripts/compare_kernels.py`")
    lines += linked_section("Training throughput", options.results, "throughput", "`scripts/benchmark_training.py`")
    write_text_atomically(options.results / "training.md", "\n".join(lines) + "\n")
    print(options.results / "training.md")


def ablation_section(document: Document) -> list[str]:
    """Four runs, their differences, and what the paper has."""
    width, height = document["input_wh"]
    rows = [
        [
            "probability maps" if run["maps"] == "probability" else "heatmaps",
            "yes" if run["crop"] else "no",
            *figures_of(run),
            f"{100 * run['cropped']['balanced presence accuracy']:.0f} %",
            f"{run['threshold']:.2f}",
            "{:.1f} / {:.1f}".format(*PAPER_ABLATION[run["name"]]),
        ]
        for run in document["runs"]
    ]
    differences = [[difference["what"], *differences_of(difference)] for difference in document["differences"]]
    usual = [
        [
            row["name"],
            f"{row['usual_threshold']:.2f}",
            points(row["plain"]["at usual threshold"]["Ex-AP"]),
            points(row["cropped"]["at usual threshold"]["Ex-AP"]),
            f"{100 * row['cropped']['at usual threshold']['balanced presence accuracy']:.0f} %",
        ]
        for row in document["runs"]
    ]
    return [
        "## The ablation of the paper",
        "",
        f"Four runs of `probpose-m` on crops of {width}×{height} pixels (a quarter of the usual work), from ImageNet "
        f"weights with the first {document['freeze']} backbone blocks kept, {document['samples']:,} samples each, one "
        f"seed, the same data, half-body windows with probability {document['half_body']:g}: they differ in the crop "
        f"augmentation (probability {document['crop']} or 0) and in what the network gives, probability maps with "
        "presence, visibility and quality, or plain heatmaps (mean squared "
        "error, Gaussians of 1 cell) whose peak is the confidence. Judged are the last averaged weights on "
        "`person_keypoints_val.json` with true boxes, plain and cropped (`probpose-edge data crop`, mean of seeds 0 "
        f"to {document['crop_seeds'] - 1}; a bootstrap sample draws a picture with all its cuts). Presence thresholds "
        "were chosen by Ex-AP on the cropped training pictures.",
        "",
        *table(
            ["maps", "crop augmentation", *COLUMNS, "presence, balanced", "threshold", "paper: AP COCO / CropCOCO"],
            rows,
        ),
        "",
        "Values with 95 % bootstrap intervals over pictures. Paired differences, in points (mean OKS as it is):",
        "",
        *table(["what is added", *COLUMNS], differences),
        "",
        *(reading(difference) for difference in document["differences"][:2]),
        "",
        "At the usual thresholds (0.5 for presence, 0.3 for the confidence of heatmaps):",
        "",
        *table(["run", "threshold", "Ex-AP", "cropped: Ex-AP", "presence, balanced"], usual),
        "",
        *([document["note"], ""] if "note" in document else []),
        f"`{document['command']}`",
    ]


def reading(difference: Document) -> str:
    """What a difference says on the cropped set, and whether it can be told from chance."""
    parts = []
    for metric, factor, unit in (("Ex-AP", 100, " points of Ex-AP"), ("mean-Ex-OKS", 1, " of mean Ex-OKS")):
        interval = difference["cropped"][metric]
        told = interval["low"] > 0 or interval["high"] < 0
        parts.append(f"{signed(interval, factor)}{unit}, {'told' if told else 'not told'} from chance")
    return f"On the cropped set, {difference['what']}: {'; '.join(parts)}."


def movenet_section(document: Document) -> list[str]:
    """Our models and MoveNet by the same code."""
    rows = []
    for model in document["models"]:
        usual = points(model["cropped"]["at usual threshold"]["Ex-AP"])
        chosen, given = f"{model['threshold']:.2f}", f"{usual} at {model['usual_threshold']:.2f}"
        rows.append([model["name"], *figures_of(model), chosen, given])
    difference = document["difference"]
    rows.append([f"**{difference['what']}**", *differences_of(difference), "", ""])
    return [
        "## Beside MoveNet Lightning int8",
        "",
        "The same pictures, true boxes, metrics and code. MoveNet (Google, Apache-2.0) sees a square of 1.25 times the "
        "box's longer side at 192×192; its confidence stands for presence and quality. Thresholds were chosen by Ex-AP "
        "on the cropped training pictures.",
        "",
        *table(
            ["model", *COLUMNS, "threshold", "cropped: Ex-AP at the usual one"],
            rows,
        ),
        "",
        "Two ways to cut the square differ by a hundredth of mean OKS: with pixels that tile it, as MoveNet was "
        "trained, and with the first and last pixel centers on its edges, as the windows of this project are cut. The "
        "first is the fair one.",
        "",
        f"`{document['command']}`",
    ]


def growth_section(document: Document, ablation: Document | None) -> list[str]:
    """Curves of the runs, and one line for each."""
    rows = []
    for run in document["runs"]:
        if not run["points"]:
            continue
        last, best = run["points"][-1], max(run["points"], key=lambda point: point["mean-OKS"])
        rows.append(
            [
                run["label"],
                f"{run['persons']:,}{' and drawn ones' if run['drawn'] else ''}",
                "{}×{}".format(*run["input_wh"]),
                f"{run['parameters'] / 1e6:.1f} M, {run['multiply_adds'] / 1e9:.2f} G",
                run["started_from"],
                f"{last['samples']:,}",
                f"{last['mean-OKS']:.3f}",
                f"{100 * last['AP']:.1f}",
                f"{best['mean-OKS']:.3f} at {best['samples']:,}",
            ]
        )
    note = []
    if ablation and any(run["input_wh"] == ablation["input_wh"] for run in document["runs"]):
        small = "{}×{}".format(*ablation["input_wh"])
        note = ["", f"Runs on crops of {small} are there to compare with each other, not with the others."]
    return [
        "## How the result grows",
        "",
        "![Mean OKS and AP on the validation set over the samples of each run](../images/growth.png)",
        "",
        *table(
            [
                "run",
                "persons",
                "input",
                "parameters, multiply-adds",
                "from",
                "samples",
                "mean OKS",
                "AP",
                "best mean OKS",
            ],
            rows,
        ),
        *note,
        "",
        "`scripts/fewer_persons.py` makes the smaller sets of persons.",
    ]


def linked_section(title: str, results: Path, name: str, made_by: str) -> list[str]:
    """Pictures and pages of one measurement that lie beside the page: `name` is how their names, or their folder's,
    begin."""
    files = sorted(
        path
        for pattern in (f"{name}*.md", f"{name}*.png", f"{name}*/*.md", f"{name}*/*.png")
        for path in results.glob(pattern)
    )
    if not files:
        return []
    lines = ["", f"## {title}", "", f"Made by {made_by}."]
    for path in files:
        where = path.relative_to(results)
        mark = "!" if path.suffix == ".png" else ""
        lines += ["", f"{mark}[{where.with_suffix('').as_posix().replace('/', ', ')}]({where.as_posix()})"]
    return lines


def size_section(document: Document) -> list[str]:
    """The same training of networks with heads of several widths."""
    width, height = document["input_wh"]
    rows = [
        [
            f"{size['width']:g}",
            f"{size['parameters'] / 1e6:.1f} M",
            f"{size['multiply_adds'] / 1e9:.2f} G",
            f"{size['mean-OKS']:.3f}",
            f"{100 * size['AP']:.1f}",
        ]
        for size in document["sizes"]
    ]
    return [
        "## How the result grows with the size of the network",
        "",
        f"`probpose-m` with the channels of its heads times a width, {document['samples']:,} samples of "
        f"{width}×{height} pixels each, the first {document['freeze']} backbone blocks kept, one seed. The backbone "
        "has pre-trained weights at one width only; the larger network of the family, ViT-S, has none here, trains 2.3 "
        "samples a second on a core, and was not trained.",
        "",
        *table(["width of the heads", "parameters", "multiply-adds", "mean OKS", "AP"], rows),
        "",
        f"`{document['command']}`",
    ]


def draw_growth(document: Document, movenet: Document | None) -> bytes:
    """PNG of mean OKS and AP over samples, one line per run; MoveNet as a dashed line."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), dpi=120)
    teacher = next((m for m in movenet["models"] if m["name"] == "MoveNet"), None) if movenet else None
    for axis, metric, factor in zip(axes, ("mean-OKS", "AP"), (1, 100), strict=True):
        for run in document["runs"]:
            xs = [point["samples"] / 1000 for point in run["points"]]
            axis.plot(xs, [factor * point[metric] for point in run["points"]], marker=".", label=run["label"])
        if teacher is not None:
            level = factor * teacher["plain"][metric]["value"]
            axis.axhline(level, color="grey", linestyle="--", label="MoveNet Lightning int8")
        axis.set_xlabel("thousand training samples")
        axis.set_title("mean OKS" if metric == "mean-OKS" else "AP")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return buffer.getvalue()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def figures_of(judged: Document) -> list[str]:
    """Cells of `FIGURES`: OKS as it is, AP in points."""
    return [(points if metric.endswith("AP") else share)(judged[label][metric]) for label, metric in FIGURES]


def differences_of(difference: Document) -> list[str]:
    """Cells of `FIGURES` for a difference."""
    return [signed(difference[label][metric], 100 if metric.endswith("AP") else 1) for label, metric in FIGURES]


def points(interval: Document) -> str:
    """A share as points of 100, with its interval."""
    return f"{100 * interval['value']:.1f} ({100 * interval['low']:.1f} to {100 * interval['high']:.1f})"


def share(interval: Document) -> str:
    """A share with its interval."""
    return f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def signed(interval: Document, factor: int) -> str:
    """A difference with its interval, times `factor`."""
    digits = 1 if factor > 1 else 3
    value, low, high = (factor * interval[name] for name in ("value", "low", "high"))
    return f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


if __name__ == "__main__":
    main()
