"""MobileNetV2-1.0 (Sandler et al., CVPR 2018) as a feature pyramid, parameter names as in torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from probpose_edge.exceptions import CheckpointError
from probpose_models.layers import SamePadConv2d, conv_bn_relu6

# (expansion, output channels, repeats, first stride): table 2 of the MobileNetV2 paper.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; with a shortcut where the shape allows one."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [conv_bn_relu6(in_channels, hidden, 1)]
        layers += [
            conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            SamePadConv2d(hidden, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.use_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_shortcut else self.conv(x)


class Pyramid(NamedTuple):
    """Feature maps by stride; for a 256×192 input: 64×48, 32×24, 16×12 and 8×6 cells."""

    stride4: Tensor  # 24 channels
    stride8: Tensor  # 32 channels
    stride16: Tensor  # 96 channels
    stride32: Tensor  # 1280 channels


class MobileNetV2(nn.Module):
    """(N, 3, H, W) normalised RGB → `Pyramid`; H and W are multiples of 32."""

    channels = (24, 32, 96, 1280)

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [conv_bn_relu6(3, 32, 3, 2)]
        channels = 32
        for expansion, out_channels, repeats, first_stride in _STAGES:
            for index in range(repeats):
                features.append(InvertedResidual(channels, out_channels, first_stride if index == 0 else 1, expansion))
                channels = out_channels
        features.append(conv_bn_relu6(channels, 1280, 1))
        self.features = nn.ModuleList(features)

    def forward(self, x: Tensor) -> Pyramid:
        taps: dict[int, Tensor] = {}
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in (3, 6, 13, 18):
                taps[index] = x
        return Pyramid(taps[3], taps[6], taps[13], taps[18])


def load_imagenet_weights(backbone: MobileNetV2, path: Path) -> None:
    """Fill the backbone from an ``.npz`` with torchvision's parameter names (``features.0.0.weight`` …).

    Raises
    ------
    CheckpointError: the file is not such an archive, or lacks or misshapes a parameter; nothing is loaded then.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            given = {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"Backbone weights must be an .npz archive of arrays; reading {path} failed: {error}. "
            "Pass the MobileNetV2 archive, or train without --backbone-weights."
        ) from error
    state = backbone.state_dict()
    wrong = [
        f"{name} {tuple(value.shape)}"
        for name, value in state.items()
        if name not in given or tuple(given[name].shape) != tuple(value.shape)
    ]
    if wrong:
        raise CheckpointError(
            f"{path} must hold every MobileNetV2 parameter in its shape; missing or misshapen: {', '.join(wrong[:5])}"
            f"{' …' if len(wrong) > 5 else ''}. Pass an archive with torchvision's parameter names."
        )
    backbone.load_state_dict({name: torch.from_numpy(np.asarray(given[name])) for name in state})
