"""The router of DynPose (CVPR 2025): a very small network that says which persons are worth a larger model.

``image → channel average, then max pooling → one plane of half the size → four stages F_i → flatten → two fully
connected layers → sigmoid``. A stage is a convolution C (with batch normalisation and ReLU) followed by spatial
group-wise enhancement (SGE) in stages 1 and 3 and by partial convolution (PConv) in stages 2 and 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from probpose_edge.exceptions import InputError

ROUTER_NAME = "probpose-router"
CHANNELS = (8, 16, 32, 32)
"""Of the four stages. The source names none; these keep the router within 2 % of probpose-m INT8."""
HIDDEN = 32
LAST_WH = (3, 4)
"""Cells after the fourth stage."""
GROUPS = 4
"""Of SGE. PConv touches a quarter of the channels, as in its source."""
PIXEL_SCALE = 1 / 64
"""Factor of pixel values before the first convolution. Nothing is subtracted: padding is black, as beyond a picture."""


class SpatialGroupEnhance(nn.Module):
    """SGE (Li et al. 2019, arXiv 1905.09646, section 3): (N, C, H, W) of the same shape.

    In each group of channels the similarity of every place with the group's mean over the picture, ``c = g · x``, is
    normalised over the picture, scaled and shifted by two learned numbers, and gates that place through a sigmoid.
    """

    def __init__(self, channels: int, groups: int = GROUPS) -> None:
        super().__init__()
        self.groups = groups
        self.scale = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.shift = nn.Parameter(torch.ones(1, groups, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        grouped = x.reshape(-1, self.groups, c // self.groups, h * w)
        mean = x.mean((2, 3)).reshape(-1, self.groups, 1, c // self.groups)
        similarity = F.layer_norm(torch.matmul(mean, grouped), (h * w,))
        gate = torch.sigmoid(similarity * self.scale + self.shift)
        return (grouped * gate).reshape(-1, c, h, w)


class PartialConv(nn.Module):
    """PConv (FasterNet, Chen et al. 2023, arXiv 2303.03667, section 3.2): a 3×3 convolution of the first quarter of the
    channels; the others pass untouched."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sizes = [channels // 4, channels - channels // 4]
        self.convolution = nn.Conv2d(self.sizes[0], self.sizes[0], 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        changed, kept = torch.split(x, self.sizes, dim=1)
        return torch.cat([self.convolution(changed), kept], dim=1)

    def dense(self) -> nn.Conv2d:
        """The convolution of all channels that gives the same."""
        part, channels = self.sizes[0], sum(self.sizes)
        whole = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        with torch.no_grad():
            nn.init.dirac_(whole.weight)
            whole.weight[:part] = 0
            whole.weight[:part, :part] = self.convolution.weight
        return whole


class ProbPoseRouter(nn.Module):
    """(N, 1, H / 2, W / 2) float32 plane, mean of the channels from 0 to 255 → (N, 1) score before the sigmoid.

    input_wh: of the crop, width first, that of a member of the pair: sides that are 16 or 32 times `LAST_WH` or more.

    Raises `InputError` for another size.
    """

    def __init__(
        self, input_wh: tuple[int, int], *, channels: tuple[int, int, int, int] = CHANNELS, hidden: int = HIDDEN
    ) -> None:
        super().__init__()
        self.input_wh, self.channels, self.hidden = (input_wh[0], input_wh[1]), tuple(channels), hidden
        # Stages 2 to 4 and the pooling halve the size; the first stage does the rest.
        strides = [side // (16 * cells) for side, cells in zip(self.input_wh, LAST_WH, strict=True)]
        if any(side != 16 * cells * strides[0] for side, cells in zip(self.input_wh, LAST_WH, strict=True)) or (
            strides[0] < 1
        ):
            raise InputError(
                f"A router sees crops of {16 * LAST_WH[0]} × {16 * LAST_WH[1]} pixels or a whole multiple, got "
                f"{self.input_wh[0]} × {self.input_wh[1]}. Take the crop size of a member of the pair."
            )
        one, two, three, four = channels
        self.stem = _convolution(1, one, 5, strides[0])
        self.stages = nn.Sequential(
            SpatialGroupEnhance(one),
            _convolution(one, two, 3, 2),
            PartialConv(two),
            _convolution(two, three, 3, 2),
            SpatialGroupEnhance(three),
            _convolution(three, four, 3, 2),
            PartialConv(four),
        )
        self.first = nn.Linear(channels[3] * LAST_WH[0] * LAST_WH[1], hidden)
        self.second = nn.Linear(hidden, 1)

    @property
    def sizes(self) -> dict[str, Any]:
        """What a checkpoint records to build the same network again."""
        return {"input_wh": self.input_wh, "channels": self.channels, "hidden": self.hidden}

    def forward(self, plane: Tensor) -> Tensor:
        return self.score(plane * PIXEL_SCALE)

    def score(self, x: Tensor) -> Tensor:
        """The same from a plane in the units of the first convolution."""
        # Not flatten(1): this shape is constant in a file, and nothing computes it.
        rows = self.stages(self.stem(x)).reshape(-1, self.first.in_features)
        score: Tensor = self.second(F.relu(self.first(rows)))
        return score


def image_plane(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8 crops → (N, H / 2, W / 2) uint8: mean of the channels, then the largest of 2×2 pixels.

    Rounded to a whole number, which a file does not.
    """
    n, height, width, _ = crops.shape
    summed = crops.sum(axis=3, dtype=np.uint16)
    pooled = summed.reshape(n, height // 2, 2, width // 2, 2).max(axis=(2, 4))
    return np.asarray((pooled + 1) // 3, dtype=np.uint8)


@torch.no_grad()
def crop_scores(model: ProbPoseRouter, crops: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float64]:
    """(N,) float64 scores in (0, 1) of (N, H, W, 3) uint8 RGB crops, N at least 1; the router is left in eval mode."""
    model.eval()
    parts = []
    for at in range(0, len(crops), batch):
        mean = torch.from_numpy(crops[at : at + batch]).to(torch.float32).mean(3)
        parts.append(torch.sigmoid(model(F.max_pool2d(mean.unsqueeze(1), 2)))[:, 0])
    scores: NDArray[np.float64] = torch.cat(parts).double().numpy()
    return scores


def _convolution(before: int, after: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
