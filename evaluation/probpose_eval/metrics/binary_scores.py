"""What the probabilities of a yes-or-no question are worth, and the reliability curve of any confidence."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from probpose_eval.metrics.model_scores import BinaryScores, ReliabilityBin
from probpose_eval.metrics.presence_reliability import presence_quality, reliability


def binary_scores(
    probability: NDArray[np.float64], positive: NDArray[np.bool_], threshold: float, *, curve: bool = True
) -> BinaryScores:
    """Scores of (M,) probabilities against the (M,) true answers; curve: with the reliability curve."""
    quality = presence_quality(probability, positive, probability >= threshold, threshold)
    return BinaryScores(
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        threshold=float(threshold),
        accuracy=defined(quality.accuracy),
        balanced_accuracy=defined(quality.balanced_accuracy),
        auroc=defined(quality.auroc),
        ece=defined(quality.ece) if len(positive) else None,
        brier=defined(quality.brier),
        curve=reliability_curve(probability, positive) if curve else (),
    )


def reliability_curve(
    said: NDArray[np.float64], true: NDArray[np.bool_] | NDArray[np.float64]
) -> tuple[ReliabilityBin, ...]:
    """The bins that are not empty, see `reliability`."""
    return tuple(
        ReliabilityBin(said=float(s), true=float(t), count=int(n))
        for s, t, n in zip(*reliability(said, true), strict=True)
        if n
    )


def defined(value: float) -> float | None:
    """The number, or None for NaN."""
    return None if math.isnan(value) else float(value)
