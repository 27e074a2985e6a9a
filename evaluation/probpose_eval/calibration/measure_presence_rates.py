"""How often presence is wrong, at every threshold of a fixed grid."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = 1 / (1 + np.exp(-np.arange(-6, 12.01, 0.25)))
"""(73,) from 0.0025 to 0.999994, a quarter apart in the logit: fine where presence is sure of itself."""


def measure_presence_rates(probability: NDArray[np.floating], present: NDArray[np.bool_]) -> str:
    """JSON rows [threshold, false-positive rate, miss rate] of (M,) calibrated probabilities and the (M,) truth.

    A keypoint is said to be present if its probability is at least the threshold. Thresholds rise. Needs both classes.
    """
    thresholds = np.round(THRESHOLDS, 7)
    absent_sorted, present_sorted = (np.sort(probability[chosen]) for chosen in (~present, present))
    made_up = 1 - np.searchsorted(absent_sorted, thresholds, side="left") / len(absent_sorted)
    missed = np.searchsorted(present_sorted, thresholds, side="left") / len(present_sorted)
    rows = np.stack([made_up, missed], axis=1).round(5).tolist()
    return json.dumps([[threshold, *row] for threshold, row in zip(thresholds.tolist(), rows, strict=True)])
