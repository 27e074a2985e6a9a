"""Where the main person of a picture is, when nobody says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.boxes import check_boxes
from probpose_edge.images import to_bgr
from probpose_edge.poses import Poses

Estimate = Callable[[NDArray[np.uint8], NDArray[np.float64]], Poses]
"""(H, W, 3) uint8 BGR image and (N, 4) xyxy boxes, px → N poses."""

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


def estimate_in_image(
    image_bgr: NDArray[Any], boxes_xyxy: ArrayLike | None, estimate: Estimate, *, first_look: Estimate
) -> Poses:
    """Poses in boxes, or, without boxes, of the one main person in two passes: `first_look` on the whole image, then
    `estimate` on the `person_box` it gives; without one the first look stays. Raises as `to_bgr` and `check_boxes`."""
    image = to_bgr(image_bgr)
    image_wh = (image.shape[1], image.shape[0])
    if boxes_xyxy is not None:
        return estimate(image, check_boxes(boxes_xyxy, image_wh))
    first = first_look(image, np.array([[0.0, 0.0, *image_wh]]))
    box = person_box(first.keypoints[0], first.present[0], image_wh)
    return first if box is None else estimate(image, box[None])
