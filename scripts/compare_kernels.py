"""Compare the decode kernels of a model on photographs, and write the table as a page of the docs.

The network runs once per crop; its maps are decoded by every kernel of the metadata. Scores, presence and boxes are the
same for all, so that the differences are those of the places alone. They are measured on the set as it is and on its
cropped version, with paired bootstrap intervals over pictures.

    python scripts/compare_kernels.py CHECKPOINT --annotations A.json --images DIR [--out docs/results/kernels.md]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from made_by import anonymous_command
from numpy.typing import NDArray

from probpose_cli.models import open_for_evaluation
from probpose_edge import PoseEstimator, RawOutputs, Runtime
from probpose_edge.atomic_write import write_text_atomically
from probpose_edge.contract.metadata import KERNELS
from probpose_edge.exceptions import InputError
from probpose_eval import CropRecipe, EvaluationSet, Interval, load_evaluation_set, predict_set_with_all, write_crop_set
from probpose_eval.annotations.coco import labelled_persons
from probpose_eval.metrics.bootstrap import Resampled, resample
from probpose_eval.metrics.oks import OksRule

METRICS = {"mean-OKS": "mean OKS", "AP": "AP", "Ex-AP": "Ex-AP"}
"""Name in `probpose_eval.metrics.bootstrap` → heading."""
BASELINE = "published"


class RunOnce:
    """A runtime that remembers its last answer, for estimators that ask in turn about the same crops."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name, self.provenance = runtime.name, runtime.provenance
        self._crops: NDArray[np.uint8] = np.zeros((0,), np.uint8)
        self._answer: RawOutputs | None = None

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """As `Runtime.run`."""
        if self._answer is None or not np.array_equal(crops, self._crops):
            self._crops, self._answer = crops.copy(), self._runtime.run(crops)
        return self._answer

    def close(self) -> None:
        """The runtime belongs to the caller."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures of one kernel on one set: the metrics, and how far they are from those of the baseline."""

    set_name: str
    kernel: str
    values: dict[str, Interval]
    differences: dict[str, Interval]


def compare(estimator: PoseEstimator, data: EvaluationSet, *, samples: int, seed: int) -> list[Row]:
    """One row per kernel on one set."""
    contract = estimator.contract
    runtime = RunOnce(estimator.runtime)
    by_kernel = [PoseEstimator(runtime, contract.replace(decode_kernel=kernel)) for kernel in KERNELS]
    results = predict_set_with_all(by_kernel, data.annotations, data.images_dir)
    rule = OksRule(
        presence_threshold=estimator.presence_threshold,
        padding=contract.activation_padding,
        input_wh=contract.input_wh,
    )
    drawn: dict[str, dict[str, Resampled]] = {
        kernel: {
            metric: resample(data.annotations, found, metric=metric, rule=rule, samples=samples, seed=seed)
            for metric in METRICS
        }
        for kernel, found in zip(KERNELS, results, strict=True)
    }
    return [
        Row(
            set_name=data.name,
            kernel=kernel,
            values={metric: value.interval() for metric, value in figures.items()},
            differences={metric: value.minus(drawn[BASELINE][metric]) for metric, value in figures.items()},
        )
        for kernel, figures in drawn.items()
    ]


def page(rows: Sequence[Row], sets: Sequence[EvaluationSet], facts: dict[str, Any]) -> str:
    """The whole page, in Markdown."""
    heads = [title for name in METRICS.values() for title in (name, f"against {BASELINE}")]
    lines = [
        "# Decode kernels",
        "",
        "How the place of a keypoint is read from its probability map: `published`, smoothed by the kernel of the",
        "published code; `oks`, the place with the largest expected OKS, by the true OKS kernel of the window;",
        "`argmax`, the largest cell refined below the cell. The network, its maps, scores and presence are the same in",
        "all rows. Values are percent; differences are points, with 95 % bootstrap intervals over pictures (paired).",
        "",
        f"| set | kernel | {' | '.join(heads)} |",
        f"| --- | --- | {' | '.join(['---'] * len(heads))} |",
    ]
    for row in rows:
        cells = []
        for metric in METRICS:
            cells.append(f"{100 * row.values[metric].value:.2f}")
            d = row.differences[metric]
            cells.append("" if row.kernel == BASELINE else f"{100 * d.value:+.2f} ({_range(d)})")
        lines.append(f"| {row.set_name} | {row.kernel} | {' | '.join(cells)} |")
    lines += ["", "| what | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    for data in sets:
        count = f"{len(data.annotations.images)} pictures, {len(labelled_persons(data.annotations))} persons"
        lines.append(f"| {data.name} | {count} |")
        lines.append(f"| {data.name}: sha256 of the annotations | `{data.annotations_sha256}` |")
        lines.append(f"| {data.name}: sha256 of the pictures | `{data.pictures_sha256}` |")
    return "\n".join([*lines, ""])


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="any model file with probability maps")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO keypoint annotations")
    parser.add_argument("--images", type=Path, required=True, help="folder of their pictures")
    parser.add_argument("--out", type=Path, default=Path("docs/results/kernels.md"), help="page to write")
    parser.add_argument("--crop-seed", type=int, default=0, help="seed of the cropped version (0)")
    parser.add_argument("--samples", type=int, default=1000, help="bootstrap samples (1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (0)")
    options = parser.parse_args()
    with open_for_evaluation(options.checkpoint) as estimator, tempfile.TemporaryDirectory() as temporary:
        contract = estimator.contract
        if contract.map_kind != "probability":
            raise InputError(
                f"Kernels are compared on probability maps, but {options.checkpoint} gives plain heatmaps. Give "
                "a model of the ProbPose family."
            )
        cropped = Path(temporary) / "set"
        recipe = CropRecipe(padding=contract.activation_padding)
        write_crop_set(options.annotations, options.images, cropped, seed=options.crop_seed, recipe=recipe)
        sets = [
            load_evaluation_set(options.annotations, options.images, name="plain"),
            load_evaluation_set(cropped / "annotations.json", cropped / "images", name="cropped"),
        ]
        rows = [row for data in sets for row in compare(estimator, data, samples=options.samples, seed=options.seed)]
        digest = hashlib.sha256(options.checkpoint.read_bytes()).hexdigest() if options.checkpoint.is_file() else "none"
        facts = {
            "model": f"{contract.model}, {contract.format} {contract.precision}, run by {estimator.runtime.name}",
            "sha256 of the model": f"`{digest}`",
            "activation window": f"{contract.activation_padding:g} times the true box; Ex-OKS as in the paper",
            "presence threshold": f"{estimator.presence_threshold:g}",
            "cropped": f"`probpose-edge data crop` with seed {options.crop_seed}",
            "command": f"`{anonymous_command(sys.argv[1:], Path(__file__).name)}`",
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = page(rows, sets, facts)
    write_text_atomically(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
