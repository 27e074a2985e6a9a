"""What every network of the family returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class PoseOutputs(NamedTuple):
    """Raw network outputs for N crops, K keypoints and maps of H rows and W columns.

    Attributes
    ----------
    logits: (N, K, H, W) map logits, before temperature and sparsemax.
    presence, visibility, quality: (N, K) logits of the three probabilities.
    """

    logits: Tensor
    presence: Tensor
    visibility: Tensor
    quality: Tensor
