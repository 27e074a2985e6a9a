"""What a quantization-aware training is asked for."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from probpose_edge.exceptions import InputError


@dataclass(frozen=True, kw_only=True)
class QatConfig:
    """The schedule, and what every step does.

    Attributes
    ----------
    steps: optimizer steps. batch_size: crops per step.
    learning_rate: peak rate of the weights (AdamW, no decay); linear warm-up over a tenth of the steps, then a cosine.
    range_rate: peak rate of the logarithms of the ranges' steps.
    freeze_ranges: share of the steps after which the ranges stay, so that the weights settle on a fixed grid.
    clip_norm: largest norm of the gradient. seed: of the samples.
    """

    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 3e-6
    range_rate: float = 1e-3
    freeze_ranges: float = 0.7
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}. Usual is {_usual(name)}.")
        for name in ("learning_rate", "range_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}. Usual is {_usual(name)}.")
        if not 0 <= self.freeze_ranges <= 1:
            raise InputError(f"freeze_ranges is a share of the steps in [0, 1], got {self.freeze_ranges}.")

    def to_json(self) -> str:
        """JSON document, for the state of a run."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def _usual(name: str) -> object:
    return next(field.default for field in dataclasses.fields(QatConfig) if field.name == name)
