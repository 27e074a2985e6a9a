"""The paper's ablation on the data at hand: crop augmentation x probability maps, four runs otherwise alike.

    python scripts/ablation.py --data train.json:images/[:share[:no-visibility]]... --backbone-weights mobilenet.npz \\
        --val val.json:images/ --train train.json:images/ --runs runs/ablation --out docs/results/ablation.json

The networks are small so that a processor can train all four: probpose-m on crops of 96x128 pixels with the leading
backbone blocks kept from ImageNet. All see the same samples with the same seed; the last averaged weights are judged,
none are chosen on --val. A heatmap network has no presence: its confidence stands for it. Each presence threshold is
chosen on the cropped version of the --train pictures, by Ex-AP; figures at the usual ones stand beside it. Finished
runs in --runs are judged again without training.

Where a picture is cut decides much, so the cropped set is made --crop-seeds times. Its figures are means over these
versions, and a bootstrap sample draws a picture with all of them. Half-body windows are off in all four runs: they
show truncated persons too, so that the crop augmentation would be compared with another one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from judging import (
    best_threshold,
    estimate,
    intervals,
    mean_metrics,
    mean_presence_figures,
    paired_differences,
    read_sets,
)
from made_by import anonymous_command
from rich.console import Console
from rich.progress import track

from probpose_cli.models import open_for_evaluation
from probpose_edge.atomic_write import write_text_atomically
from probpose_train.config import AugmentConfig, DataSource, LossConfig, TrainConfig, parse_source
from probpose_train.run_folder import LAST, read_config
from probpose_train.training_loop import resume, train

VARIANTS = (("probability", True), ("probability", False), ("heatmap", True), ("heatmap", False))
COMPARED = (
    ("crop augmentation, with probability maps", "probability-crop", "probability-plain"),
    ("crop augmentation, with heatmaps", "heatmap-crop", "heatmap-plain"),
    ("probability maps, with crop augmentation", "probability-crop", "heatmap-crop"),
    ("probability maps, without crop augmentation", "probability-plain", "heatmap-plain"),
)


def main() -> None:
    """Train what is not trained, judge all four, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, help="training set as in probpose-edge train")
    parser.add_argument("--backbone-weights", default="", help=".npz of MobileNetV2 ImageNet weights")
    parser.add_argument("--val", required=True, help="annotations.json:images/ to judge on")
    parser.add_argument("--train", required=True, help="annotations.json:images/ to choose thresholds on")
    parser.add_argument("--samples", type=int, default=12_800, help="training crops of each run")
    parser.add_argument("--freeze", type=int, default=11, help="leading backbone blocks to keep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crop-seeds", type=int, default=8, help="how often the pictures are cropped")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/ablation.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sources = tuple(parse_source(text) for text in options.data)
    for maps, crop in VARIANTS:
        config = variant_config(
            sources, maps, crop, options.backbone_weights, options.samples, options.freeze, options.seed
        )
        train_variant(config, options.runs / variant_name(maps, crop))
    document = judge_variants(options.runs, options.val, options.train, options.crop_seeds)
    document["command"] = anonymous_command(sys.argv[1:], Path(__file__).name)
    write_text_atomically(options.out, json.dumps(document, indent=1) + "\n")
    print(f"{options.out} written")


def variant_name(maps: str, crop: bool) -> str:
    """Folder of a run."""
    return f"{maps}-{'crop' if crop else 'plain'}"


def variant_config(
    sources: tuple[DataSource, ...],
    maps: str,
    crop: bool,
    backbone_weights: str,
    samples: int,
    freeze: int,
    seed: int,
) -> TrainConfig:
    """One of the four runs: a constant rate, a tenth of it over the last 15 %, and averaged weights. The Gaussians of
    the heatmaps have the share of the map that 2 cells have of 48x64."""
    return TrainConfig(
        sources=sources,
        input_wh=(96, 128),
        backbone_weights=backbone_weights,
        freeze=freeze,
        samples=samples,
        samples_per_epoch=3200,
        warmup_steps=40,
        schedule="steps",
        milestones=(0.85,),
        ema_decay=0.995,
        seed=seed,
        augment=AugmentConfig(crop=AugmentConfig().crop if crop else 0.0, half_body=0.0),
        loss=LossConfig(kind=maps, heatmap_sigma=1.0),
    )


def train_variant(config: TrainConfig, folder: Path) -> None:
    """Train, or continue a run that was cut off; a finished run stays as it is."""
    console = Console(stderr=True)
    if not (folder / LAST).exists():
        train(config, folder, console=console)
    elif last_step(folder) < read_config(folder).total_steps:
        resume(folder, console=console)


def last_step(folder: Path) -> int:
    """Step of the last line of a run's log."""
    return int((folder / "log.csv").read_text().splitlines()[-1].split(",")[0])


def judge_variants(runs: Path, val: str, tuning: str, crop_seeds: int) -> dict[str, Any]:
    """Figures of all four runs and their paired differences, for JSON."""
    rows: list[dict[str, Any]] = []
    measured: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        versions = [read_sets(val, Path(temporary) / f"val-{s}", crop_seed=s) for s in range(crop_seeds)]
        sets = {"plain": [versions[0]["plain"]], "cropped": [version["cropped"] for version in versions]}
        tuning_set = read_sets(tuning, Path(temporary) / "train")["cropped"]
        for maps, crop in track(VARIANTS, description="judging"):
            name = variant_name(maps, crop)
            with open_for_evaluation(runs / name / LAST) as estimator:
                usual = estimator.presence_threshold
                threshold = best_threshold(tuning_set, estimate(estimator, tuning_set))
                row: dict[str, Any] = {
                    "name": name, "maps": maps, "crop": crop, "threshold": threshold, "usual_threshold": usual,
                }  # fmt: skip
                measured[name] = {}
                for label, data in sets.items():
                    found = [estimate(estimator, each) for each in data]
                    measured[name][label] = mean_metrics(data, found, threshold)
                    row[label] = intervals(measured[name][label]) | mean_presence_figures(data, found, threshold)
                    row[label]["at usual threshold"] = intervals(
                        mean_metrics(data, found, usual)
                    ) | mean_presence_figures(data, found, usual)
            rows.append(row)
        differences = [
            {
                "what": what,
                **{label: paired_differences(measured[one][label], measured[other][label]) for label in sets},
            }
            for what, one, other in COMPARED
        ]
    config = read_config(runs / "probability-crop")
    return {
        "runs": rows,
        "differences": differences,
        "input_wh": config.input_wh,
        "samples": config.samples,
        "batch_size": config.batch_size,
        "freeze": config.freeze,
        "seed": config.seed,
        "crop": config.augment.crop,
        "half_body": config.augment.half_body,
        "crop_seeds": crop_seeds,
    }


if __name__ == "__main__":
    main()
