"""probpose-s: the published structure of ProbPose-s (ViT-S/16, two deconvolutions, three scalar heads), in any size."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from probpose_edge.exceptions import InputError
from probpose_models.confidence_head import ConfidenceHead, add_confidence_head
from probpose_models.larger_window import LargerWindowHead
from probpose_models.outputs import PoseOutputs
from probpose_models.vit import VisionTransformer


class DeconvHead(nn.Module):
    """(N, C, 16, 12) → (N, K, 64, 48): two 4×4 stride-2 deconvolutions and a 1×1 convolution."""

    def __init__(self, in_channels: int, keypoints: int, hidden: tuple[int, int] = (256, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, width in zip((in_channels, hidden[0]), hidden, strict=True):
            layers += [
                nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        self.deconvolutions = nn.Sequential(*layers)
        self.final = nn.Conv2d(hidden[1], keypoints, 1)
        nn.init.normal_(self.final.weight, std=0.01)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map logits and the features they are made of."""
        features = self.deconvolutions(x)
        return self.final(features), features


class PooledScalarHead(nn.Module):
    """(N, C, 16, 12) → (N, K): three 3×3 convolutions, pooled by (4, 3), (2, 2) and (2, 2), then 1×1."""

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for window in ((4, 3), (2, 2), (2, 2)):
            # The published order is pool, then ReLU. Both commute, and convolution + ReLU fuses when quantized.
            layers += [
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(window),
            ]
        self.layers = nn.Sequential(*layers)
        self.final = nn.Conv2d(channels, keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.layers(x)).flatten(1)


class ProbPoseS(nn.Module):
    """(N, 3, 256, 192) normalised RGB → `PoseOutputs` with maps of 64×48 cells; by default the published ProbPose-s.

    Parameters
    ----------
    keypoints: K. channels, depth, heads: width, blocks and attention heads of the transformer.
    deconvolutions: channels of the two deconvolutions.
    scalar_heads: without them this is a plain ViTPose (name ``"vitpose"``), which gives heatmaps and nothing else.
    window_ratio: above 1 (probpose-s-dh) a second map over the larger window gives `PoseOutputs.logits`, and the one
        over the input window gives `PoseOutputs.expert_logits`.
    drop_path: stochastic depth in training, see `VisionTransformer`.
    confidence_head: with a `ConfidenceHead`, which is fitted afterwards, on the finished network.

    Raises `InputError` for sizes that do not fit together.
    """

    input_wh = (192, 256)
    heatmap_wh = (48, 64)

    def __init__(
        self,
        keypoints: int = 17,
        *,
        channels: int = 384,
        depth: int = 12,
        heads: int = 12,
        deconvolutions: tuple[int, int] = (256, 256),
        scalar_heads: bool = True,
        window_ratio: float = 1.0,
        drop_path: float = 0.1,
        confidence_head: bool = False,
    ) -> None:
        super().__init__()
        if window_ratio != 1 and not scalar_heads:
            raise InputError("A plain ViTPose has one map, so its window_ratio must be 1. Keep the scalar heads.")
        self.keypoints = keypoints
        self.window_ratio = window_ratio
        self.temperature = 0.5 if scalar_heads else 1.0
        self._sizes = {
            "channels": channels,
            "depth": depth,
            "heads": heads,
            "deconvolutions": tuple(deconvolutions),
        }
        self.backbone = VisionTransformer(channels, depth, heads, drop_path=drop_path)
        self.map_head = DeconvHead(channels, keypoints, deconvolutions)
        self.presence_head: PooledScalarHead | None = None
        self.visibility_head: PooledScalarHead | None = None
        self.quality_head: PooledScalarHead | None = None
        if scalar_heads:
            self.presence_head = PooledScalarHead(channels, keypoints)
            self.visibility_head = PooledScalarHead(channels, keypoints)
            self.quality_head = PooledScalarHead(channels, keypoints)
        # Made last, so that a seed gives the other parts the weights it gives them without.
        self.larger_map_head: LargerWindowHead | None = None
        if window_ratio != 1:
            feature_wh = (self.input_wh[0] // 16, self.input_wh[1] // 16)
            self.larger_map_head = LargerWindowHead(channels, keypoints, feature_wh, window_ratio)
            nn.init.normal_(self.larger_map_head.final.weight, std=0.01)
        self.confidence_head: ConfidenceHead | None = None
        if confidence_head:
            add_confidence_head(self)

    @property
    def sizes(self) -> dict[str, Any]:
        """What a checkpoint records to build the same network again."""
        return self._sizes if self.confidence_head is None else {**self._sizes, "confidence_head": True}

    @property
    def name(self) -> str:
        """Name in checkpoints and files."""
        if self.presence_head is None:
            return "vitpose"
        return "probpose-s" if self.larger_map_head is None else "probpose-s-dh"

    def forward(self, x: Tensor) -> PoseOutputs:
        features = self.backbone(x)
        logits, penultimate = self.map_head(features)
        head = self.confidence_head
        if self.presence_head is None or self.visibility_head is None or self.quality_head is None:
            return PoseOutputs(logits, confidence=None if head is None else head(penultimate, logits, ()))
        larger = None if self.larger_map_head is None else self.larger_map_head(features)
        # The scalar heads read the features without steering them, as in the published model.
        fixed = features.detach()
        scalars = self.presence_head(fixed), self.visibility_head(fixed), self.quality_head(fixed)
        return PoseOutputs(
            logits if larger is None else larger,
            *scalars,
            None if larger is None else logits,
            None if head is None else head(penultimate, logits, scalars),
        )
