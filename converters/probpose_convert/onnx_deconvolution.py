"""Deconvolutions as convolutions, for runtimes that have no integer deconvolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def replace_deconvolutions(model: nn.Module) -> None:
    """Write every 4×4 stride-2 deconvolution in a sequence of `model` as a convolution, a depth-to-space and a crop.

    An output cell of even index gets the kernel taps 3 and 1 of the inputs before and at its place, one of odd index
    the taps 2 and 0 of those at and after it: two inputs each, side by side. So a 2×2 convolution with a border of one
    cell and four channels for every one computes all of them, those of odd index one place later; shuffled with the odd
    ones in front, they lie in order, with one cell too many on each side. No tap is zero, so that the weights are no
    more than those of the deconvolution. A ReLU behind the deconvolution moves before the depth-to-space, where integer
    convolutions take it in; values are the same.
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
                sequence[index] = nn.Sequential(sequence[index], _Shuffle())


class _ShuffledReLU(nn.Module):
    """In one module, so that the ReLU stays where it was: ranges are known by the place of their value."""

    def forward(self, x: Tensor) -> Tensor:
        return _shuffled(functional.relu(x))


class _Shuffle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _shuffled(x)


def _shuffled(x: Tensor) -> Tensor:
    """(N, 4 C, H + 1, W + 1) → (N, C, 2 H, 2 W)."""
    return functional.pixel_shuffle(x, 2)[:, :, 1:-1, 1:-1]


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
    # taps[place, i]: the tap of the kernel of 4 for input i of two; place 0 holds the cells of odd index.
    taps = torch.zeros(2, 2, 4)
    taps[0, 0, 2] = taps[0, 1, 0] = taps[1, 0, 3] = taps[1, 1, 1] = 1
    # weight (in, out, 4, 4) → (out, place in the row, place in the column, in, 2, 2)
    weight: Tensor = torch.einsum("iokl,ayk,bxl->oabiyx", layer.weight, taps, taps)
    convolution = nn.Conv2d(layer.in_channels, 4 * layer.out_channels, 2, padding=1, bias=layer.bias is not None)
    convolution.weight.copy_(weight.reshape(convolution.weight.shape))
    if layer.bias is not None and convolution.bias is not None:
        convolution.bias.copy_(layer.bias.repeat_interleave(4))
    return convolution
