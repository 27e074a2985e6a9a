"""AdamW with a slower backbone, warm-up and cosine decay."""

from __future__ import annotations

import math

import torch
from torch import nn

from probpose_train.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Weight decay applies to matrices and kernels only, never to biases and normalisation."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        key = (name.startswith("backbone."), parameter.ndim > 1)
        groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if decays else 0.0,
                "rate": config.backbone_rate if backbone else 1.0,
            }
            for (backbone, decays), parameters in sorted(groups.items())
        ],
        lr=config.learning_rate,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> float:
    """Linear warm-up, then cosine to 1 % of the peak; the rate depends on the step alone. Returns the head's rate."""
    warmup = min(config.warmup_steps, max(1, config.total_steps // 10))
    if step < warmup:
        factor = (step + 1) / warmup
    else:
        progress = (step - warmup) / max(1, config.total_steps - warmup)
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * factor * group["rate"]
    return config.learning_rate * factor
