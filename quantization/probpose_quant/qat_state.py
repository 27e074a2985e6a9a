"""The state of a training on disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from probpose_edge.atomic_write import write_bytes_atomically
from probpose_edge.exceptions import TrainingError

STATE = "qat_state.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state under its name only when it is complete."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes_atomically(folder / STATE, buffer.getvalue())


def load_state(folder: Path) -> dict[str, Any]:
    """Read a state without executing code; raises `TrainingError` if there is none that is whole."""
    path = folder / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(
            f"--resume needs {path}, which does not exist. Check --out, or start without --resume."
        ) from error
    except Exception as error:  # torch.load raises many types for a damaged file
        raise TrainingError(
            f"{path} must be a whole state of a training, but reading it failed: {' '.join(str(error).split())[:200]}. "
            "Remove it and start without --resume."
        ) from error
    return state


def refuse_other_state(folder: Path) -> None:
    """Raise `TrainingError` if the folder holds a training already."""
    if (folder / STATE).exists():
        raise TrainingError(
            f"A new training needs a folder of its own, but {folder} holds one. Continue it with --resume, or choose "
            "another --out."
        )
