"""Give poses the scores that the metadata of their file says."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.poses import Poses
from probpose_edge.scores.score_features import FEATURES, score_features
from probpose_edge.scores.score_head import read_score_head, weighted_scores

_PROMISED = FEATURES.index("promised_oks")


class PoseScorer:
    """Scores of one model: the closed form, which weighs the promised OKS with the visibility, or its learned head.

    A plain heatmap model knows no visibility; its peak stands in, as everywhere. Raises `MetadataError` for a field
    `scores` that cannot be used.
    """

    def __init__(self, contract: ModelContract) -> None:
        self._contract = contract
        self._head = read_score_head(contract.scores, len(contract.keypoint_names))

    def score(self, poses: Poses, logits: NDArray[np.floating]) -> Poses:
        """The poses with other scores; logits: (N, K, H, W), as the network gave them for these poses."""
        features = features_of(poses, logits, self._contract)
        if self._head is None:
            scores = weighted_scores(features[..., _PROMISED], poses.visibility)
        else:
            scores = weighted_scores(*self._head(features))
        return dataclasses.replace(poses, scores=scores)


def features_of(poses: Poses, logits: NDArray[np.floating], contract: ModelContract) -> NDArray[np.float64]:
    """`score_features` of poses of a model and the (N, K, H, W) logits they were read from."""
    return score_features(
        logits,
        contract,
        keypoints_px=poses.keypoints,
        presence=poses.presence,
        visibility=poses.visibility,
        quality=poses.quality,
        expected_oks=poses.expected_oks,
        boxes_xyxy=poses.boxes,
        windows=poses.windows,
    )
