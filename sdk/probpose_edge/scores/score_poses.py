"""Give poses the scores that the metadata of their file says."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import MetadataError
from probpose_edge.poses import Poses
from probpose_edge.runtimes.base import RawOutputs
from probpose_edge.scores.score_features import FEATURES, score_features
from probpose_edge.scores.score_head import read_score_head, weighted_scores

_PROMISED = FEATURES.index("promised_oks")


class PoseScorer:
    """Scores of one model: the closed form, which weighs the promised OKS with the visibility, its learned head, or
    what the head in its network says.

    A plain heatmap model knows no visibility; its peak stands in, as everywhere. Raises `MetadataError` for a field
    `scores` that cannot be used, or that asks for the head of a network without one.
    """

    def __init__(self, contract: ModelContract) -> None:
        self._contract = contract
        self._head = read_score_head(contract.scores, len(contract.keypoint_names))
        self._in_network = contract.scores["kind"] == "ccnet"
        if self._in_network and not contract.confidence_head:
            raise MetadataError(
                "Scores of the kind 'ccnet' come from a confidence head in the network, and this file has none. Fit "
                "one with `probpose-edge calibrate CHECKPOINT --scores ccnet` and convert the checkpoint again."
            )

    def score(self, poses: Poses, raw: RawOutputs) -> Poses:
        """The poses with other scores; raw: what the network gave for these poses."""
        if self._in_network and raw.confidence is not None:
            oks, counting = np.moveaxis(raw.confidence, 2, 0)
            return dataclasses.replace(poses, scores=weighted_scores(oks, counting))
        features = features_of(poses, raw.logits, self._contract)
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
