"""A light head beside a frozen network that foretells how accurate each keypoint is.

After Gu et al. 2024, "On the calibration of human pose estimation" (CCNet), section 5: from the penultimate features,
the OKS of every keypoint and whether the keypoint counts in the OKS of the person. Of the features a keypoint gets what
lies under its own map, so that the head is a few small matrix products whatever the size of the maps, and every format
has its operators.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from probpose_edge.contract.metadata import ModelContract

if TYPE_CHECKING:
    from probpose_models.probpose_m import ProbPoseM
    from probpose_models.probpose_s import ProbPoseS

HIDDEN = 32
HEATMAP_SHARPNESS = 20.0
"""Heatmaps go from 0 to 1, so their softmax would be flat without it."""
_SMALLEST_SPREAD = 1e-4


class ConfidenceLayers(nn.Module):
    """Parts of (N, K, F_i) numbers of each of K keypoints → (N, K, 2) logits of its OKS and of counting.

    One hidden layer that all keypoints share, but for an offset; to its second half every keypoint gets the mean of all
    keypoints of the person.
    """

    def __init__(self, widths: Sequence[int], keypoints: int, hidden: int) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.inputs = nn.ModuleList(nn.Linear(width, hidden, bias=False) for width in widths)
        self.keypoint = nn.Parameter(0.1 * torch.randn(keypoints, hidden))
        self.own = nn.Linear(hidden, hidden)
        self.person = nn.Linear(hidden, hidden, bias=False)
        self.out = nn.Linear(hidden, 2)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        sums = self.keypoint
        for layer, part in zip(self.inputs, parts, strict=True):
            sums = sums + layer(part)
        hidden = sums.relu()
        person = hidden.mean(1, keepdim=True)
        return self.out((self.own(hidden) + self.person(person)).relu())


class ConfidenceHead(nn.Module):
    """(N, C, H, W) penultimate features, (N, K, H, W) logits of the map made of them and the scalar logits, each (N, K)
    → (N, K, 2) logits of `PoseOutputs.confidence`.

    Parameters
    ----------
    channels: C. keypoints: K. grid_hw: H and W. scalars: how many scalar logits there are.
    sharpness: what the map logits are multiplied with before the softmax that weighs the cells.
    """

    places: Tensor
    squares: Tensor

    def __init__(
        self,
        channels: int,
        keypoints: int,
        grid_hw: tuple[int, int],
        *,
        scalars: int,
        sharpness: float,
        hidden: int = HIDDEN,
    ) -> None:
        super().__init__()
        self.sharpness = sharpness
        height, width = grid_hw
        rows, columns = torch.linspace(-1, 1, height), torch.linspace(-width / height, width / height, width)
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("squares", places.square().sum(1, keepdim=True), persistent=False)
        self.layers = ConfidenceLayers((channels, 2, 1, 1, *[1] * scalars), keypoints, hidden)

    def parts(self, features: Tensor, logits: Tensor, scalars: Sequence[Tensor]) -> list[Tensor]:
        """What the layers read: the mean feature under the map, its middle, the logarithms of its variance and of its
        peak, and the scalar logits; (N, K, F_i) each."""
        shares = (self.sharpness * logits.flatten(2)).softmax(-1)
        under = shares @ features.flatten(2).transpose(1, 2)
        middle = shares @ self.places
        variance = shares @ self.squares - (middle * middle).sum(-1, keepdim=True)
        spread = (variance.relu() + _SMALLEST_SPREAD).log()
        peak = shares.amax(-1, keepdim=True).log()
        return [under, middle, spread, peak, *(scalar.unsqueeze(-1) for scalar in scalars)]

    def forward(self, features: Tensor, logits: Tensor, scalars: Sequence[Tensor]) -> Tensor:
        return self.layers(self.parts(features, logits, scalars))


def add_confidence_head(model: ProbPoseM | ProbPoseS) -> ConfidenceHead:
    """Give a network a head with fresh weights, in place of one it may have."""
    final = model.map_head.final
    probability = model.presence_head is not None
    head = ConfidenceHead(
        final.in_channels,
        model.keypoints,
        (model.heatmap_wh[1], model.heatmap_wh[0]),
        scalars=3 if probability else 0,
        sharpness=1 / model.temperature if probability else HEATMAP_SHARPNESS,
    )
    model.confidence_head = head.to(final.weight.device)
    return head


def without_confidence_head(
    model: ProbPoseM | ProbPoseS, contract: ModelContract
) -> tuple[ProbPoseM | ProbPoseS, ModelContract]:
    """A copy of the network without its head, for what changes the features that the head was fitted on, or the network
    itself if it has none; the contract's scores go with the head."""
    if getattr(model, "confidence_head", None) is None:
        return model, contract
    model = copy.deepcopy(model)
    model.confidence_head = None
    scores = {} if contract.scores.get("kind") == "ccnet" else contract.scores
    return model, contract.replace(confidence_head=False, scores=scores)
