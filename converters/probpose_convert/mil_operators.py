"""The operators of ML programs (MIL), as plain functions on torch tensors.

Each function is named after its operator and takes that operator's parameters by name, with the defaults of Apple's
MIL reference (https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html, opset iOS 17).
Every tensor is float32 here, whatever the program says: rounding to float16 is up to the caller. Sizes and axes are
lists of int. A setting that is legal in MIL but not handled here is a `ValueError` that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from probpose_convert.mil_quantized import (
    constexpr_affine_dequantize,
    constexpr_lut_to_dense,
    dequantize,
    quantize,
)


def abs(*, x: Tensor) -> Tensor:
    return x.abs()


def add(*, x: Tensor | float, y: Tensor | float) -> Tensor:
    return torch.as_tensor(x + y)


def batch_norm(
    *,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


def cast(*, x: Tensor, dtype: str) -> Tensor:
    if dtype not in ("fp32", "fp16"):
        raise ValueError(f"a cast to {dtype}")
    return x


def clip(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.clamp(alpha, beta)


def conv(
    *,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Sequence[int] = (1, 1),
    pad_type: str = "valid",
    pad: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """x (N, C_in, H, W), weight (C_out, C_in / groups, kh, kw); pad is [top, bottom, left, right]."""
    top, bottom, left, right = _padding(pad_type, pad)
    if top == bottom and left == right:
        return F.conv2d(x, weight, bias, tuple(strides), (top, left), tuple(dilations), groups)
    padded = F.pad(x, (left, right, top, bottom))
    return F.conv2d(padded, weight, bias, tuple(strides), 0, tuple(dilations), groups)


def conv_transpose(
    *,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Sequence[int] = (0, 0, 0, 0),
    output_shape: Sequence[int] | None = None,
    pad_type: str = "valid",
    strides: Sequence[int] = (1, 1),
    dilations: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """weight (C_in, C_out / groups, kh, kw): the result without padding, cut by pad [top, bottom, left, right]."""
    top, bottom, left, right = _padding(pad_type, pad)
    full = F.conv_transpose2d(x, weight, bias, tuple(strides), 0, 0, groups, tuple(dilations))
    result = full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]
    if output_shape is not None and list(output_shape) != list(result.shape):
        raise ValueError(f"output_shape {list(output_shape)} where padding gives {list(result.shape)}")
    return result


def exp(*, x: Tensor) -> Tensor:
    return x.exp()


def expand_dims(*, x: Tensor, axes: Sequence[int]) -> Tensor:
    """axes: where the new axes are in the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def gelu(*, x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode != "EXACT":
        raise ValueError(f"gelu mode {mode}")
    return F.gelu(x)


def layer_norm(
    *,
    x: Tensor,
    axes: Sequence[int],
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    if [axis % x.ndim for axis in axes] != list(range(x.ndim - len(axes), x.ndim)):
        raise ValueError(f"axes {list(axes)} that are not the last ones")
    return F.layer_norm(x, x.shape[x.ndim - len(axes) :], gamma, beta, epsilon)


def linear(*, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x, weight, bias)


def log(*, x: Tensor, epsilon: float = 1e-45) -> Tensor:
    return (x + epsilon).log()


def matmul(*, x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def max_pool(
    *,
    x: Tensor,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] = (1, 1),
    pad: Sequence[int] = (0, 0, 0, 0),
    ceil_mode: bool = False,
) -> Tensor:
    top, bottom, left, right = _padding(pad_type, pad)
    padded = F.pad(x, (left, right, top, bottom), value=float("-inf")) if any((top, bottom, left, right)) else x
    return F.max_pool2d(padded, tuple(kernel_sizes), tuple(strides), ceil_mode=ceil_mode)


def maximum(*, x: Tensor, y: Tensor | float) -> Tensor:
    return torch.maximum(x, torch.as_tensor(y))


def minimum(*, x: Tensor, y: Tensor | float) -> Tensor:
    return torch.minimum(x, torch.as_tensor(y))


def mul(*, x: Tensor | float, y: Tensor | float) -> Tensor:
    return torch.as_tensor(x * y)


def pad(*, x: Tensor, pad: Sequence[int], mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """pad: [before, after] of the last ``len(pad) / 2`` axes, in the order of the axes."""
    if mode != "constant":
        raise ValueError(f"pad mode {mode}")
    # torch counts from the last axis.
    pairs = [(pad[index], pad[index + 1]) for index in range(0, len(pad), 2)]
    return F.pad(x, [size for pair in reversed(pairs) for size in pair], value=constant_val)


def real_div(*, x: Tensor | float, y: Tensor | float) -> Tensor:
    return torch.as_tensor(x / y)


def reduce_max(*, x: Tensor, axes: Sequence[int], keep_dims: bool = False) -> Tensor:
    return x.amax(tuple(axes), keepdim=keep_dims)


def reduce_mean(*, x: Tensor, axes: Sequence[int], keep_dims: bool = False) -> Tensor:
    return x.mean(tuple(axes), keepdim=keep_dims)


def reduce_sum(*, x: Tensor, axes: Sequence[int], keep_dims: bool = False) -> Tensor:
    return x.sum(tuple(axes), keepdim=keep_dims)


def relu(*, x: Tensor) -> Tensor:
    return x.relu()


def reshape(*, x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape(tuple(shape))


def sigmoid(*, x: Tensor) -> Tensor:
    return x.sigmoid()


def softmax(*, x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(axis)


def split(
    *, x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Sequence[int] | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return x.split(list(split_sizes), axis)
    if num_splits is None:
        raise ValueError("a split without sizes")
    return x.split(x.shape[axis] // num_splits, axis)


def squeeze(*, x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def sub(*, x: Tensor | float, y: Tensor | float) -> Tensor:
    return torch.as_tensor(x - y)


def transpose(*, x: Tensor, perm: Sequence[int]) -> Tensor:
    return x.permute(tuple(perm))


def upsample_bilinear(
    *,
    x: Tensor,
    scale_factor_height: float = 1.0,
    scale_factor_width: float = 1.0,
    align_corners: bool = True,
) -> Tensor:
    size = [int(x.shape[-2] * scale_factor_height), int(x.shape[-1] * scale_factor_width)]
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def _padding(pad_type: str, pad: Sequence[int]) -> tuple[int, int, int, int]:
    if pad_type == "valid":
        return 0, 0, 0, 0
    if pad_type != "custom":
        raise ValueError(f"pad type {pad_type}")
    top, bottom, left, right = pad
    return top, bottom, left, right


OPERATORS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "add": add,
    "batch_norm": batch_norm,
    "cast": cast,
    "clip": clip,
    "constexpr_affine_dequantize": constexpr_affine_dequantize,
    "constexpr_lut_to_dense": constexpr_lut_to_dense,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "dequantize": dequantize,
    "exp": exp,
    "expand_dims": expand_dims,
    "gelu": gelu,
    "layer_norm": layer_norm,
    "linear": linear,
    "log": log,
    "matmul": matmul,
    "max_pool": max_pool,
    "maximum": maximum,
    "minimum": minimum,
    "mul": mul,
    "pad": pad,
    "quantize": quantize,
    "real_div": real_div,
    "reduce_max": reduce_max,
    "reduce_mean": reduce_mean,
    "reduce_sum": reduce_sum,
    "relu": relu,
    "reshape": reshape,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "split": split,
    "squeeze": squeeze,
    "sub": sub,
    "transpose": transpose,
    "upsample_bilinear": upsample_bilinear,
}
"""Every operator that the converted networks of this project consist of."""

SELECTING = frozenset(
    {"clip", "expand_dims", "max_pool", "pad", "reduce_max", "relu", "reshape", "split", "squeeze", "transpose"}
)
"""Operators whose results are values of their arguments: rounding these again would change nothing."""
