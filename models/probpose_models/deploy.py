"""The network as it is deployed: uint8 pixels in, probabilities out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probpose_edge.runtimes.base import OUTPUT_NAMES
from probpose_models.outputs import PoseOutputs

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
"""ImageNet statistics of RGB values in [0, 1], the normalisation of the backbone weights."""
__all__ = ["IMAGE_MEAN", "IMAGE_STD", "OUTPUT_NAMES", "Deployable", "deployed_outputs"]


def deployed_outputs(out: PoseOutputs) -> dict[str, Tensor]:
    """What a file gives of a network's outputs, in the order of `OUTPUT_NAMES`: map logits as they come, the three
    scalars as probabilities; what the network does not have is left out.
    """
    return {
        name: value if name.endswith("logits") else value.sigmoid()
        for name in OUTPUT_NAMES
        if (value := getattr(out, name)) is not None
    }


class Deployable(nn.Module):
    """Wrap a network so that a file needs no preprocessing beyond the crop.

    Input (N, H, W, 3) uint8 RGB; output the tuple of `deployed_outputs`: logits (N, K, h, w); unless the network gives
    plain heatmaps, three (N, K) tensors of probabilities in [0, 1]; and a second map if it has two.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        mean, std = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("offset", (-mean / std).view(1, 3, 1, 1))

    def normalise(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB → (N, 3, H, W) float32 as the network was trained on."""
        return image.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.offset

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(deployed_outputs(self.model(self.normalise(image))).values())
