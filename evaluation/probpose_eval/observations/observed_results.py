"""Observations as results that can be matched and scored, at any presence threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probpose_edge.poses import instance_scores
from probpose_eval.observations.observe import Observations
from probpose_eval.results import ResultArrays


def results_at(observations: Observations, threshold: float) -> ResultArrays:
    """The results an estimator with this presence threshold gives: instance scores depend on it, nothing else does."""
    return results_scored(observations, scores_at(observations, threshold))


def results_scored(observations: Observations, scores: NDArray[np.float64]) -> ResultArrays:
    """One result per person with other instance scores (P,)."""
    sides = observations.boxes_xyxy[:, 2:] - observations.boxes_xyxy[:, :2]
    return ResultArrays(
        image_ids=observations.image_ids,
        scores=scores,
        keypoints=np.concatenate([observations.keypoints, observations.presence[..., None]], axis=2),
        areas=sides.prod(axis=1),
    )


def scores_at(observations: Observations, threshold: float) -> NDArray[np.float64]:
    """(P,) instance scores, see `probpose_edge.poses.instance_scores`, unless they hold at any threshold."""
    if observations.scores_hold:
        return observations.scores
    return instance_scores(observations.quality, observations.presence >= threshold).astype(np.float64)
