"""The network as ONNX Runtime runs it best."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probpose_convert.onnx_deconvolution import replace_deconvolutions
from probpose_models.deploy import Deployable, deployed_outputs
from probpose_models.outputs import PoseOutputs
from probpose_quant.fold_batch_norms import fold_batch_norms


class OnnxNetwork(Deployable):
    """`Deployable` with batch normalisations folded and pixels normalised row by row, in the order they come in.

    With one factor per channel, ONNX Runtime moves the transposition of a quantized network behind the normalisation
    and then repeats three values over all pixels: 1.1 ms of 6.7 ms. One factor per value of a row takes 0.05 ms.
    """

    row_scale: Tensor
    row_offset: Tensor

    def __init__(self, model: nn.Module, input_wh: tuple[int, int]) -> None:
        super().__init__(fold_batch_norms(model))
        self.register_buffer("row_scale", self.scale.flatten().repeat(input_wh[0]).view(1, 1, -1))
        self.register_buffer("row_offset", self.offset.flatten().repeat(input_wh[0]).view(1, 1, -1))

    def normalise(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB → (N, 3, H, W) float32; the same products and sums as in `Deployable`."""
        rows = image.flatten(2).to(torch.float32) * self.row_scale + self.row_offset
        return rows.unflatten(2, (-1, 3)).permute(0, 3, 1, 2)


class IntegerNetwork(OnnxNetwork):
    """The same with deconvolutions as convolutions, because ONNX Runtime has no integer deconvolution."""

    def __init__(self, model: nn.Module, input_wh: tuple[int, int]) -> None:
        super().__init__(model, input_wh)
        replace_deconvolutions(self.model)


class HalfNetwork(OnnxNetwork):
    """The same with weights and layers in float16. Pixels are normalised and probabilities computed in float32."""

    def __init__(self, model: nn.Module, input_wh: tuple[int, int]) -> None:
        super().__init__(model, input_wh)
        self.model.half()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        out = self.model(self.normalise(image).half())
        widened = {name: value.float() for name, value in out._asdict().items() if value is not None}
        return tuple(deployed_outputs(PoseOutputs(**widened)).values())
