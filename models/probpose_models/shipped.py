"""The weights that come with the package."""

from __future__ import annotations

from pathlib import Path

from probpose_edge.exceptions import CheckpointError


def shipped_checkpoint() -> Path:
    """Path of the trained probpose-m checkpoint (float16 safetensors); its model card lies beside it."""
    path = Path(__file__).parent / "weights" / "probpose-m.safetensors"
    if not path.is_file():
        raise CheckpointError(f"The shipped weights must lie at {path}, but do not. Install probpose-edge again.")
    return path
