"""Our models beside MoveNet Lightning: the same pictures, boxes, metrics and code, plain and cropped.

    python scripts/compare_movenet.py MODEL... --movenet movenet_singlepose_lightning_int8.tflite \\
        --val val.json:images/ --train train.json:images/ --out docs/results/movenet.json

Confidences stand for MoveNet's presence and quality. Every model's presence threshold is chosen on the cropped version
of the training pictures, by Ex-AP, and its Ex-AP at its usual threshold is reported too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from judging import (
    Estimates,
    PictureSet,
    best_threshold,
    estimate,
    estimate_with,
    intervals,
    paired_differences,
    presence_figures,
    read_sets,
    resampled_metrics,
)
from made_by import anonymous_command
from movenet import MoveNet
from rich.progress import track

from probpose_cli.models import open_for_evaluation
from probpose_edge.atomic_write import write_text_atomically

USUAL_CONFIDENCE_THRESHOLD = 0.3
"""Below this, keypoints of heatmap models are usually not drawn (ProbPose, section 5.1)."""
UDP_NAME = "MoveNet, windows cut as ours"


def main() -> None:
    """Estimate everything, judge it, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="model files of this project; the first is compared")
    parser.add_argument("--movenet", required=True, type=Path)
    parser.add_argument("--val", required=True, help="annotations.json:images/ to judge on")
    parser.add_argument("--train", required=True, help="annotations.json:images/ to choose thresholds on")
    parser.add_argument("--out", type=Path, default=Path("docs/results/movenet.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sets = read_sets(options.val, Path(temporary) / "val")
        tuning = read_sets(options.train, Path(temporary) / "train")["cropped"]
        entries: list[dict[str, Any]] = []
        measured = []
        names = [path.name for path in options.models] + ["MoveNet", UDP_NAME]
        for name in track(names, description="judging"):
            estimates, usual = estimate_all(name, options.models, options.movenet, [*sets.values(), tuning])
            threshold = best_threshold(tuning, estimates[-1])
            entry: dict[str, Any] = {"name": name, "threshold": threshold, "usual_threshold": usual}
            metrics = {}
            for (label, data), found in zip(sets.items(), estimates, strict=False):
                metrics[label] = resampled_metrics(data, found, threshold)
                at_usual = resampled_metrics(data, found, usual)
                entry[label] = intervals(metrics[label]) | presence_figures(data, found, threshold)
                entry[label]["at usual threshold"] = intervals(at_usual) | presence_figures(data, found, usual)
            entries.append(entry)
            measured.append(metrics)
    reference = names.index("MoveNet")
    document = {
        "command": anonymous_command(sys.argv[1:], Path(__file__).name),
        "models": entries,
        "difference": {
            "what": f"{names[0]} - MoveNet",
            **{label: paired_differences(measured[0][label], measured[reference][label]) for label in sets},
        },
    }
    write_text_atomically(options.out, json.dumps(document, indent=1) + "\n")
    for entry in entries:
        figures = {f"{label} {metric}": entry[label][metric]["value"] for label in sets for metric in entry[label]
                   if isinstance(entry[label][metric], dict) and "value" in entry[label][metric]}  # fmt: skip
        print(entry["name"], entry["threshold"], {name: round(value, 3) for name, value in figures.items()})


def estimate_all(name: str, models: list[Path], movenet: Path, sets: list[PictureSet]) -> tuple[list[Estimates], float]:
    """Estimates of one model on every set, and the threshold it is usually used with."""
    if name in ("MoveNet", UDP_NAME):
        model = MoveNet(movenet, udp=name == UDP_NAME)
        return [estimate_with(model, data) for data in sets], USUAL_CONFIDENCE_THRESHOLD
    with open_for_evaluation(next(path for path in models if path.name == name), threads=1) as estimator:
        return [estimate(estimator, data) for data in sets], estimator.presence_threshold


if __name__ == "__main__":
    main()
