"""How a page of the docs names the command that made it."""

from __future__ import annotations

import shlex
from pathlib import Path


def anonymous_command(arguments: list[str], script: str) -> str:
    """What was typed, with data folders outside the repository called ``DATA``."""
    words = []
    for argument in arguments:
        parts = [f"DATA/{Path(part).name}" if Path(part).is_absolute() else part for part in argument.split(":")]
        words.append(":".join(parts))
    return shlex.join(["python", f"scripts/{script}", *words])
