"""The named recipes."""

from __future__ import annotations

from probpose_quant.recipe import Recipe

RECIPES = {
    "int8-static": Recipe(name="int8-static", observer="mse"),
}
