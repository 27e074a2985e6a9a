"""Make a probpose-s checkpoint to measure conversions on, where no trained one is at hand.

    python scripts/sample_transformer.py runs/vit/random.safetensors
    python scripts/sample_transformer.py runs/vit/heads.safetensors --head-samples 192 --head-steps 100

Maps of random weights are almost flat, and everything overlaps with a flat map: the last layer of the map head is
scaled until the logits of a map spread as far as those of the shipped probpose-m on the same drawn crops. With
``--head-samples N`` the heads then learn on N drawn people; the random transformer in front of them stays as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probpose_convert.calibration_crops import read_calibration_crops
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_models import ProbPoseS, checkpoint_contract, load_checkpoint, save_checkpoint
from probpose_models.deploy import Deployable
from probpose_models.outputs import PoseOutputs
from probpose_models.torch_runtime import TorchRuntime
from probpose_train.augment import WindowFrame
from probpose_train.config import DataSource, LossConfig, TrainConfig
from probpose_train.dataset import SampleStream
from probpose_train.loss_kernels import make_kernels
from probpose_train.losses import LossKernels, Targets, compute_losses, map_losses

SHIPPED = Path(__file__).parents[1] / "models/probpose_models/weights/probpose-m.safetensors"
BATCH = 8
RATE = 2e-3
SCALARS_EVERY = 4
"""Steps: presence, visibility and quality learn soon, and their convolutions cost as much as those of the map."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--head-samples", type=int, default=0, help="drawn people that the heads learn on")
    parser.add_argument("--head-steps", type=int, default=100, help=f"steps of {BATCH} of them")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = ProbPoseS().eval()
    _, crops = read_calibration_crops("", BATCH)
    print(f"logits scaled by {scale_logits(model, crops):.1f}")
    if args.head_samples:
        train_heads(model, args.head_samples, args.head_steps)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(args.out, model, checkpoint_contract(model))


@torch.no_grad()
def scale_logits(model: ProbPoseS, crops: NDArray[np.uint8]) -> float:
    """Let logits spread over a map as those of the shipped network do; the factor."""
    shipped, _ = load_checkpoint(SHIPPED)
    wanted, given = (TorchRuntime(m).run(crops).logits.std((2, 3)).mean() for m in (shipped, model))
    model.map_head.final.weight.mul_(float(wanted / given))
    return float(wanted / given)


def train_heads(model: ProbPoseS, samples: int, steps: int) -> None:
    """Features are computed once; every step then runs the heads alone."""
    contract = checkpoint_contract(model)
    config = TrainConfig(
        sources=(DataSource(annotations="synth"),),
        samples=samples,
        loss=LossConfig(presence=1.0, visibility=1.0, quality=1.0),
    )
    frame = WindowFrame(
        input_wh=contract.input_wh,
        heatmap_wh=contract.heatmap_wh,
        padding=contract.padding,
        flip_permutation=Skeleton.of(contract).flip_permutation,
        window_ratio=contract.window_ratio,
    )
    features, targets = _features(model, SampleStream(config, frame, contract.keypoint_names), samples)
    kernels = make_kernels(contract, torch.device("cpu"))
    scalar_heads: list[Any] = [model.presence_head, model.visibility_head, model.quality_head]
    heads = nn.ModuleList([model.map_head, *scalar_heads]).train()
    optimizer = torch.optim.AdamW(heads.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    rng = np.random.default_rng(0)
    for step in range(steps):
        chosen = torch.from_numpy(rng.choice(samples, BATCH, replace=False))
        seen, truth = features[chosen], Targets(*(values[chosen] for values in targets))
        logits = model.map_head(seen)
        if step % SCALARS_EVERY == 0:
            outputs = PoseOutputs(logits, *(head(seen) for head in scalar_heads))
            loss = compute_losses(outputs, truth, kernels, contract.temperature, config.loss)["total"]
        else:
            loss = _map_loss(logits, truth, kernels, contract.temperature, config.loss)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(heads.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step}: loss {float(loss.detach()):.3f}", flush=True)
    model.eval()


@torch.no_grad()
def _features(model: ProbPoseS, stream: SampleStream, samples: int) -> tuple[Tensor, Targets]:
    deployable = Deployable(model)
    features, targets = [], []
    for first in range(0, samples, BATCH):
        pixels, truth = stream.collate([stream[index] for index in range(first, first + BATCH)])
        features.append(model.backbone(deployable.normalise(pixels)))  # type: ignore[arg-type]
        targets.append(truth)
    return torch.cat(features), Targets(*(torch.cat(parts) for parts in zip(*targets, strict=True)))


def _map_loss(logits: Tensor, truth: Targets, kernels: LossKernels, temperature: float, config: LossConfig) -> Tensor:
    losses = map_losses(logits, truth.points_cell, kernels, temperature, config)
    return ((losses.risk + losses.alignment) * truth.map_mask).sum() / truth.map_mask.sum()


if __name__ == "__main__":
    main()
