"""The learning rate at a step; it depends on the step alone, so that a resumed run goes on as if nothing had been."""

from __future__ import annotations

import math

import torch

from probpose_train.config import TrainConfig


def rate_factor(config: TrainConfig, step: int) -> float:
    """Share of the peak rate: linear warm-up (at most a tenth of the run), then the schedule of the configuration."""
    warmup = min(config.warmup_steps, max(1, config.total_steps // 10))
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "steps":
        return 0.1 ** sum(step >= share * config.total_steps for share in config.milestones)
    progress = (step - warmup) / max(1, config.total_steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> float:
    """Set every group of the optimizer; returns the rate of the heads."""
    rate = config.learning_rate * rate_factor(config, step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]
    return rate
