"""probpose-s: the published structure of ProbPose-s (ViT-S/16, two deconvolutions, three scalar heads)."""

from __future__ import annotations

from torch import Tensor, nn

from probpose_models.outputs import PoseOutputs
from probpose_models.vit import VisionTransformer


class DeconvHead(nn.Module):
    """(N, C, 16, 12) → (N, K, 64, 48): two 4×4 stride-2 deconvolutions and a 1×1 convolution."""

    def __init__(self, in_channels: int, keypoints: int, hidden: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (in_channels, hidden):
            layers += [
                nn.ConvTranspose2d(channels, hidden, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU(inplace=True),
            ]
        self.deconvolutions = nn.Sequential(*layers)
        self.final = nn.Conv2d(hidden, keypoints, 1)
        nn.init.normal_(self.final.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.deconvolutions(x))


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
    """(N, 3, 256, 192) normalised RGB → `PoseOutputs` with maps of 64×48 cells."""

    name = "probpose-s"
    input_wh = (192, 256)
    heatmap_wh = (48, 64)
    temperature = 0.5

    def __init__(self, keypoints: int = 17) -> None:
        super().__init__()
        self.keypoints = keypoints
        self.backbone = VisionTransformer()
        self.map_head = DeconvHead(384, keypoints)
        self.presence_head = PooledScalarHead(384, keypoints)
        self.visibility_head = PooledScalarHead(384, keypoints)
        self.quality_head = PooledScalarHead(384, keypoints)

    def forward(self, x: Tensor) -> PoseOutputs:
        features = self.backbone(x)
        # The scalar heads read the features without steering them, as in the published model.
        scalars = features.detach()
        return PoseOutputs(
            self.map_head(features),
            self.presence_head(scalars),
            self.visibility_head(scalars),
            self.quality_head(scalars),
        )
