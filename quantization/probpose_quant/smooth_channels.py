"""Move large channels of a transformer from its activations into the weights behind them, before it is quantized.

An activation has one scale for all channels: a few channels that reach twenty times as far as the others leave those a
twentieth of the steps. Weights have a scale per output channel. A factor per channel, taken out of what a normalisation
gives and multiplied into the weights that read it, changes no output; so do factors between the values and the
projection of an attention, and between its queries and keys. SmoothQuant (Xiao et al., ICML 2023, equation 4) chooses
them between the two. There is none across GELU, which does not commute with a factor.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probpose_edge.exceptions import InputError
from probpose_models.deploy import Deployable
from probpose_models.vit import Attention, Block, VisionTransformer

STRENGTH = 0.5
"""How much of the difference between channels moves into the weights: 0 none, 1 all (SmoothQuant's alpha)."""
_LEAST = 1e-5
_HEADS = {"map_head", "larger_map_head", "presence_head", "visibility_head", "quality_head"}
"""Heads whose first convolution reads the last normalisation; a network with others keeps that one as it is."""


@torch.no_grad()
def smooth_channels(
    model: nn.Module, crops: NDArray[np.uint8], *, strength: float = STRENGTH, batch_size: int = 8
) -> nn.Module:
    """A copy of the network that computes the same with channels of more even size; other networks are copied only.

    crops: (M, H, W, 3) uint8 RGB, M >= 1, typical of what the file will see. Raises `InputError` for a `strength`
    outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise InputError(f"The strength of smoothing must lie in [0, 1], got {strength}. 0.5 is usual.")
    smoothed: Any = copy.deepcopy(model).eval()
    backbone = getattr(smoothed, "backbone", None)
    if not isinstance(backbone, VisionTransformer):
        return smoothed
    reach = _channel_reach(smoothed, crops, batch_size)
    for norm, readers in normalisations(smoothed):
        weights = torch.stack([_columns(reader) for reader in readers]).amax(0)
        scale_channels(norm, readers, _factor(reach[norm], weights, strength))
    for block in backbone.blocks:
        assert isinstance(block, Block)
        _smooth_attention(block.attn, reach[block.attn.qkv], strength)
    return smoothed


def scale_channels(norm: nn.LayerNorm, readers: Iterable[Any], factor: Tensor) -> None:
    """Take a factor per channel (C,) out of what a normalisation gives, and put it into the layers that read it."""
    norm.weight.div_(factor)
    norm.bias.div_(factor)
    for reader in readers:
        reader.weight *= factor.view(_input_shape(reader))


def _smooth_attention(attention: Attention, reach: Tensor, strength: float) -> None:
    """Rows of the common linear layer are queries, keys and values, each by head and channel."""
    queries, keys, values = reach.chunk(3)
    between = (queries / keys).sqrt()
    behind = _factor(values, _columns(attention.proj), strength)
    rows = torch.cat((1 / between, between, 1 / behind))
    attention.qkv.weight *= rows[:, None]
    attention.qkv.bias *= rows
    attention.proj.weight *= behind


def _factor(reach: Tensor, weights: Tensor, strength: float) -> Tensor:
    """Per channel, ``max |x| ** strength / max |w| ** (1 - strength)``, divided by its geometric mean."""
    factor = reach**strength / weights.clamp_min(_LEAST) ** (1 - strength)
    return factor / factor.log().mean().exp()


def normalisations(model: Any) -> Iterator[tuple[nn.LayerNorm, list[Any]]]:
    """Every normalisation of a transformer with the layers that read it: the border that some of these put around what
    they read is zero, so a factor passes it."""
    backbone = model.backbone
    for block in backbone.blocks:
        yield block.norm1, [block.attn.qkv]
        yield block.norm2, [block.mlp.fc1]
    heads = {name: head for name, head in model.named_children() if name != "backbone"}
    if set(heads) <= _HEADS:
        weighted = (nn.Conv2d, nn.ConvTranspose2d)
        yield (
            backbone.norm,
            [next(layer for layer in head.modules() if isinstance(layer, weighted)) for head in heads.values()],
        )


def _input_shape(layer: nn.Module) -> tuple[int, ...]:
    """Shape of a factor per input channel, to multiply the weight of a layer with."""
    return {nn.Linear: (1, -1), nn.Conv2d: (1, -1, 1, 1), nn.ConvTranspose2d: (-1, 1, 1, 1)}[type(layer)]


def _columns(layer: Any) -> Tensor:
    """(C,) the largest absolute weight of every input channel."""
    size: Tensor = layer.weight.abs()
    axis = _input_shape(layer).index(-1)
    return size.amax([other for other in range(size.ndim) if other != axis])


def _channel_reach(model: nn.Module, crops: NDArray[np.uint8], batch_size: int) -> dict[nn.Module, Tensor]:
    """The largest absolute value per channel that normalisations and the linear layers of attentions give."""
    reach: dict[nn.Module, Tensor] = {}

    def watch(module: nn.Module, _: object, output: Tensor) -> None:
        seen = output.abs().amax(dim=tuple(range(output.ndim - 1))).clamp_min(_LEAST)
        reach[module] = torch.maximum(reach[module], seen) if module in reach else seen

    watched = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    watched += [module.qkv for module in model.modules() if isinstance(module, Attention)]
    handles = [module.register_forward_hook(watch) for module in watched]
    deployable = Deployable(model).eval()
    try:
        for first in range(0, len(crops), batch_size):
            deployable(torch.from_numpy(np.ascontiguousarray(crops[first : first + batch_size])))
    finally:
        for handle in handles:
            handle.remove()
    return reach
