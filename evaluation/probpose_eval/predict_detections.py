"""Predict a set from the boxes of a detector, through the SDK."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from probpose_edge import poses_to_coco
from probpose_eval.annotations.coco import AnnotationSet
from probpose_eval.detections import Detections
from probpose_eval.pictures import read_picture
from probpose_eval.predict import EstimatesCrops, Progress, check_keypoints


def predict_detections(
    estimator: EstimatesCrops,
    annotations: AnnotationSet,
    images_dir: str | os.PathLike[str],
    detections: Detections,
    *,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """COCO results of one estimator, one per detected box, in the order of the detections.

    The ``score`` of a result is the product of the detector's score of the box and the pose's own, the mean predicted
    quality of its present keypoints; both stand beside it as ``box_score`` and ``pose_score``. Boxes are taken as they
    are: doubles of one person are not suppressed here. progress: called with (boxes done, boxes in all).

    Raises `AnnotationError` or `ImageReadError` for pictures that are missing or do not fit, and `AnnotationError` for
    a model with other keypoints.
    """
    check_keypoints([estimator], annotations)
    results: list[dict[str, Any]] = []
    of_images = np.split(np.arange(len(detections)), np.flatnonzero(np.diff(detections.image_ids)) + 1)
    for rows in of_images:
        image_id = int(detections.image_ids[rows[0]])
        picture = read_picture(images_dir, annotations.images[image_id])
        poses = poses_to_coco(estimator(picture, detections.boxes_xyxy[rows]), image_id, annotations.category_id)
        for result, box_score in zip(poses, detections.scores[rows].tolist(), strict=True):
            own = result["score"]
            results.append({**result, "score": box_score * own, "box_score": box_score, "pose_score": own})
        if progress is not None:
            progress(len(results), len(detections))
    return results
