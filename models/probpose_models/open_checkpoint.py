"""Open any checkpoint, of this project or published elsewhere."""

from __future__ import annotations

from pathlib import Path

from probpose_edge.contract.metadata import ModelContract
from probpose_models.checkpoint import load_checkpoint
from probpose_models.probpose_m import ProbPoseM
from probpose_models.probpose_s import ProbPoseS
from probpose_models.release import load_release

RELEASE_SUFFIXES = (".pth", ".pt")


def open_checkpoint(path: Path) -> tuple[ProbPoseM | ProbPoseS, ModelContract]:
    """A published ``.pth`` as `load_release`, anything else as `load_checkpoint`; raises what they raise."""
    if Path(path).suffix in RELEASE_SUFFIXES:
        model, contract, _ = load_release(path)
        return model, contract
    return load_checkpoint(path)
