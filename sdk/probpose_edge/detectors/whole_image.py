"""Where the main person of a picture is, when nobody says so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST_PRESENT = 3
"""Fewer present keypoints do not tell where a person is."""
MARGINS = (0.08, 0.14, 0.08, 0.10)
"""How far a person reaches beyond its outermost keypoints at the left, top, right and bottom, in lengths of the longer
side of the box around the keypoints: medians over the 254 persons of a COCO training part with 8 labels or more."""


def person_box(
    keypoints: NDArray[np.floating], present: NDArray[np.bool_], image_wh: tuple[int, int]
) -> NDArray[np.float64] | None:
    """The box of a person from a first look: around the present keypoints, enlarged by `MARGINS`, cut to the picture.

    keypoints: (K, 2) image pixels; present: (K,) bool. Returns (4,) float64 xyxy px, or None if fewer than
    `FEWEST_PRESENT` keypoints are present, or if they do not span a box on the picture.
    """
    if np.count_nonzero(present) < FEWEST_PRESENT:
        return None
    points = keypoints[present]
    low, high = points.min(axis=0), points.max(axis=0)
    # Plain numbers: numpy takes longer on four of them.
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    side = max(right - left, bottom - top)
    left, top = max(left - MARGINS[0] * side, 0.0), max(top - MARGINS[1] * side, 0.0)
    right, bottom = min(right + MARGINS[2] * side, image_wh[0]), min(bottom + MARGINS[3] * side, image_wh[1])
    return np.array([left, top, right, bottom]) if right > left and bottom > top else None
