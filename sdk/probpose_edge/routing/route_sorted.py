"""Choose, by the scores of a whole set, which persons go to the large model.

DynPose (CVPR 2025): with the n scores in rising order S, ``k1 = S_min + theta * (S_max - S_min)``, j the place of the
score nearest to k1, and ``k2 = S[j + ceil(n * p)]``; scores from k1 up to k2 go to the large model. A score is the
share of the small model's error that the large one is expected to remove, ``(D_s - D_l) / D_s``. At the low end it
removes nothing, because both are right, or because both are lost; the gain grows to the top. So with ``theta = 1``
those with the highest scores go to the large model. A smaller theta leaves out the very highest ones, too: persons on
whom the small model errs by so little that the quotient says much and the distance nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.exceptions import InputError


def route_sorted(scores: ArrayLike, *, share: float, theta: float = 1.0) -> NDArray[np.bool_]:
    """(N,) bool: who goes to the large model; exactly ``ceil(N * share)`` persons, also among equal scores.

    scores: (N,) finite numbers. share, theta: in [0, 1]. Where fewer than the share lie above k1, k1 is lowered.

    Raises `InputError` for other arguments.
    """
    values = check_scores(scores)
    check_fraction("share", share)
    check_fraction("theta", theta)
    large = np.zeros(len(values), dtype=np.bool_)
    if len(values) == 0:
        return large
    count = math.ceil(round(len(values) * share, 9))
    order = np.argsort(values, kind="stable")
    start = min(first_place(values[order], theta), len(values) - count)
    large[order[start : start + count]] = True
    return large


def first_place(ordered: NDArray[np.float64], theta: float) -> int:
    """Place of the score nearest to k1 among N > 0 rising scores; the highest of equally near ones."""
    wanted = ordered[0] + theta * (ordered[-1] - ordered[0])
    place = int(np.argmin(np.abs(ordered - wanted)))
    return int(np.searchsorted(ordered, ordered[place], side="right")) - 1


def check_scores(scores: ArrayLike) -> NDArray[np.float64]:
    """Scores as (N,) float64; raises `InputError` for another shape, NaN and infinity."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        what = "NaN or infinite values" if values.ndim == 1 else f"shape {values.shape}"
        raise InputError(f"Scores must be finite numbers of shape (N,), got {what}. Give the router's, one per person.")
    return values


def check_fraction(name: str, value: Any) -> float:
    """`value` as a float in [0, 1]; raises `InputError`, naming it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value <= 1:
        raise InputError(f"{name} must be a number in [0, 1], got {value!r}. 0.5 is a half.")
    return float(value)
