"""A router as files compute it: pixels in, score out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from probpose_models.deploy import Deployable
from probpose_models.router import PIXEL_SCALE, PartialConv, ProbPoseRouter
from probpose_quant.fold_batch_norms import fold_batch_norms


class DeployableRouter(Deployable):
    """(N, H, W, 3) uint8 RGB → ((N, 1) float32 score in (0, 1),).

    Batch normalisations and the factor of the pixels are folded into the convolutions, and each PConv is written as the
    one dense convolution that it equals: at these sizes an operator costs more than its arithmetic, and a convolution
    is what every format runs in int8. The given router is not changed.
    """

    def __init__(self, model: ProbPoseRouter) -> None:
        folded = fold_batch_norms(model)
        super().__init__(folded)
        for index, layer in enumerate(folded.stages):
            if isinstance(layer, PartialConv):
                folded.stages[index] = layer.dense()
        # The plane is a sum of three channels here.
        folded.stem[0].weight.data *= PIXEL_SCALE / 3
        self.requires_grad_(False)

    def normalise(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 → (N, 1, H / 2, W / 2) float32: sum of the channels, then the largest of 2×2 pixels."""
        return F.max_pool2d(image.to(torch.float32).sum(3).unsqueeze(1), 2, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (torch.sigmoid(self.model.score(self.normalise(image))),)


class HalfRouter(DeployableRouter):
    """The same with weights and layers in float16; pixels are summed and the score computed in float32."""

    def __init__(self, model: ProbPoseRouter) -> None:
        super().__init__(model)
        self.model.half()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (torch.sigmoid(self.model.score(self.normalise(image).half()).float()),)
