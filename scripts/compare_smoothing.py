"""What moving large channels of a transformer into its weights brings, fake-quantized in torch.

    python scripts/compare_smoothing.py runs/vit/random.safetensors runs/vit/heads.safetensors

Random weights have no outlying channels, as trained transformers do. So the same is measured once more with some that
are planted (simulated): six channels of every normalisation carry thirty times what they did, and the layers behind
take it back, so that the float network computes the same.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from probpose_convert.calibration_crops import read_calibration_crops
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.probmap import sparsemax_maps
from probpose_models import load_checkpoint
from probpose_models.deploy import Deployable
from probpose_quant import RECIPES, quantize_static
from probpose_quant.smooth_channels import normalisations, scale_channels, smooth_channels

PLANTED, SIZE = 6, 30.0
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--calib", default="", help="annotations.json:images/, else drawn people")
    parser.add_argument("--calib-crops", type=int, default=8)
    parser.add_argument("--crops", type=int, default=6, help="of up to 16, to compare on")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5, 0.75])
    args = parser.parse_args()
    calibration, others = read_calibration_crops(args.calib, args.calib_crops)
    print("| checkpoint | outliers | strength | map overlap | mean shift of a probability |\n| --- " * 5 + "|")
    for path in args.checkpoints:
        model, contract = load_checkpoint(path)
        for outliers, network in (("none", model), ("planted", with_outliers(model))):
            for strength in (None, *args.strengths):
                tried = network if strength is None else smooth_channels(network, calibration, strength=strength)
                overlap, shift = drift(model, tried, contract, calibration, others[: args.crops])
                name = "–" if strength is None else f"{strength:g}"
                print(f"| {path.stem} | {outliers} | {name} | {overlap:.3f} | {shift:.4f} |", flush=True)


@torch.no_grad()
def with_outliers(model: nn.Module) -> nn.Module:
    """A copy that computes the same, with large channels."""
    changed: Any = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(SEED)
    for norm, readers in normalisations(changed):
        factor = torch.ones_like(norm.weight)
        factor[torch.randperm(len(factor), generator=generator)[:PLANTED]] = 1 / SIZE
        scale_channels(norm, readers, factor)
    return changed


@torch.no_grad()
def drift(
    model: nn.Module,
    tried: nn.Module,
    contract: ModelContract,
    calibration: NDArray[np.uint8],
    crops: NDArray[np.uint8],
) -> tuple[float, float]:
    """Map overlap and mean shift of a probability between the float network and one quantized."""
    graph = quantize_static(tried, calibration, RECIPES["int8-static"], int32_bias=True, unsigned_activations=True)
    image = torch.from_numpy(np.ascontiguousarray(crops))
    (logits, *scalars), (other, *others) = (
        [value.numpy() for value in network(image)] for network in (Deployable(model).eval(), graph)
    )
    maps = [sparsemax_maps(side, contract.temperature) for side in (logits, other)]
    shifts = [np.abs(a - b).mean() for a, b in zip(scalars, others, strict=True)]
    return float(np.minimum(*maps).sum((2, 3)).mean()), float(np.mean(shifts))


if __name__ == "__main__":
    main()
