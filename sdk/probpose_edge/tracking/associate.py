"""Who is who: similarity of poses and boxes, and their assignment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FEWEST_COMMON = 3
"""With fewer keypoints present in both, two poses are not compared."""


def pose_oks(
    keypoints_a: NDArray[np.floating],
    present_a: NDArray[np.bool_],
    keypoints_b: NDArray[np.floating],
    present_b: NDArray[np.bool_],
    areas: NDArray[np.floating],
    sigmas: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Object keypoint similarity (Lin et al. 2014) of every pose of A with every one of B, over the keypoints present
    in both: the mean of ``exp(-d² / (2 · area · (2σ)²))``.

    keypoints_a: (N, K, 2) px, keypoints_b: (M, K, 2) px; present: (N, K) and (M, K) bool; areas: (N, M) px² of the two
    persons; sigmas: (K,). Returns (N, M) float64 in [0, 1]; 0 where fewer than `FEWEST_COMMON` are present in both.
    """
    distance = np.square(keypoints_a[:, None] - keypoints_b[None]).sum(axis=-1)
    common = present_a[:, None] & present_b[None]
    scale = 2 * np.maximum(areas, 1e-9)[..., None] * np.square(2 * sigmas)
    count = common.sum(axis=-1)
    total = np.where(common, np.exp(-distance / scale), 0).sum(axis=-1)
    return np.where(count >= FEWEST_COMMON, total / np.maximum(count, 1), 0.0)


def box_iou(boxes_a: NDArray[np.floating], boxes_b: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes, xyxy px."""
    low = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    high = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(axis=-1)
    union = box_areas(boxes_a)[:, None] + box_areas(boxes_b)[None] - inside
    return np.asarray(inside / np.maximum(union, 1e-9))


def box_nearness(
    boxes_a: NDArray[np.floating], sides_a: NDArray[np.floating], boxes_b: NDArray[np.floating], reach: float
) -> NDArray[np.float64]:
    """(N, M) in [0, 1], how near boxes of B are to where the persons of A were, xyxy px: a Gaussian of the distance of
    the middles, with a standard deviation of `reach` lengths of the person.

    sides_a: (N,) px, how long the persons were when they were seen best: at the border of the picture a box is only
    part of a person. 0 for a box more than twice as long.
    """
    middle_a, middle_b = (boxes[:, :2] / 2 + boxes[:, 2:] / 2 for boxes in (boxes_a, boxes_b))
    side_b = (boxes_b[:, 2:] - boxes_b[:, :2]).max(axis=1, initial=0)
    distance = np.linalg.norm(middle_a[:, None] - middle_b[None], axis=-1)
    near = np.exp(-np.square(distance / (reach * np.maximum(sides_a, 1e-9)[:, None])) / 2)
    return np.where(side_b[None] <= 2 * sides_a[:, None], near, 0.0)


def box_areas(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) areas of (N, 4) boxes, xyxy px."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), dtype=np.float64)


def match_greedily(
    similarity: NDArray[np.floating], least: float, accept: Callable[[int], bool] | None = None
) -> list[tuple[int, int]]:
    """Pairs (row, column), the most similar first, each row and column once, none below `least`.

    Greedy as in Xiao et al. 2018 ("Simple Baselines for Human Pose Estimation and Tracking"): with persons who are
    seldom alike, the optimal assignment differs from it only where both guess.

    similarity: (N, M). accept: asked with the column before a pair is made; a refused column stays unmatched.
    """
    pairs: list[tuple[int, int]] = []
    rows, columns = np.nonzero(similarity >= least)
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    for index in np.argsort(-similarity[rows, columns], kind="stable"):
        row, column = int(rows[index]), int(columns[index])
        if row in taken_rows or column in taken_columns:
            continue
        taken_columns.add(column)
        if accept is None or accept(column):
            taken_rows.add(row)
            pairs.append((row, column))
    return pairs
