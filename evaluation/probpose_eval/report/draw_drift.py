"""Draw a person twice, side by side: as the reference sees it, and as a file does."""

from __future__ import annotations

import os

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge import ModelContract, Poses, draw_poses
from probpose_edge.exceptions import InputError
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_edge.window import window_to_crop_matrix
from probpose_eval.annotations.coco import AnnotationSet
from probpose_eval.observations.drift import PictureDrift
from probpose_eval.observations.observe import Observations
from probpose_eval.pictures import read_picture

_BEYOND_BGR = (70, 70, 70)
_GAP_BGR = (255, 255, 255)
_GAP_PX = 6
_MOVE_BGR = (255, 0, 255)
_SMALLEST_MOVE = 0.02
"""Moves of at least this share of the drawing's height are marked; shorter ones vanish under the discs."""
_SHIFT = 4
"""Fractional bits of OpenCV's drawing coordinates."""


def draw_drift(
    annotations: AnnotationSet,
    images_dir: str | os.PathLike[str],
    picture: PictureDrift,
    reference: Observations,
    file: Observations,
    skeleton: Skeleton | ModelContract,
    *,
    height_px: int = 320,
) -> NDArray[np.uint8]:
    """The person of one of `Drift.worst_pictures` in the reference's activation window, cut out of its picture.

    Left the reference, right the file, both at the reference's presence threshold and as `draw_poses` draws; what lies
    beyond the picture is grey. On the right a thin magenta line leads from where the reference has a keypoint to where
    the file has it, for keypoints that both say are present, if it is not too short to be seen.

    Returns (height_px, W, 3) uint8 BGR. Raises `InputError` for a person who was not observed and for a height below
    32, and as `read_picture` for the picture.
    """
    if height_px < 32:
        raise InputError(f"The height of a drawing must be at least 32 px, got {height_px}. Use for example 320.")
    rows = np.flatnonzero(reference.annotation_ids == picture.annotation_id)
    if len(rows) != 1 or len(file) != len(reference):
        raise InputError(
            f"A drawing needs a person that was observed, but annotation {picture.annotation_id} was not. Pass the "
            "observations that the drift was measured on."
        )
    row = int(rows[0])
    image = read_picture(images_dir, annotations.images[picture.image_id])
    window = reference.windows[row]
    size_wh = (round(height_px * window[2] / window[3]), height_px)
    to_tile = window_to_crop_matrix(window[None], size_wh)[0]
    ground = cv2.warpAffine(
        image, to_tile, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=_BEYOND_BGR
    )
    before, after = (_poses(each, row, to_tile, reference.presence_threshold) for each in (reference, file))
    left, right = (draw_poses(ground, poses, skeleton) for poses in (before, after))
    _mark_moves(right, before, after, height_px)
    gap = np.full((height_px, _GAP_PX, 3), _GAP_BGR, dtype=np.uint8)
    return np.hstack([left, gap, right])


def _poses(observations: Observations, row: int, to_tile: NDArray[np.float64], threshold: float) -> Poses:
    """One person in the pixels of the drawing."""
    one = slice(row, row + 1)
    scale, offset = to_tile[[0, 1], [0, 1]], to_tile[:, 2]
    center, size, boxes = observations.windows[one, :2], observations.windows[one, 2:], observations.boxes_xyxy[one]
    return Poses(
        keypoints=observations.keypoints[one] * scale + offset,
        presence=observations.presence[one].astype(np.float32),
        visibility=observations.visibility[one].astype(np.float32),
        quality=observations.quality[one].astype(np.float32),
        expected_oks=observations.expected_oks[one].astype(np.float32),
        boxes=boxes * np.tile(scale, 2) + np.tile(offset, 2),
        windows=np.concatenate([center * scale + offset, size * scale], axis=1),
        scores=observations.scores[one].astype(np.float32),
        presence_threshold=threshold,
    )


def _mark_moves(canvas: NDArray[np.uint8], before: Poses, after: Poses, height_px: int) -> None:
    start, end = before.keypoints[0], after.keypoints[0]
    far = np.linalg.norm(end - start, axis=1) >= _SMALLEST_MOVE * height_px
    for k in np.flatnonzero(before.present[0] & after.present[0] & far):
        a, b = (tuple(np.round(point[k] * (1 << _SHIFT)).astype(int).tolist()) for point in (start, end))
        cv2.line(canvas, a, b, _MOVE_BGR, 1, cv2.LINE_AA, _SHIFT)
