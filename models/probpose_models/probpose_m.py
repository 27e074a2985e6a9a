"""probpose-m: ProbPose (CVPR 2025) with an edge backbone.

The heads use convolutions, ReLU, bilinear upsampling, addition and max pooling only: the operators that ONNX Runtime,
LiteRT and CoreML all run natively, in int8 as well.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probpose_edge.exceptions import InputError
from probpose_models.confidence_head import ConfidenceHead, add_confidence_head
from probpose_models.larger_window import LargerWindowHead
from probpose_models.layers import conv_bn_relu, upsample2x
from probpose_models.mobilenet_v2 import MobileNetV2
from probpose_models.outputs import PoseOutputs

INPUT_WH = (192, 256)
SMALL_INPUT_WH = (96, 128)
TEMPERATURE = 0.5


class MapHead(nn.Module):
    """Top-down pyramid: 8×6 → 16×12 → 32×24 → 64×48 cells, one lateral 1×1 convolution per level."""

    def __init__(self, channels: tuple[int, int, int, int], keypoints: int) -> None:
        super().__init__()
        c4, c8, c16, c32 = channels
        self.lateral32 = conv_bn_relu(c32, 160, 1)
        self.lateral16 = nn.Sequential(nn.Conv2d(c16, 160, 1, bias=False), nn.BatchNorm2d(160))
        self.lateral8 = nn.Sequential(nn.Conv2d(c8, 128, 1, bias=False), nn.BatchNorm2d(128))
        self.lateral4 = nn.Sequential(nn.Conv2d(c4, 64, 1, bias=False), nn.BatchNorm2d(64))
        self.fuse16 = conv_bn_relu(160, 160, 3)
        self.down16 = conv_bn_relu(160, 128, 3)
        self.fuse8 = conv_bn_relu(128, 128, 3)
        self.down8 = conv_bn_relu(128, 64, 1)
        self.fuse4 = conv_bn_relu(64, 64, 3)
        self.final = nn.Conv2d(64, keypoints, 1)

    def forward(
        self, stride4: Tensor, stride8: Tensor, stride16: Tensor, stride32: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits, the features at stride 16 that the scalar heads read, and those the logits are made of."""
        x16 = self.fuse16(F.relu(upsample2x(self.lateral32(stride32)) + self.lateral16(stride16)))
        x8 = self.fuse8(F.relu(upsample2x(self.down16(x16)) + self.lateral8(stride8)))
        x4 = self.fuse4(F.relu(upsample2x(self.down8(x8)) + self.lateral4(stride4)))
        return self.final(x4), x16, x4


