"""How well a confidence foretells the true OKS: correlation, sparsification, reliability."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probpose_eval.metrics.binary_scores import defined, reliability_curve
from probpose_eval.metrics.model_scores import ConfidenceScores
from probpose_eval.metrics.presence_reliability import expected_calibration_error


def confidence_scores(
    confidence: NDArray[np.float64], oks: NDArray[np.float64], *, curve: bool = True
) -> ConfidenceScores:
    """Scores of (M,) confidences against the (M,) true OKS; curve: with the reliability curve."""
    if not len(oks):
        return ConfidenceScores(
            count=0,
            mean_said=None,
            mean_true=None,
            pearson=None,
            ause=None,
            ause_constant=None,
            ece=None,
            squared_error=None,
            curve=(),
        )
    return ConfidenceScores(
        count=len(oks),
        mean_said=float(confidence.mean()),
        mean_true=float(oks.mean()),
        pearson=defined(pearson(confidence, oks)),
        ause=ause(confidence, 1 - oks),
        ause_constant=ause(np.zeros(len(oks)), 1 - oks),
        ece=expected_calibration_error(confidence, oks),
        squared_error=float(((confidence - oks) ** 2).mean()),
        curve=reliability_curve(confidence, oks) if curve else (),
    )


def pearson(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Correlation of two (M,) arrays; NaN where one of them does not vary."""
    # The variance of values near the smallest float is 0 although they differ.
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0 or one.var() == 0 or other.var() == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Correlation of the ranks of two (M,) arrays (Spearman 1904), equal values sharing their mean rank; NaN where one
    of them does not vary."""
    return pearson(_ranks(one), _ranks(other))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def ause(confidence: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    """Area under the sparsification error curve (Ilg et al. 2018) of (M,) confidences and errors; not normalised.

    Mean over m = 1 … M of the mean error of the m most confident cases, less that of the m smallest errors. Cases of
    equal confidence count with the mean of their errors, which is what a random order among them gives on average.
    """
    _, group = np.unique(confidence, return_inverse=True)
    mean_error = np.bincount(group, weights=errors) / np.bincount(group)
    kept = np.arange(1, len(errors) + 1)
    said = np.cumsum(mean_error[np.sort(group)[::-1]]) / kept
    best = np.cumsum(np.sort(errors)) / kept
    return float(max(0.0, (said - best).mean()))
