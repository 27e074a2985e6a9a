"""Deconvolutions as convolutions, for runtimes that have no integer deconvolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def replace_deconvolutions(model: nn.Module) -> None:
    """Write every 4×4 stride-2 deconvolution in a sequence of `model` as a convolution and a depth-to-space.

    An output cell of even index gets the kernel taps 3 and 1 of the inputs before and at its place, one of odd index
    the taps 2 and 0 of those at and after it. So the four output cells of an input cell are four channels of a 3×3
    convolution, a third of whose taps along each axis are zero. A ReLU behind the deconvolution moves before the
    depth-to-space, where integer convolutions take it in; values are the same.
    """
    for sequence in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for index, layer in enumerate(list(sequence)):
            if not _is_double_upsampling(layer):
                continue
            following = index + 1
            while following < len(sequence) and isinstance(sequence[following], nn.Identity):
                following += 1
            sequence[index] = _as_convolution(layer)
            if following < len(sequence) and isinstance(sequence[following], nn.ReLU):
                sequence[following] = _ShuffledReLU()
            else:
                sequence[index] = nn.Sequential(sequence[index], nn.PixelShuffle(2))


class _ShuffledReLU(nn.Module):
    """In one module, so that the ReLU stays where it was: ranges are known by the place of their value."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(functional.relu(x), 2)


def _is_double_upsampling(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.ConvTranspose2d)
        and layer.kernel_size == (4, 4)
        and layer.stride == (2, 2)
        and layer.padding == (1, 1)
        and layer.output_padding == (0, 0)
        and layer.dilation == (1, 1)
        and layer.groups == 1
    )


@torch.no_grad()
def _as_convolution(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    # taps[parity] maps the kernel of 4 to one of 3: which tap an input at distance -1, 0, 1 goes through.
    taps = torch.zeros(2, 3, 4)
    taps[0, 0, 3] = taps[0, 1, 1] = taps[1, 1, 2] = taps[1, 2, 0] = 1
    # weight (in, out, 4, 4) → (out, parity of the row, parity of the column, in, 3, 3)
    weight: Tensor = torch.einsum("iokl,ayk,bxl->oabiyx", layer.weight, taps, taps)
    convolution = nn.Conv2d(layer.in_channels, 4 * layer.out_channels, 3, padding=1, bias=layer.bias is not None)
    convolution.weight.copy_(weight.reshape(convolution.weight.shape))
    if layer.bias is not None and convolution.bias is not None:
        convolution.bias.copy_(layer.bias.repeat_interleave(4))
    return convolution
