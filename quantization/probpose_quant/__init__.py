"""Quantization: named recipes, ranges from example crops, one quantized graph for several formats.

Importing this package loads nothing heavy; each name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probpose_quant.calibrate import quantize_static
    from probpose_quant.recipe import Recipe
    from probpose_quant.recipes import RECIPES

__all__ = ["RECIPES", "Recipe", "quantize_static"]

_HOME = {"RECIPES": "recipes", "Recipe": "recipe", "quantize_static": "calibrate"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
