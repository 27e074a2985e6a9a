"""How a checkpoint is to be quantized: recipe and ranges, saved beside its weights, the same for every format."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import CheckpointError, InputError
from probpose_models.checkpoint import save_checkpoint
from probpose_quant.recipe import Recipe

QUANTIZATION_KEY = "probpose_edge_quantization"
"""Metadata entry of a .safetensors checkpoint beside its contract."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """A recipe with everything that was found out for one network.

    Attributes
    ----------
    recipe: which values become int8.
    ranges: name of a value (`probpose_quant.value_keys`) → smallest and largest value that 8 bits represent.
    reasons: block that stays in float → why.
    origin: where it comes from, for people: numbers and text by name (crops, their hash, steps, drifts).
    """

    recipe: Recipe
    ranges: dict[str, tuple[float, float]]
    reasons: dict[str, str] = field(default_factory=dict)
    origin: dict[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise InputError(
                    f"A range must go from a smaller to a larger finite number, got {low} to {high} for {name}. "
                    "Quantize the checkpoint again."
                )
        if set(self.reasons) != set(self.recipe.float_blocks):
            raise InputError(
                f"Every block that stays in float must have a reason, got blocks {sorted(self.recipe.float_blocks)} "
                f"and reasons for {sorted(self.reasons)}. Name both."
            )

    def to_json(self) -> str:
        """JSON document that `from_json` reads back."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Quantization:
        """Raises `CheckpointError` for anything that `to_json` did not write."""
        try:
            data = json.loads(text)
            recipe = {**data.pop("recipe")}
            recipe["float_blocks"] = tuple(recipe["float_blocks"])
            ranges = {name: (float(low), float(high)) for name, (low, high) in data.pop("ranges").items()}
            return cls(recipe=Recipe(**recipe), ranges=ranges, **data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"The quantization saved in a checkpoint must be one that this version wrote, but reading it failed: "
                f"{error}. Quantize the checkpoint again."
            ) from error


def save_quantized(path: Path, model: nn.Module, contract: ModelContract, quantization: Quantization) -> None:
    """Write a float32 checkpoint that `convert` turns into int8 files as `quantization` says."""
    extra = {QUANTIZATION_KEY: quantization.to_json()}
    save_checkpoint(path, model, contract.replace(precision="fp32"), extra=extra)


def read_quantization(path: Path) -> Quantization | None:
    """What a checkpoint says about its quantization; None if nothing, or if it is no .safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            document = (file.metadata() or {}).get(QUANTIZATION_KEY)
    except (SafetensorError, OSError, ValueError):
        return None
    return None if document is None else Quantization.from_json(document)
