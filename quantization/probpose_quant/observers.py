"""How ranges are found: observers for weights and activations."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import QuantizationSpec

from probpose_quant.recipe import Recipe

# Folding batch normalisation leaves channels whose weights are almost zero. With a floor, the scale of their int32
# bias (activation scale times weight scale) stays large enough for the bias to fit; the error is below 1e-6.
SMALLEST_WEIGHT_SCALE = 2.0**-20


class PercentileObserver(HistogramObserver):
    """The range without the outermost values: a share `tail` of them on each side."""

    def __init__(self, tail: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tail = tail

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        share = self.histogram.double().cumsum(0) / self.histogram.double().sum()
        width = (self.max_val - self.min_val) / self.bins
        first = int((share <= self.tail).sum())
        last = int((share < 1 - self.tail).sum())
        return self.min_val + width * first, self.min_val + width * (last + 1)


class _SearchedObserver(HistogramObserver):
    """The range of least cost among narrower and narrower ones."""

    STEPS = 80
    NARROWEST = 0.1
    """Of the range of all values."""

    @abstractmethod
    def _cost(self, histogram: Tensor, centers: Tensor, low: Tensor, high: Tensor, levels: Tensor) -> float:
        """Of rounding values to `levels` (0 to 255 of the bins with these centers) between low and high."""

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        width = (self.max_val - self.min_val) / self.bins
        centers = self.min_val + width * (torch.arange(self.bins) + 0.5)
        low, high = self.min_val.clamp(max=0), self.max_val.clamp(min=0)
        best, least = (low, high), float("inf")
        # Both ends shrink alike: ranges here are either one-sided (after ReLU) or about symmetric.
        for step in range(self.STEPS):
            share = 1 - (1 - self.NARROWEST) * step / self.STEPS
            a, b = low * share, high * share
            scale = ((b - a) / 255).clamp(min=1e-12)
            cost = self._cost(self.histogram, centers, a, b, ((centers - a) / scale).round().clamp(0, 255))
            if cost < least:
                best, least = (a, b), cost
        return best


class SquaredErrorObserver(_SearchedObserver):
    """The range with the least mean squared error of the values seen, rounding and clipping taken together."""

    def _cost(self, histogram: Tensor, centers: Tensor, low: Tensor, high: Tensor, levels: Tensor) -> float:
        rounded = levels * ((high - low) / 255).clamp(min=1e-12) + low
        return float((histogram * (rounded - centers) ** 2).sum())


class EntropyObserver(_SearchedObserver):
    """The range whose values, rounded, have the distribution most like that of all values (Migacz, "8-bit inference
    with TensorRT", GTC 2017): least Kullback-Leibler divergence, the values cut off counting as the outermost one.

    Zeros are left out. They are exact on every grid, but after a ReLU they are most of the values, and spread over the
    level that they share with the smallest others they would make every coarser grid look bad.
    """

    NARROWEST = 0.125  # one bin per level

    def _cost(self, histogram: Tensor, centers: Tensor, low: Tensor, high: Tensor, levels: Tensor) -> float:
        counts = torch.where(centers.abs() == centers.abs().min(), 0, histogram).double()
        inside = torch.where((centers >= low) & (centers <= high), counts, 0)
        kept = inside.nonzero().flatten()
        if len(kept) < 2:
            return float("inf")
        wanted = inside.clone()
        wanted[kept[0]] += counts[: kept[0]].sum()
        wanted[kept[-1]] += counts[kept[-1] + 1 :].sum()
        index = levels.long()
        zeros = torch.zeros(256, dtype=torch.double)
        sums, bins = (zeros.index_add(0, index, values) for values in (inside, (inside > 0).double()))
        p, q = wanted[kept] / wanted.sum(), (sums / bins.clamp(min=1))[index][kept] / inside.sum()
        return float((p * (p / q).log()).sum())


def activation_spec(recipe: Recipe, *, unsigned: bool) -> QuantizationSpec:
    """Per tensor, affine, 8 bits, with the range that the recipe's observer finds."""
    observer = {
        "minmax": MinMaxObserver,
        "percentile": PercentileObserver.with_args(tail=recipe.tail),
        "mse": SquaredErrorObserver,
        "entropy": EntropyObserver,
    }[recipe.observer]
    return affine_activation(observer, unsigned=unsigned)


def weight_spec(channel_axis: int) -> QuantizationSpec:
    """A weight whose range is that of its values."""
    return symmetric_weight(PerChannelMinMaxObserver.with_args(eps=SMALLEST_WEIGHT_SCALE), channel_axis)


def affine_activation(constructor: Any, *, unsigned: bool) -> QuantizationSpec:
    """Per tensor, affine, 8 bits; `constructor` makes what gives the range. Unsigned is the same grid with the zero
    point moved by 128."""
    low, high = (0, 255) if unsigned else (-128, 127)
    return QuantizationSpec(
        dtype=torch.uint8 if unsigned else torch.int8,
        quant_min=low,
        quant_max=high,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=constructor,
    )


def symmetric_weight(constructor: Any, channel_axis: int) -> QuantizationSpec:
    """Per channel, symmetric, int8 without -128, so that a product of two never overflows where pairs are added."""
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=channel_axis,
        observer_or_fake_quant_ctr=constructor,
    )
