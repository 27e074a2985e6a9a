"""PCK, the share of keypoints that are correct within a part of a length of their person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probpose_eval.annotations.coco import AnnotationSet, Person
from probpose_eval.metrics.model_scores import PckRule

BOX_THRESHOLDS = (0.05, 0.1, 0.2)
HEAD_THRESHOLDS = (0.1, 0.2, 0.5)
_HEADS = (("head_top", "upper_neck"), ("head", "neck"))
"""Top of the head and neck in MPII and in CrowdPose. MPII's own PCKh takes 0.6 of the diagonal of a head rectangle,
which keypoint files do not hold."""


def pck_lengths(annotations: AnnotationSet, persons: Sequence[Person]) -> tuple[PckRule, NDArray[np.float64]]:
    """How PCK is normalised on this set, and the (P,) lengths of its persons in px, NaN where one is missing."""
    names = annotations.keypoint_names
    keypoints = np.array([p.keypoints for p in persons], dtype=np.float64).reshape(len(persons), len(names), 3)
    boxes = np.array([p.bbox_xyxy for p in persons], dtype=np.float64).reshape(len(persons), 4)
    lengths = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    by, thresholds = "box", BOX_THRESHOLDS
    for top, neck in _HEADS:
        if top in names and neck in names:
            ends = keypoints[:, [names.index(top), names.index(neck)]]
            both = np.isin(ends[..., 2], (1, 2)).all(axis=1)
            lengths = np.where(both, np.linalg.norm(ends[:, 0, :2] - ends[:, 1, :2], axis=1), 0)
            by, thresholds = "head", HEAD_THRESHOLDS
            break
    lengths = np.where(lengths > 0, lengths, np.nan)
    rule = PckRule(normalised_by=by, persons=int(np.isfinite(lengths).sum()), thresholds=thresholds)
    return rule, lengths


def pck(distances: NDArray[np.float64], thresholds: Sequence[float]) -> dict[str, float | None]:
    """Threshold as text → share of the distances (M,), in lengths, that are at most this; NaN are left out."""
    known = distances[np.isfinite(distances)]
    return {f"{t:g}": float((known <= t).mean()) if known.size else None for t in thresholds}
