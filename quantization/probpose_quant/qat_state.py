"""The state of a training on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from probpose_edge.exceptions import TrainingError
from probpose_train.state_file import read_state, write_state

STATE = "qat_state.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state under its name; see `write_state`."""
    write_state(folder / STATE, state)


def load_state(folder: Path) -> dict[str, Any]:
    """Read the state; raises as `read_state`."""
    return read_state(
        folder / STATE,
        if_missing="Check --out, or start without --resume.",
        if_damaged="Remove it and start without --resume.",
    )


def refuse_other_state(folder: Path) -> None:
    """Raise `TrainingError` if the folder holds a training already."""
    if (folder / STATE).exists():
        raise TrainingError(
            f"A new training needs a folder of its own, but {folder} holds one. Continue it with --resume, or choose "
            "another --out."
        )
