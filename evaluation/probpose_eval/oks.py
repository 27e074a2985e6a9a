"""Object keypoint similarity (OKS) and its extension to absent keypoints (Ex-OKS), over pairs of truth and result.

OKS is COCO's: ``exp(-d² / (2 · (2σ)² · area))`` per keypoint, averaged over the labelled ones. Ex-OKS (ProbPose,
section 4.1, eq. 5 and 6) replaces d where the truth or the result says "not in the activation window":

====================  ======================  ========================
d²                    result: present         result: absent
====================  ======================  ========================
truth: present        to the result           truth to the window edge
truth: absent         result to window edge   0
====================  ======================  ========================
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_eval.windows import inside_windows, person_windows, window_corners

DEFINITIONS = ("paper", "exococotools")
PLACED_LEVELS = (1, 2)
"""Visibility levels whose keypoints have a place: labelled and occluded, labelled and visible."""
EXTENDED_LEVELS = (1, 2, 3)
_SMALLEST_AREA = float(np.spacing(1))
"""Added to the area as in COCO's evaluation, so that an area of 0 divides nothing by zero."""


def oks(
    truth_keypoints: NDArray[np.float64],
    truth_boxes_xyxy: NDArray[np.float64],
    areas: NDArray[np.float64],
    keypoints: NDArray[np.float64],
    sigmas: Sequence[float],
    *,
    levels: Sequence[int] = PLACED_LEVELS,
) -> NDArray[np.float64]:
    """OKS of P pairs, as COCO's evaluation computes it.

    Parameters
    ----------
    truth_keypoints: (P, K, 3) x, y in image px and visibility level.
    truth_boxes_xyxy: (P, 4) px; only used for persons without a labelled keypoint, whose OKS is that of the distance
        to the box enlarged by its own size on every side (COCO's rule for what may be ignored).
    areas: (P,) px². keypoints: (P, K, 2 or 3) px, the results. sigmas: K.
    levels: visibility levels that count as labelled.

    Returns (P,) float64 in [0, 1].
    """
    counted = np.isin(truth_keypoints[..., 2], levels)
    distance2 = ((keypoints[..., :2] - truth_keypoints[..., :2]) ** 2).sum(axis=-1)
    sides = truth_boxes_xyxy[:, 2:] - truth_boxes_xyxy[:, :2]
    region = np.concatenate([truth_boxes_xyxy[:, :2] - sides, truth_boxes_xyxy[:, 2:] + sides], axis=1)
    return _mean_similarity(distance2, counted, region, areas, keypoints, sigmas)


def extended_oks(
    truth_keypoints: NDArray[np.float64],
    truth_boxes_xyxy: NDArray[np.float64],
    areas: NDArray[np.float64],
    keypoints: NDArray[np.float64],
    sigmas: Sequence[float],
    *,
    definition: str = "paper",
    presence_threshold: float = 0.5,
    padding: float = 1.25,
    input_wh: tuple[int, int] = (192, 256),
    levels: Sequence[int] = EXTENDED_LEVELS,
) -> NDArray[np.float64]:
    """Ex-OKS of P pairs; arguments as `oks`, but ``keypoints[..., 2]`` is the presence probability of the result.

    A result keypoint is present if its presence is at least `presence_threshold`. The window is that of the true box:
    aspect of `input_wh`, then `padding`.

    definition: ``"paper"``: a labelled keypoint outside the window is absent, as is every v = 3; the distance to the
        window is the Euclidean distance to its border. ``"exococotools"`` reproduces exococotools 1.0.0: only v = 3 is
        absent; the distance joins the nearest vertical and the nearest horizontal border, ``min(dx)² + min(dy)²``;
        and persons without a counted keypoint are compared with the window instead of the enlarged box.

    Returns (P,) float64 in [0, 1]. Raises `InputError` for an unknown definition.
    """
    check_definition(definition)
    truth, v = truth_keypoints[..., :2], truth_keypoints[..., 2]
    points = keypoints[..., :2]
    windows = person_windows(truth_boxes_xyxy, input_wh=input_wh, padding=padding)
    corners = window_corners(windows)
    truth_present = np.isin(v, PLACED_LEVELS)
    if definition == "paper":
        truth_present &= inside_windows(truth, windows)
        edge2 = _border_distance2
        sides = truth_boxes_xyxy[:, 2:] - truth_boxes_xyxy[:, :2]
        region = np.concatenate([truth_boxes_xyxy[:, :2] - sides, truth_boxes_xyxy[:, 2:] + sides], axis=1)
    else:
        edge2 = _nearest_edges_distance2
        region = corners
    result_present = keypoints[..., 2] >= presence_threshold
    distance2 = np.zeros(v.shape)
    for case, value in (
        (truth_present & result_present, ((points - truth) ** 2).sum(axis=-1)),
        (~truth_present & result_present, edge2(points, corners)),
        (truth_present & ~result_present, edge2(truth, corners)),
    ):
        distance2 = np.where(case, value, distance2)
    return _mean_similarity(distance2, np.isin(v, levels), region, areas, keypoints, sigmas)


def check_definition(definition: str) -> None:
    """Raise `InputError` unless `definition` is one of `DEFINITIONS`."""
    if definition not in DEFINITIONS:
        raise InputError(
            f"The definition of Ex-OKS must be one of {', '.join(DEFINITIONS)}, got {definition!r}. "
            'Use "paper", or "exococotools" to compare with published numbers.'
        )


def _mean_similarity(
    distance2: NDArray[np.float64],
    counted: NDArray[np.bool_],
    region: NDArray[np.float64],
    areas: NDArray[np.float64],
    keypoints: NDArray[np.float64],
    sigmas: Sequence[float],
) -> NDArray[np.float64]:
    """(P,) mean over the counted keypoints, or, where none is, over all with their distance to `region` (P, 4)."""
    count = counted.sum(axis=-1)
    bare = count == 0
    if bare.any():
        below, above = region[bare, None, :2] - keypoints[bare, :, :2], keypoints[bare, :, :2] - region[bare, None, 2:]
        outside = np.maximum(below, 0) + np.maximum(above, 0)
        distance2[bare] = (outside**2).sum(axis=-1)
        counted, count = counted | bare[:, None], np.where(bare, counted.shape[-1], count)
    variances = (2 * np.asarray(sigmas, dtype=np.float64)) ** 2
    similarity = np.exp(-(distance2 / variances / (areas + _SMALLEST_AREA)[:, None] / 2))
    mean: NDArray[np.float64] = np.where(counted, similarity, 0).sum(axis=-1) / count
    return mean


def _border_distance2(points: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, K) squared Euclidean distance of (P, K, 2) points to the border of their (P, 4) rectangle."""
    to_low, to_high = points - corners[:, None, :2], corners[:, None, 2:] - points
    overshoot = np.maximum(0, np.maximum(-to_low, -to_high))
    inward = np.minimum(to_low, to_high).min(axis=-1)
    distance2: NDArray[np.float64] = np.where(inward > 0, inward**2, (overshoot**2).sum(axis=-1))
    return distance2


def _nearest_edges_distance2(points: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, K) ``min(dx)² + min(dy)²`` to the nearest vertical and the nearest horizontal border line."""
    to_low, to_high = np.abs(points - corners[:, None, :2]), np.abs(corners[:, None, 2:] - points)
    distance2: NDArray[np.float64] = (np.minimum(to_low, to_high) ** 2).sum(axis=-1)
    return distance2
