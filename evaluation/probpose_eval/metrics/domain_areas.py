"""Where each labelled keypoint lies: the areas A to E of the ProbPose paper (appendix A, figure 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probpose_eval.annotations.coco import AnnotationSet, Person
from probpose_eval.annotations.windows import inside_windows, person_windows

AREAS = ("A", "B", "C", "D", "E")
NO_AREA = ""


def areas_of_keypoints(
    annotations: AnnotationSet,
    persons: Sequence[Person],
    *,
    input_wh: tuple[int, int] = (192, 256),
    padding: float = 1.25,
) -> NDArray[np.str_]:
    """(P, K) of ``"A"`` … ``"E"``, and ``""`` where a keypoint of the P persons is not labelled.

    A in the box; B in window and picture, outside the box; C in the window, outside the picture; D outside the window,
    in the picture; E outside both. Keypoints with v = 3 have no place any more and count as E. A to C are the keypoints
    that are present. input_wh, padding: of the activation window.
    """
    k = len(annotations.keypoint_names)
    areas = np.full((len(persons), k), NO_AREA, dtype="<U1")
    if not persons:
        return areas
    boxes = np.stack([p.bbox_xyxy for p in persons])
    keypoints = np.stack([p.keypoints for p in persons])
    points, v = keypoints[..., :2], keypoints[..., 2]
    in_box = points_between(points, boxes[:, None, :2], boxes[:, None, 2:])
    in_window = inside_windows(points, person_windows(boxes, input_wh=input_wh, padding=padding))
    in_picture = inside_pictures(annotations, persons)
    placed = (v == 1) | (v == 2)
    areas[placed & ~in_window & in_picture] = "D"
    areas[(placed & ~in_window & ~in_picture) | (v == 3)] = "E"
    areas[placed & in_window & ~in_picture] = "C"
    areas[placed & in_window & in_picture] = "B"
    areas[placed & in_box] = "A"
    return areas


def inside_pictures(annotations: AnnotationSet, persons: Sequence[Person]) -> NDArray[np.bool_]:
    """(P, K) bool: which keypoints have a place in their picture, its border included."""
    if not persons:
        return np.zeros((0, len(annotations.keypoint_names)), dtype=np.bool_)
    keypoints = np.stack([p.keypoints for p in persons])
    sizes = np.array([(annotations.images[p.image_id].width, annotations.images[p.image_id].height) for p in persons])
    return points_between(keypoints[..., :2], np.zeros(2), sizes[:, None])


def points_between(
    points: NDArray[np.float64], low: NDArray[np.floating | np.integer], high: NDArray[np.floating | np.integer]
) -> NDArray[np.bool_]:
    """(…) bool: which of the (…, 2) points lie in the rectangle from `low` to `high`, its border included."""
    return np.asarray(((points >= low) & (points <= high)).all(axis=-1))
