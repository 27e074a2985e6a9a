"""How the result grows while runs train: their logs as one JSON file, with what each run was.

    python scripts/growth.py "first run=runs/m1" "second run, from it=runs/m2" --out docs/results/growth.json

Points are the validation figures that a run wrote for its averaged weights. A run that started from the weights of
another one counts its own samples only.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from probpose_edge.atomic_write import write_text_atomically
from probpose_eval.annotations.coco import labelled_persons, read_annotations
from probpose_models.checkpoint import load_checkpoint
from probpose_models.probpose_m import count_multiply_adds, count_parameters
from probpose_train.config import TrainConfig
from probpose_train.run_folder import LAST, LOG, read_config


def main() -> None:
    """Read the runs, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="label=folder")
    parser.add_argument("--out", type=Path, default=Path("docs/results/growth.json"))
    options = parser.parse_args()
    runs = [describe_run(*text.split("=", 1)) for text in options.runs]
    labels = {Path(text.split("=", 1)[1]).name: text.split("=", 1)[0] for text in options.runs}
    for run in runs:
        run["started_from"] = labels.get(run["started_from"], run["started_from"])
    write_text_atomically(options.out, json.dumps({"runs": runs}, indent=1) + "\n")
    for run in runs:
        last = run["points"][-1] if run["points"] else None
        print(run["label"], run["persons"], "persons, last point:", last)


def describe_run(label: str, folder: str) -> dict[str, Any]:
    """One run: settings, size, and points of its validation curve."""
    config = read_config(Path(folder))
    model, contract = load_checkpoint(Path(folder) / LAST)
    return {
        "label": label,
        "model": config.model,
        "maps": config.loss.kind,
        "input_wh": contract.input_wh,
        "parameters": count_parameters(model),
        "multiply_adds": count_multiply_adds(model, contract.input_wh),
        "persons": sum(count_persons(config).values()),
        "drawn": any(source.annotations == "synth" for source in config.sources),
        "started_from": (
            Path(config.init_from).parent.name
            if config.init_from
            else "ImageNet weights"
            if config.backbone_weights
            else "random weights"
        ),
        "points": read_curve(Path(folder) / LOG, config.batch_size),
    }


def count_persons(config: TrainConfig) -> dict[str, int]:
    """Labelled persons by picture folder; two files that name the same persons of a folder count once."""
    by_images: dict[str, dict[str, set[int]]] = {}
    for source in config.sources:
        if source.annotations != "synth":
            ids = {person.id for person in labelled_persons(read_annotations(source.annotations))}
            by_images.setdefault(source.images, {})[source.annotations] = ids
    return {images: len(set().union(*files.values())) for images, files in by_images.items()}


def read_curve(log: Path, batch_size: int) -> list[dict[str, float]]:
    """Validated lines of a log: samples so far, mean OKS, AP, and Ex-AP where it was measured. A run that was continued
    with other columns has several header lines."""
    points, header = [], []
    for row in csv.reader(log.read_text().splitlines()):
        if row and row[0] == "step":
            header = row
            continue
        values = dict(zip(header, row, strict=True))
        if "val_mean_oks" in values:
            point = {"samples": int(values["step"]) * batch_size}
            for name, column in (("mean-OKS", "val_mean_oks"), ("AP", "val_AP"), ("Ex-AP", "val_Ex-AP")):
                if column in values:
                    point[name] = float(values[column])
            points.append(point)
    return points


if __name__ == "__main__":
    main()
