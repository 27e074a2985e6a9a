"""The operators of ML programs that go between real numbers and integers of at most 8 bits (opset iOS 17).

Integers are held in float32 tensors, which is exact and saves a conversion before and after every operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


def quantize(
    *,
    input: Tensor,
    scale: Tensor | float,
    output_dtype: str,
    zero_point: Tensor | float = 0,
    axis: int | None = None,
) -> Tensor:
    """``clip(round(input / scale) + zero_point)`` to the range of `output_dtype`, halves to the even neighbour.

    scale, zero_point: one number, or one per index of `axis`.
    """
    low, high = _RANGES[output_dtype]
    rounded = torch.div(input, _along(scale, input.ndim, axis)).round_()
    if isinstance(zero_point, Tensor) or zero_point != 0:
        rounded.add_(_along(zero_point, input.ndim, axis))
    return rounded.clamp_(low, high)


def dequantize(
    *, input: Tensor, scale: Tensor | float, zero_point: Tensor | float = 0, axis: int | None = None
) -> Tensor:
    """``scale * (input - zero_point)``; scale, zero_point: one number, or one per index of `axis`."""
    factor = _along(scale, input.ndim, axis)
    if isinstance(zero_point, Tensor) or zero_point != 0:
        return torch.sub(input, _along(zero_point, input.ndim, axis)).mul_(factor)
    return input * factor


def constexpr_affine_dequantize(
    *, quantized_data: Tensor, zero_point: Tensor | float, scale: Tensor | float, axis: int
) -> Tensor:
    """A constant stored in 8 bits: ``scale * (quantized_data - zero_point)``."""
    return dequantize(input=quantized_data, scale=scale, zero_point=zero_point, axis=axis)


def constexpr_lut_to_dense(*, indices: Tensor, lut: Tensor, shape: Sequence[int]) -> Tensor:
    """A constant stored as places in a table of 2^b values: b bits each, lowest bit first, packed without gaps."""
    bits = (len(lut) - 1).bit_length()
    if len(lut) != 2**bits:
        raise ValueError(f"a table of {len(lut)} values, which is no power of two")
    flat = np.unpackbits(indices.numpy().astype(np.uint8), bitorder="little")[: math.prod(shape) * bits]
    places = flat.reshape(-1, bits) @ (1 << np.arange(bits))
    return lut[torch.from_numpy(places)].reshape(tuple(shape))


def _along(value: Tensor | float, rank: int, axis: int | None) -> Tensor | float:
    """One value per index of `axis`, shaped to broadcast against a tensor of `rank` axes; a number as it is."""
    if not isinstance(value, Tensor):
        return value
    if axis is None:
        raise ValueError("a vector of scales without an axis")
    shape = [1] * rank
    shape[axis] = -1
    return value.reshape(shape)
