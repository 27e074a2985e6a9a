"""The state of a training on disk: tensors, numbers and strings, written whole and read without executing code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from probpose_edge.atomic_write import write_bytes_atomically
from probpose_edge.exceptions import TrainingError


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state under its name only when it is complete."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes_atomically(path, buffer.getvalue())


def read_state(path: Path, *, if_missing: str, if_damaged: str) -> dict[str, Any]:
    """The state in a file; the texts say what to do without one, and with one that cannot be read.

    Raises `TrainingError` in both cases.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"--resume needs {path}, which does not exist. {if_missing}") from error
    except Exception as error:  # torch.load raises many types for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"{path} must be a whole state of a training, but reading it failed: {reason}. {if_damaged}"
        ) from error
    return state
