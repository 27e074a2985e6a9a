"""Import a package of the workshop inside a command, or say which extra brings what it lacks."""

from __future__ import annotations

import importlib
from types import ModuleType

from probpose_edge.exceptions import MissingExtraError


def needs(module: str, *, purpose: str, extra: str) -> ModuleType:
    """Import `module`; raises `MissingExtraError` naming the third-party package that is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).split(".")[0]
        if missing.startswith("probpose_"):
            raise
        raise MissingExtraError(purpose, missing, extra) from error
