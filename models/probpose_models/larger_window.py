"""The second map of a network with two maps: over a window larger than the input (ProbPose, section 3.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probpose_edge.exceptions import InputError
from probpose_models.layers import conv_bn_relu, upsample2x

WINDOW_RATIO = 1.25
"""Size of the larger window over the input window, where nothing else is asked for."""


def resampling_matrix(size: int, ratio: float) -> Tensor:
    """(size, size) linear interpolation from cells of a window to cells of one `ratio` times as large, one axis.

    Both windows have the same center; a cell stands for its middle, and beyond the input window there is zero.
    """
    middle = size / 2
    source = (torch.arange(size, dtype=torch.float64) + 0.5 - middle) * ratio + middle - 0.5
    return (1 - (source[:, None] - torch.arange(size)).abs()).clamp_min(0).float()


class LargerWindowHead(nn.Module):
    """(N, C, H, W) features of the input window → (N, K, 4 H, 4 W) map logits over the larger window.

    Every feature is first moved to where it belongs in the larger window; two convolutions then carry what is known
    into the margin, about which the picture says nothing.
    """

    resampling: Tensor

    def __init__(
        self, in_channels: int, keypoints: int, feature_wh: tuple[int, int], window_ratio: float, hidden: int = 64
    ) -> None:
        super().__init__()
        if not (math.isfinite(window_ratio) and window_ratio > 1):
            raise InputError(
                f"The window_ratio of a network with two maps must be above 1, got {window_ratio}. "
                f"Usual is {WINDOW_RATIO}; a network with one map needs none."
            )
        width, height = feature_wh
        # Both axes in one constant matrix: a linear layer is what every exporter and quantizer knows.
        matrix = torch.kron(resampling_matrix(height, window_ratio), resampling_matrix(width, window_ratio))
        self.register_buffer("resampling", matrix, persistent=False)
        self.window_ratio = window_ratio
        self.spread = nn.Sequential(conv_bn_relu(in_channels, hidden, 3), conv_bn_relu(hidden, hidden, 3))
        self.sharpen = conv_bn_relu(hidden, hidden, 3)
        self.final = nn.Conv2d(hidden, keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        moved = F.linear(x.flatten(2), self.resampling).reshape(x.shape)
        return self.final(upsample2x(self.sharpen(upsample2x(self.spread(moved)))))
