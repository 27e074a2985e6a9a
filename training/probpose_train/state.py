"""What a run needs to continue: weights, averaged weights, optimizer, and how far it was."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from probpose_train.config import TrainConfig
from probpose_train.early_stopping import Progress


@dataclass(kw_only=True, eq=False)
class TrainingState:
    """The parts of a run that change with every step."""

    model: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    progress: Progress = dataclasses.field(default_factory=Progress)


def capture(state: TrainingState, config: TrainConfig) -> dict[str, Any]:
    """Tensors, numbers and strings only, which load without executing code."""
    return {
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "score": list(state.progress.score),
        "waited": state.progress.waited,
        "select_by": config.select_by,
    }


def restore(state: TrainingState, saved: dict[str, Any]) -> None:
    """Put back what `capture` took; earlier versions kept the best mean OKS alone, as ``best``."""
    state.model.load_state_dict(saved["model"])
    state.average.load_state_dict(saved["average"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.step = int(saved["step"])
    if "score" in saved:
        first, second = (float(value) for value in saved["score"])
        state.progress = Progress(score=(first, second), waited=int(saved["waited"]))
    else:
        state.progress = Progress(score=(float(saved["best"]), float(saved["best"])))
