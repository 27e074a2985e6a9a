"""Quantization: named recipes, ranges from example crops, one quantized graph for several formats.

Importing this package loads nothing heavy; each name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probpose_quant.calibrate import quantize_static
    from probpose_quant.qat import QuantizationAwareTraining
    from probpose_quant.qat_config import QatConfig
    from probpose_quant.quantization import Quantization, read_quantization, save_quantized
    from probpose_quant.ranges import find_ranges
    from probpose_quant.recipe import Recipe
    from probpose_quant.recipes import RECIPES

__all__ = [
    "RECIPES",
    "QatConfig",
    "Quantization",
    "QuantizationAwareTraining",
    "Recipe",
    "find_ranges",
    "quantize_static",
    "read_quantization",
    "save_quantized",
]

_HOME = {
    "RECIPES": "recipes",
    "QatConfig": "qat_config",
    "Quantization": "quantization",
    "QuantizationAwareTraining": "qat",
    "Recipe": "recipe",
    "find_ranges": "ranges",
    "quantize_static": "calibrate",
    "read_quantization": "quantization",
    "save_quantized": "quantization",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
