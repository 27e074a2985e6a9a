"""How far the outputs of a quantized network are from those in full precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import InputError
from probpose_edge.probmap import sparsemax_maps
from probpose_edge.runtimes.base import RawOutputs


@dataclass(frozen=True, kw_only=True)
class OutputDrift:
    """Means over crops and keypoints.

    Attributes
    ----------
    map_overlap: ``sum(min(p, q))`` of two maps after sparsemax; 1 if they are equal, 0 if they do not touch. Of two
        maps of a network the worse one.
    probability: absolute difference of a probability, over presence, visibility and quality.
    """

    map_overlap: float
    probability: float

    @property
    def size(self) -> float:
        """One number to order by: the share of the maps that moved, and the shift of the probabilities."""
        return 1 - self.map_overlap + self.probability


def output_drift(reference: RawOutputs, outputs: RawOutputs, contract: ModelContract) -> OutputDrift:
    """Both of the same crops. Raises `InputError` for plain heatmaps, which have no probabilities."""
    expected, got = reference.named(), outputs.named()
    if contract.map_kind != "probability":
        raise InputError(
            f"Drift is measured on probability maps, and {contract.model} gives plain heatmaps. "
            "Quantize a model of the probpose family."
        )
    overlaps = [
        np.minimum(*(sparsemax_maps(side[name], contract.temperature) for side in (expected, got))).sum((2, 3)).mean()
        for name in ("logits", "expert_logits")
        if name in expected
    ]
    shifts = [np.abs(got[name] - expected[name]).mean() for name in ("presence", "visibility", "quality")]
    return OutputDrift(map_overlap=float(min(overlaps)), probability=float(np.mean(shifts)))
