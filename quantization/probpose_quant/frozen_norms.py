"""Batch normalisations as constants of the convolutions before them, for training quantized weights; and back.

In a graph that computes ``convolution(x, weight * factor) + bias`` the weights are rounded as the finished file rounds
them, after folding, while the optimizer still sees the weights it always saw: folded ones differ by orders of magnitude
from channel to channel. The running statistics stay as they are (Krishnamoorthi 2018, section 3.2.2).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

ORIGINAL = "parametrizations.weight.original"


class _TimesFactor(nn.Module):
    factor: Tensor

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.factor


def freeze_norms(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode whose normalisations are factors on weights and parts of biases.

    Values are those of the eval network up to rounding. The given network is not changed.
    """
    frozen = copy.deepcopy(model).eval()
    for convolution, norm in _pairs(frozen):
        conv, bn = frozen.get_submodule(convolution), frozen.get_submodule(norm)
        factor, offset = _constants(conv, bn)
        shape = [1, -1, 1, 1] if isinstance(conv, nn.ConvTranspose2d) else [-1, 1, 1, 1]
        conv.bias = nn.Parameter((bn.bias + offset).detach())
        parametrize.register_parametrization(conv, "weight", _TimesFactor(factor.view(shape).detach()))
        parent, _, index = norm.rpartition(".")
        frozen.get_submodule(parent)[int(index)] = nn.Identity()
    return frozen


@torch.no_grad()
def thaw_norms(model: nn.Module, trained: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `model` with the parameters that the network of `freeze_norms` has after training.

    trained: its parameters by their names there. Weights go back to the convolutions, biases to the normalisations.
    """
    result = copy.deepcopy(model)
    state = {name: value.clone() for name, value in result.state_dict().items()}
    folded = {f"{convolution}.bias" for convolution, _ in _pairs(model)}
    for name, value in trained.items():
        if name in state and name not in folded:
            state[name].copy_(value)
    for convolution, norm in _pairs(model):
        _, offset = _constants(model.get_submodule(convolution), model.get_submodule(norm))
        state[f"{convolution}.weight"].copy_(trained[f"{convolution}.{ORIGINAL}"])
        state[f"{norm}.bias"].copy_(trained[f"{convolution}.bias"].cpu() - offset)
    result.load_state_dict(state)
    return result


def norm_behind(model: nn.Module, convolution: str) -> nn.Module | None:
    """The normalisation behind the convolution at a path, if there is one."""
    path = dict(_pairs(model)).get(convolution)
    return None if path is None else model.get_submodule(path)


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Paths of every convolution and of the normalisation behind it in its sequence."""
    found = []
    for path, sequence in model.named_modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for index in range(len(sequence) - 1):
            first, second = sequence[index], sequence[index + 1]
            if isinstance(first, (nn.Conv2d, nn.ConvTranspose2d)) and isinstance(second, nn.BatchNorm2d):
                found.append((f"{path}.{index}", f"{path}.{index + 1}"))
    return found


def _constants(conv: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What the normalisation multiplies a channel with, and what it adds besides its bias."""
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    return factor, -mean * factor
