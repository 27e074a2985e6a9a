"""Ranges that are known: as an observer that has nothing to observe, and as one that training may still move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e import FakeQuantizeBase, ObserverBase
from torchao.quantization.pt2e.quantizer import QuantizationSpec

from probpose_edge.exceptions import TrainingError
from probpose_quant.observers import SMALLEST_WEIGHT_SCALE, affine_activation, symmetric_weight
from probpose_quant.ranges import Range
from probpose_quant.value_keys import value_keys


def grid_of(low: float, high: float, quant_min: int, quant_max: int) -> tuple[float, int]:
    """Scale and zero point of the affine grid over [low, high], which is widened to contain zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (quant_max - quant_min), torch.finfo(torch.float32).eps)
    return scale, int(min(max(quant_min - round(low / scale), quant_min), quant_max))


class KnownRange(ObserverBase):  # type: ignore[misc]
    """An observer of a range that is known already."""

    def __init__(self, low: float, high: float, dtype: torch.dtype, quant_min: int, quant_max: int, **_: Any) -> None:
        super().__init__(dtype=dtype, is_dynamic=False)
        self.quant_min, self.quant_max, self.qscheme = quant_min, quant_max, torch.per_tensor_affine
        self.grid = grid_of(low, high, quant_min, quant_max)

    def forward(self, x: Tensor) -> Tensor:
        return x

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        scale, zero_point = self.grid
        return torch.tensor([scale], dtype=torch.float32), torch.tensor([zero_point], dtype=torch.int64)


class _Round(torch.autograd.Function):
    """Values on the grid of a step; a quarter of the time that torch's own operator with a learned step takes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, steps: tuple[float, float], factor: float) -> Tensor:
        step = float(scale)
        rounded = torch.mul(x, 1 / step).round_().clamp_(*steps).mul_(step)
        ctx.save_for_backward(x, rounded)
        ctx.step, ctx.limits, ctx.factor = step, ((steps[0] - 0.5) * step, (steps[1] + 0.5) * step), factor
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, rounded = ctx.saved_tensors
        (gradient,) = gradients
        # Straight through inside of the limits, half a step beyond the grid. There the step changes the value by the
        # rounding in steps, outside of them by the limit in steps (Esser et al., eq. 3).
        inside = torch.ops.aten.hardtanh_backward(gradient, x, *ctx.limits)
        moved = torch.dot(gradient.flatten(), rounded.flatten()) - torch.dot(inside.flatten(), x.flatten())
        return inside, (moved * (ctx.factor / ctx.step)).reshape(1), None, None


class LearnedRange(FakeQuantizeBase):  # type: ignore[misc]
    """Rounds a value to 8 bits; the gradient reaches the logarithm of the step (Jain et al., MLSys 2020).

    The zero point stays, so that a range that began at zero, after a ReLU, still does. The gradient of the step is
    that of LSQ (Esser et al., ICLR 2020), with its scaling by the number of values.
    """

    zero_point: Tensor

    def __init__(self, low: float, high: float, dtype: torch.dtype, quant_min: int, quant_max: int, **_: Any) -> None:
        super().__init__()
        self.dtype, self.qscheme, self.is_dynamic = dtype, torch.per_tensor_affine, False
        self.quant_min, self.quant_max = quant_min, quant_max
        scale, zero_point = grid_of(low, high, quant_min, quant_max)
        self.log2_scale = nn.Parameter(torch.tensor([scale]).log2())
        self.register_buffer("zero_point", torch.tensor([float(zero_point)]))

    def forward(self, x: Tensor) -> Tensor:
        zero_point = float(self.zero_point)
        steps = (self.quant_min - zero_point, self.quant_max - zero_point)
        rounded: Tensor = _Round.apply(x, self.log2_scale.exp2(), steps, (x.numel() * self.quant_max) ** -0.5)
        return rounded

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        return self.log2_scale.detach().exp2(), self.zero_point.long()

    @property
    def range(self) -> Range:
        """The smallest and the largest value on the grid."""
        scale, zero_point = float(self.log2_scale.detach().exp2()), float(self.zero_point)
        return (self.quant_min - zero_point) * scale, (self.quant_max - zero_point) * scale


class RoundedPerChannelWeight(FakeQuantizeBase):  # type: ignore[misc]
    """Rounds weights to int8 per output channel, on the grid that their present values span."""

    def __init__(self, ch_axis: int, dtype: torch.dtype, quant_min: int, quant_max: int, **_: Any) -> None:
        super().__init__()
        self.dtype, self.qscheme, self.is_dynamic = dtype, torch.per_channel_symmetric, False
        self.ch_axis, self.quant_min, self.quant_max = ch_axis, quant_min, quant_max

    def scale_of(self, weight: Tensor) -> Tensor:
        """The step of every output channel."""
        axes = [axis for axis in range(weight.ndim) if axis != self.ch_axis]
        return (weight.detach().abs().amax(axes) / self.quant_max).clamp_min(SMALLEST_WEIGHT_SCALE)

    def forward(self, weight: Tensor) -> Tensor:
        scale = self.scale_of(weight)
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            weight, scale, zeros, self.ch_axis, self.quant_min, self.quant_max
        )

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        raise TrainingError(
            "A graph in training is not converted: weights and ranges are taken out of it. Call finalize, and convert "
            "what it gives."
        )


def ranges_of(graph: GraphModule) -> dict[str, Range]:
    """Name of every value that a graph rounds to a `LearnedRange` → that range as it is now."""
    keys = value_keys(graph.graph)
    return {
        keys[node.args[0]]: module.range
        for node in graph.graph.nodes
        if node.op == "call_module" and isinstance(module := graph.get_submodule(node.target), LearnedRange)
    }


def known_spec(limits: Range, *, unsigned: bool) -> QuantizationSpec:
    """An activation whose range is known: 8 bits, affine."""
    return affine_activation(KnownRange.with_args(low=limits[0], high=limits[1]), unsigned=unsigned)


def learned_spec(limits: Range) -> QuantizationSpec:
    """An activation whose range starts as given and is learned."""
    return affine_activation(LearnedRange.with_args(low=limits[0], high=limits[1]), unsigned=False)


def trained_weight_spec(channel_axis: int) -> QuantizationSpec:
    """A weight in training; the grid is that of `probpose_quant.observers.weight_spec`."""
    return symmetric_weight(RoundedPerChannelWeight, channel_axis)
