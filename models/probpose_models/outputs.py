"""What every network of the family returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class PoseOutputs(NamedTuple):
    """Raw network outputs for N crops, K keypoints and maps of H rows and W columns.

    Attributes
    ----------
    logits: (N, K, H, W) map logits, before temperature and sparsemax; of a network with two maps over the larger
        window. A plain heatmap network gives its heatmaps.
    presence, visibility, quality: (N, K) logits of the three probabilities; None from a plain heatmap network.
    expert_logits: (N, K, H, W) map logits over the input window from a network with two maps, else None.
    confidence: (N, K, 2) logits of what a `ConfidenceHead` says, else None.
    """

    logits: Tensor
    presence: Tensor | None = None
    visibility: Tensor | None = None
    quality: Tensor | None = None
    expert_logits: Tensor | None = None
    confidence: Tensor | None = None
