"""How far presence probabilities can be trusted: reliability, Brier score, AUROC, and the best thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class PresenceSamples:
    """M keypoints whose presence is known.

    Attributes
    ----------
    probability: (M,) float64, what the network says, before calibration. present: (M,) bool, the truth.
    keypoint: (M,) which of the K keypoints. pictures: (M,) which picture each is from.
    """

    probability: NDArray[np.float64]
    present: NDArray[np.bool_]
    keypoint: NDArray[np.intp]
    pictures: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.present)

    def select(self, chosen: NDArray[np.bool_]) -> PresenceSamples:
        """Some of the samples, by an (M,) mask."""
        return PresenceSamples(
            probability=self.probability[chosen],
            present=self.present[chosen],
            keypoint=self.keypoint[chosen],
            pictures=self.pictures[chosen],
        )


@dataclass(frozen=True, kw_only=True)
class PresenceQuality:
    """What presence probabilities are worth; NaN where a class is missing.

    Attributes
    ----------
    ece: expected calibration error, mean of |said - true share| over the samples, in `BINS` bins of equal width.
    brier: mean squared error of the probability. auroc: chance that a present keypoint gets more than an absent one.
    threshold: the one at which the shares below hold.
    accuracy: share of right answers. balanced_accuracy: mean of the two shares below.
    present_found, absent_found: share of the present, and of the absent keypoints, that the answer is right about.
    """

    ece: float
    brier: float
    auroc: float
    threshold: float
    accuracy: float
    balanced_accuracy: float
    present_found: float
    absent_found: float


def presence_quality(
    probability: NDArray[np.floating], present: NDArray[np.bool_], said_present: NDArray[np.bool_], threshold: float
) -> PresenceQuality:
    """Figures of (M,) probabilities and of the (M,) answers drawn from them at `threshold`."""
    p = np.asarray(probability, dtype=np.float64)
    right = said_present == present
    present_found, absent_found = _mean(right[present]), _mean(right[~present])
    return PresenceQuality(
        ece=expected_calibration_error(p, present),
        brier=_mean((p - present) ** 2),
        auroc=auroc(p, present),
        threshold=threshold,
        accuracy=_mean(right),
        balanced_accuracy=(present_found + absent_found) / 2,
        present_found=present_found,
        absent_found=absent_found,
    )


def expected_calibration_error(
    probability: NDArray[np.floating], present: NDArray[np.bool_] | NDArray[np.float64]
) -> float:
    """Mean of |said - true share| over the samples, in `BINS` bins (Guo et al. 2017); 0 without samples."""
    said, true, count = reliability(probability, present)
    some = count > 0
    return float((np.abs(said - true)[some] * count[some]).sum() / max(count.sum(), 1))


def reliability(
    probability: NDArray[np.floating], present: NDArray[np.bool_] | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Per bin of `BINS`: mean probability, share that is present (NaN in empty bins), and number of samples.

    present: (M,) answers, or shares in [0, 1] in their place.
    """
    p = np.asarray(probability, dtype=np.float64)
    index = reliability_bins(p)
    count = np.bincount(index, minlength=BINS)
    with np.errstate(invalid="ignore"):
        said = np.bincount(index, weights=p, minlength=BINS) / count
        true = np.bincount(index, weights=present.astype(np.float64), minlength=BINS) / count
    return said, true, count


def reliability_bins(probability: NDArray[np.floating]) -> NDArray[np.intp]:
    """Which of the `BINS` bins of equal width each probability falls into."""
    return np.clip((probability * BINS).astype(np.intp), 0, BINS - 1)


def auroc(probability: NDArray[np.floating], present: NDArray[np.bool_]) -> float:
    """Area under the ROC curve, ties counted half (Mann and Whitney 1947); NaN without both classes."""
    ones = int(present.sum())
    zeros = len(present) - ones
    if not (ones and zeros):
        return float("nan")
    _, inverse, count = np.unique(probability, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    return float((rank[inverse][present].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def best_thresholds(probability: NDArray[np.floating], present: NDArray[np.bool_]) -> dict[str, float]:
    """``"balanced"`` and ``"accuracy"``: thresholds with the largest balanced accuracy and the largest accuracy.

    A keypoint is said to be present if its probability is at least the threshold. Thresholds lie half-way between
    neighbouring probabilities; of equally good ones the middle one is taken. Needs both classes.
    """
    order = np.argsort(probability, kind="stable")
    p, truth = np.asarray(probability, dtype=np.float64)[order], present[order]
    # Cut number i says "absent" about the first i samples; only cuts between different probabilities can be made.
    possible = np.concatenate([[True], p[1:] > p[:-1], [True]])
    cuts = np.concatenate([[0.0], (p[1:] + p[:-1]) / 2, [1.0]])[possible]
    absent_found = np.concatenate([[0], np.cumsum(~truth)])[possible]
    present_found = truth.sum() - np.concatenate([[0], np.cumsum(truth)])[possible]
    ones, zeros = max(truth.sum(), 1), max((~truth).sum(), 1)
    goals = {"balanced": present_found / ones + absent_found / zeros, "accuracy": present_found + absent_found}
    chosen = {}
    for name, values in goals.items():
        best = np.flatnonzero(values >= values.max() - 1e-12)
        chosen[name] = float(cuts[best[(len(best) - 1) // 2]])
    return chosen


def _mean(values: NDArray[np.floating | np.bool_]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