class ScalarHead(nn.Module):
    """(N, C, 16, 12) features, or (N, C, 8, 6) if `small` → (N, K) logits of one probability per keypoint."""

    def __init__(self, in_channels: int, keypoints: int, *, hidden: int = 64, small: bool = False) -> None:
        super().__init__()
        # ReLU before the pools: max pooling and ReLU commute, and quantizers fuse convolution + ReLU.
        self.layers = nn.Sequential(
            conv_bn_relu(in_channels, hidden, 3),
            nn.Identity() if small else nn.MaxPool2d(2),
            conv_bn_relu(hidden, hidden, 3),
            nn.MaxPool2d(2),
            conv_bn_relu(hidden, hidden, 3),
            nn.Conv2d(hidden, keypoints, (4, 3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(1)


class ProbPoseM(nn.Module):
    """(N, 3, 256, 192) normalised RGB → `PoseOutputs` with maps of 64×48 cells.

    With a `window_ratio` above 1 (probpose-m-dh) a second map over the larger window gives `PoseOutputs.logits`, and
    the one over the input window gives `PoseOutputs.expert_logits`. With `input_wh` (96, 128) crops and maps have half
    the side, and the weights the same shapes. Without `scalar_heads` this is a plain heatmap network. A
    `confidence_head` is fitted afterwards, on the finished network.

    Raises `InputError` for another size, or two maps without scalar heads.
    """

    def __init__(
        self,
        keypoints: int = 17,
        *,
        window_ratio: float = 1.0,
        input_wh: tuple[int, int] = INPUT_WH,
        scalar_heads: bool = True,
        confidence_head: bool = False,
    ) -> None:
        super().__init__()
        self.input_wh = (input_wh[0], input_wh[1])
        if self.input_wh not in (INPUT_WH, SMALL_INPUT_WH):
            raise InputError(
                f"probpose-m sees crops of {INPUT_WH} or {SMALL_INPUT_WH} pixels, got {self.input_wh}. Choose one."
            )
        if window_ratio != 1 and not scalar_heads:
            raise InputError(
                "A plain heatmap network has one map, so its window_ratio must be 1. Keep the scalar heads."
            )
        self.heatmap_wh = (input_wh[0] // 4, input_wh[1] // 4)
        self.temperature = TEMPERATURE if scalar_heads else 1.0
        self.keypoints = keypoints
        self.window_ratio = window_ratio
        self.backbone = MobileNetV2()
        self.map_head = MapHead(self.backbone.channels, keypoints)
        self.presence_head: ScalarHead | None = None
        self.visibility_head: ScalarHead | None = None
        self.quality_head: ScalarHead | None = None
        if scalar_heads:
            small = self.input_wh == SMALL_INPUT_WH
            self.presence_head = ScalarHead(160, keypoints, small=small)
            self.visibility_head = ScalarHead(160, keypoints, small=small)
            self.quality_head = ScalarHead(160, keypoints, small=small)
        for head in (self.map_head, self.presence_head, self.visibility_head, self.quality_head):
            if head is not None:
                head.apply(_initialise)
        # Small first logits keep the sparsemax support wide, so that every cell gets a gradient at the start.
        nn.init.normal_(self.map_head.final.weight, std=0.01)
        # Made last, so that a seed gives the other parts the weights it gives them without.
        self.larger_map_head: LargerWindowHead | None = None
        if window_ratio != 1:
            feature_wh = (self.input_wh[0] // 16, self.input_wh[1] // 16)
            self.larger_map_head = LargerWindowHead(160, keypoints, feature_wh, window_ratio)
            self.larger_map_head.apply(_initialise)
            nn.init.normal_(self.larger_map_head.final.weight, std=0.01)
        self.confidence_head: ConfidenceHead | None = None
        if confidence_head:
            add_confidence_head(self)

    @property
    def name(self) -> str:
        """Name in checkpoints and files."""
        return "probpose-m" if self.larger_map_head is None else "probpose-m-dh"

    @property
    def sizes(self) -> dict[str, Any]:
        """What a checkpoint records to build the same network again."""
        sizes: dict[str, Any] = {"input_wh": self.input_wh, "scalar_heads": self.presence_head is not None}
        return sizes if self.confidence_head is None else {**sizes, "confidence_head": True}

    def forward(self, x: Tensor) -> PoseOutputs:
        logits, features, penultimate = self.map_head(*self.backbone(x))
        head = self.confidence_head
        if self.presence_head is None or self.visibility_head is None or self.quality_head is None:
            return PoseOutputs(logits, confidence=None if head is None else head(penultimate, logits, ()))
        larger = None if self.larger_map_head is None else self.larger_map_head(features)
        # Quality chases the maps' own accuracy, a moving target that must not steer them: detached, as in the paper.
        # Presence and visibility may shape the features of this small network.
        scalars = self.presence_head(features), self.visibility_head(features), self.quality_head(features.detach())
        return PoseOutputs(
            logits if larger is None else larger,
            *scalars,
            None if larger is None else logits,
            None if head is None else head(penultimate, logits, scalars),
        )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def count_parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def count_multiply_adds(model: nn.Module, input_wh: tuple[int, int]) -> int:
    """Multiply-adds of convolutions and linear layers for one crop, counted by running it."""
    total = 0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = module.weight
        if isinstance(module, nn.Linear):
            total += output.numel() * weight.shape[1]
        elif isinstance(module, nn.ConvTranspose2d):
            total += _inputs[0].numel() * weight[0].numel()
        else:
            total += output.numel() * weight[0].numel()

    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    was_training = model.training
    try:
        model.eval()(torch.zeros(1, 3, input_wh[1], input_wh[0]))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return total
