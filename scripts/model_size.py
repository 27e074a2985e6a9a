"""How the result grows with the size of the network: probpose-m with heads of other widths, trained alike.

    python scripts/model_size.py --data train.json:images/[:share[:no-visibility]]... \\
        --backbone-weights mobilenet.npz --val val.json:images/ --runs runs/size --out docs/results/model_size.json

The backbone has pre-trained weights at one width only, so that the heads are what can grow: all their channels are
multiplied by --widths. Width is no option of the network elsewhere, which is why it is set from outside here. Crops
are 96x128 pixels and the leading backbone blocks are kept, as in scripts/ablation.py. Finished runs in --runs are
read again without training.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from growth import read_curve
from made_by import anonymous_command
from rich.console import Console
from torch import nn

from probpose_edge.atomic_write import write_text_atomically
from probpose_models import probpose_m
from probpose_models.checkpoint import build_model
from probpose_models.layers import conv_bn_relu
from probpose_train.config import DataSource, TrainConfig, parse_source
from probpose_train.run_folder import LOG
from probpose_train.training_loop import train

INPUT_WH = (96, 128)
MapHead, ScalarHead = probpose_m.MapHead, probpose_m.ScalarHead


def main() -> None:
    """Train what is not trained, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, help="training set as in probpose-edge train")
    parser.add_argument("--backbone-weights", default="", help=".npz of MobileNetV2 ImageNet weights")
    parser.add_argument("--val", required=True, help="annotations.json:images/ to judge on")
    parser.add_argument("--widths", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.0])
    parser.add_argument("--samples", type=int, default=16_000, help="training crops of each run")
    parser.add_argument("--freeze", type=int, default=11, help="leading backbone blocks to keep")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/size"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/model_size.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sources = tuple(parse_source(text) for text in options.data)
    rows = []
    for width in options.widths:
        config = size_config(sources, options.backbone_weights, options.val, options.samples, options.freeze)
        folder = options.runs / f"width-{width:g}"
        rows.append(measure_width(width, config, folder))
        print(rows[-1])
    document = {
        "sizes": rows, "input_wh": INPUT_WH, "samples": options.samples, "freeze": options.freeze,
        "command": anonymous_command(sys.argv[1:], Path(__file__).name),
    }  # fmt: skip
    write_text_atomically(options.out, json.dumps(document, indent=1) + "\n")


def size_config(
    sources: tuple[DataSource, ...], backbone_weights: str, val: str, samples: int, freeze: int
) -> TrainConfig:
    """One run; all widths train alike."""
    annotations, _, images = val.partition(":")
    return TrainConfig(
        sources=sources,
        input_wh=INPUT_WH,
        backbone_weights=backbone_weights,
        freeze=freeze,
        samples=samples,
        samples_per_epoch=samples,
        warmup_steps=40,
        ema_decay=0.98,
        select_by="mean-OKS",
        val_annotations=annotations,
        val_images=images,
    )


def measure_width(width: float, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train one width, unless it is trained; its size, and the last point of its validation curve."""
    probpose_m.MapHead = functools.partial(scaled_map_head, width)  # type: ignore[assignment,misc]
    probpose_m.ScalarHead = functools.partial(scaled_scalar_head, width)  # type: ignore[assignment,misc]
    try:
        model = build_model("probpose-m", input_wh=INPUT_WH)
        if not (folder / LOG).exists():
            train(config, folder, console=Console(stderr=True))
    finally:
        probpose_m.MapHead, probpose_m.ScalarHead = MapHead, ScalarHead  # type: ignore[misc]
    return {
        "width": width,
        "parameters": probpose_m.count_parameters(model),
        "multiply_adds": probpose_m.count_multiply_adds(model, INPUT_WH),
        **read_curve(folder / LOG, config.batch_size)[-1],
    }


def scaled_map_head(width: float, channels: tuple[int, int, int, int], keypoints: int) -> nn.Module:
    """A `MapHead` whose inner channels are multiplied by `width`."""
    head = MapHead(channels, keypoints)
    c4, c8, c16, c32 = channels
    w64, w128, w160 = (round(c * width) for c in (64, 128, 160))
    head.lateral32 = conv_bn_relu(c32, w160, 1)
    for name, source, out in (("lateral16", c16, w160), ("lateral8", c8, w128), ("lateral4", c4, w64)):
        setattr(head, name, nn.Sequential(nn.Conv2d(source, out, 1, bias=False), nn.BatchNorm2d(out)))
    head.fuse16, head.down16 = conv_bn_relu(w160, w160, 3), conv_bn_relu(w160, w128, 3)
    head.fuse8, head.down8 = conv_bn_relu(w128, w128, 3), conv_bn_relu(w128, w64, 1)
    head.fuse4, head.final = conv_bn_relu(w64, w64, 3), nn.Conv2d(w64, keypoints, 1)
    return head


def scaled_scalar_head(width: float, in_channels: int, keypoints: int, *, small: bool) -> nn.Module:
    """A `ScalarHead` whose channels, and those of the features it reads, are multiplied by `width`."""
    return ScalarHead(round(in_channels * width), keypoints, hidden=round(64 * width), small=small)


if __name__ == "__main__":
    main()
