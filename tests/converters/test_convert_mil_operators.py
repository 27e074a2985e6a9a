"""Every operator of the MIL executor, on a small saved program, against results worked out another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probpose_convert.mil_interpreter import MilInterpreter
from probpose_convert.mil_library import import_coremltools, quiet
from probpose_convert.mil_operators import OPERATORS
from probpose_convert.mil_reader import read_program
from probpose_edge.exceptions import ModelFileError

pytest.importorskip("coremltools", reason="needs the extra convert")

ct = import_coremltools("Testing")
mb = ct.converters.mil.Builder
types = ct.converters.mil.mil.types


def save(path: Path, build: Callable[..., Any], *shapes: tuple[int, ...], fp16: bool = False) -> Path:
    """A package whose inputs x, y, … have these shapes; `build` makes its outputs."""
    specs = [mb.TensorSpec(shape=shape, dtype=types.fp16 if fp16 else types.fp32) for shape in shapes]
    names = ("x", "y")[: len(shapes)]
    bodies = {1: lambda x: build(x), 2: lambda x, y: build(x, y)}
    with quiet():
        program = mb.program(input_specs=specs, opset_version=ct.target.iOS17)(bodies[len(names)])
        package = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        package.save(str(path / "program.mlpackage"))
    return path / "program.mlpackage"


def run(package: Path, *arrays: np.ndarray, fp16_rounding: bool = True) -> list[np.ndarray]:
    program = read_program(package)
    inputs = {name: torch.from_numpy(a.astype(np.float32)) for name, a in zip(program.inputs, arrays, strict=True)}
    outputs = MilInterpreter(program, fp16_rounding=fp16_rounding).run(inputs)
    return [outputs[name].numpy() for name in program.outputs]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def correlate(x: np.ndarray, weight: np.ndarray, strides: tuple[int, int], dilations: tuple[int, int], groups: int):
    """Cross-correlation of an already padded (1, C, H, W), by its definition."""
    out_channels, per_group, kh, kw = weight.shape
    (sy, sx), (dy, dx) = strides, dilations
    rows = (x.shape[2] - dy * (kh - 1) - 1) // sy + 1
    columns = (x.shape[3] - dx * (kw - 1) - 1) // sx + 1
    out = np.zeros((1, out_channels, rows, columns))
    for o in range(out_channels):
        first = o // (out_channels // groups) * per_group
        for r in range(rows):
            for c in range(columns):
                patch = x[0, first : first + per_group, r * sy : r * sy + dy * kh : dy, c * sx : c * sx + dx * kw : dx]
                out[0, o, r, c] = (patch * weight[o]).sum()
    return out


CONV_WEIGHT, CONV_BIAS = noise(4, 1, 3, 2, seed=1), noise(4, seed=2)
DECONV_WEIGHT = noise(2, 3, 4, 4, seed=3)
GAMMA, BETA, MEAN, VARIANCE = noise(3, seed=4), noise(3, seed=5), noise(3, seed=6), np.abs(noise(3, seed=7))
LINEAR_WEIGHT, LINEAR_BIAS = noise(5, 3, seed=8), noise(5, seed=9)


def transposed(x: np.ndarray) -> np.ndarray:
    """Every input value times the kernel, laid down at twice its place, then one row and column cut on each side."""
    full = np.zeros((1, 3, 2 * x.shape[2] + 2, 2 * x.shape[3] + 2))
    for r in range(x.shape[2]):
        for c in range(x.shape[3]):
            full[0, :, 2 * r : 2 * r + 4, 2 * c : 2 * c + 4] += np.tensordot(x[0, :, r, c], DECONV_WEIGHT, axes=1)
    return full[:, :, 1:-1, 1:-1]


def bilinear(x: np.ndarray) -> np.ndarray:
    """Half-pixel centers, borders repeated: weights 1/4 and 3/4 along each axis."""
    for axis in (2, 3):
        before = np.concatenate([x.take([0], axis), x.take(range(x.shape[axis] - 1), axis)], axis)
        after = np.concatenate([x.take(range(1, x.shape[axis]), axis), x.take([-1], axis)], axis)
        pair = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pair.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])
    return x


def normalised(x: np.ndarray) -> np.ndarray:
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-3) * GAMMA + BETA


# operator → (how to build it, what it must give, shapes of its inputs)
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "abs": (lambda x: mb.abs(x=x), lambda x: np.where(x < 0, -x, x), ((4, 5),)),
    "add": (lambda x, y: mb.add(x=x, y=y), lambda x, y: x + y, ((2, 3), (1, 3))),
    "batch_norm": (
        lambda x: mb.batch_norm(x=x, mean=MEAN, variance=VARIANCE, gamma=GAMMA, beta=BETA, epsilon=1e-3),
        lambda x: (
            (x - MEAN[:, None, None]) / np.sqrt(VARIANCE[:, None, None] + 1e-3) * GAMMA[:, None, None]
            + BETA[:, None, None]
        ),
        ((1, 3, 2, 4),),
    ),
    "cast": (lambda x: mb.cast(x=x, dtype="fp16"), lambda x: x.astype(np.float16), ((2, 3),)),
    "clip": (lambda x: mb.clip(x=x, alpha=-0.5, beta=0.25), lambda x: np.clip(x, -0.5, 0.25), ((4, 5),)),
    "conv": (
        lambda x: mb.conv(
            x=x, weight=CONV_WEIGHT, bias=CONV_BIAS, strides=[2, 1], pad_type="custom", pad=[0, 1, 2, 0],
            dilations=[1, 2], groups=2,
        ),
        lambda x: (
            correlate(np.pad(x, ((0, 0), (0, 0), (0, 1), (2, 0))), CONV_WEIGHT, (2, 1), (1, 2), 2)
            + CONV_BIAS[:, None, None]
        ),
        ((1, 2, 6, 5),),
    ),
    "conv_transpose": (
        lambda x: mb.conv_transpose(
            x=x, weight=DECONV_WEIGHT, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], output_shape=[1, 3, 6, 10]
        ),
        transposed,
        ((1, 2, 3, 5),),
    ),
    "exp": (lambda x: mb.exp(x=x), lambda x: math.e**x, ((2, 3),)),
    "expand_dims": (lambda x: mb.expand_dims(x=x, axes=[0, -2]), lambda x: x[None, :, None], ((2, 3),)),
    "gelu": (
        lambda x: mb.gelu(x=x),
        lambda x: np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))(x),
        ((3, 7),),
    ),
    "layer_norm": (
        lambda x: mb.layer_norm(x=x, axes=[-1], gamma=GAMMA, beta=BETA, epsilon=1e-3), normalised, ((1, 4, 3),)
    ),
    "linear": (
        lambda x: mb.linear(x=x, weight=LINEAR_WEIGHT, bias=LINEAR_BIAS),
        lambda x: x @ LINEAR_WEIGHT.T + LINEAR_BIAS,
        ((1, 4, 3),),
    ),
    "log": (lambda x: mb.log(x=x, epsilon=9.0), lambda x: np.log1p(x + 8), ((2, 3),)),
    "matmul": (
        lambda x, y: mb.matmul(x=x, y=y, transpose_x=True, transpose_y=True),
        lambda x, y: np.einsum("bki,bjk->bij", x, y),
        ((2, 5, 3), (2, 4, 5)),
    ),
    "max_pool": (
        lambda x: mb.max_pool(x=x, kernel_sizes=[2, 3], strides=[2, 3], pad_type="custom", pad=[0, 0, 1, 1]),
        lambda x: np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1)), constant_values=-9).reshape(1, 2, 2, 2, 2, 3).max((3, 5)),
        ((1, 2, 4, 4),),
    ),
    "maximum": (lambda x, y: mb.maximum(x=x, y=y), lambda x, y: np.where(x > y, x, y), ((2, 3), (3,))),
    "minimum": (lambda x: mb.minimum(x=x, y=0.25), lambda x: np.where(x < 0.25, x, 0.25), ((2, 3),)),
    "mul": (lambda x: mb.mul(x=x, y=0.25), lambda x: x / 4, ((2, 3),)),
    "pad": (
        lambda x: mb.pad(x=x, pad=[0, 0, 1, 0, 2, 3], mode="constant", constant_val=0.5),
        lambda x: np.pad(x, ((0, 0), (1, 0), (2, 3)), constant_values=0.5),
        ((2, 3, 4),),
    ),
    "real_div": (lambda x, y: mb.real_div(x=x, y=y), lambda x, y: x * y**-1.0, ((2, 3), (3,))),
    "reduce_max": (
        lambda x: mb.reduce_max(x=x, axes=[-1], keep_dims=True), lambda x: np.sort(x, 2)[..., -1:], ((2, 3, 4),)
    ),
    "reduce_mean": (
        lambda x: mb.reduce_mean(x=x, axes=[1], keep_dims=True), lambda x: x.sum(1, keepdims=True) / 3, ((2, 3, 4),)
    ),
    "reduce_sum": (lambda x: mb.reduce_sum(x=x, axes=[0, 2]), lambda x: np.einsum("ijk->j", x), ((2, 3, 4),)),
    "relu": (lambda x: mb.relu(x=x), lambda x: np.where(x > 0, x, 0), ((4, 5),)),
    "reshape": (lambda x: mb.reshape(x=x, shape=[2, -1]), lambda x: x.reshape(2, 6), ((1, 4, 3),)),
    "sigmoid": (lambda x: mb.sigmoid(x=x), lambda x: 1 / (1 + np.exp(-x)), ((4, 5),)),
    "softmax": (
        lambda x: mb.softmax(x=x, axis=1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True), ((2, 3, 4),)
    ),
    "split": (
        lambda x: mb.split(x=x, split_sizes=[1, 3], axis=1), lambda x: (x[:, :1], x[:, 1:]), ((2, 4),)
    ),
    "squeeze": (lambda x: mb.squeeze(x=x, axes=[0, 2]), lambda x: x[0, :, 0], ((1, 3, 1, 2),)),
    "sub": (lambda x, y: mb.sub(x=x, y=y), lambda x, y: x + -y, ((2, 3), (1, 3))),
    "transpose": (lambda x: mb.transpose(x=x, perm=[2, 0, 1]), lambda x: np.moveaxis(x, 2, 0), ((2, 3, 4),)),
    "upsample_bilinear": (
        lambda x: mb.upsample_bilinear(x=x, scale_factor_height=2.0, scale_factor_width=2.0, align_corners=False),
        bilinear,
        ((1, 2, 3, 4),),
    ),
}  # fmt: skip
QUANTIZED = {"quantize", "dequantize", "constexpr_affine_dequantize", "constexpr_lut_to_dense"}


def test_every_operator_has_a_test() -> None:
    assert set(CASES) | QUANTIZED == set(OPERATORS)


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str, tmp_path: Path) -> None:
    build, oracle, shapes = CASES[name]
    arrays = [noise(*shape, seed=20 + index) for index, shape in enumerate(shapes)]
    package = save(tmp_path, build, *shapes)
    assert [operation.type for operation in read_program(package).operations] == [name]
    expected = oracle(*arrays)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for got, want in zip(run(package, *arrays), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_defaults_are_those_of_mil(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return (
            mb.conv(x=x, weight=noise(1, 2, 3, 3)),
            mb.upsample_bilinear(x=x, scale_factor_height=2.0, scale_factor_width=2.0),
            mb.softmax(x=x),
            mb.batch_norm(x=x, mean=np.zeros(2, np.float32), variance=np.full(2, 4e-5, np.float32)),
        )

    x = noise(1, 2, 4, 3, seed=1)
    convolved, upsampled, softmax, normal = run(save(tmp_path, build, x.shape), x)
    np.testing.assert_allclose(convolved, correlate(x, noise(1, 2, 3, 3), (1, 1), (1, 1), 1), atol=1e-5)
    # Corners aligned: every seventh of the way between the first and the last row.
    np.testing.assert_allclose(upsampled[..., 0, 0], x[..., 0, 0], atol=1e-6)
    np.testing.assert_allclose(upsampled[..., 1, 0], x[..., 0, 0] * 4 / 7 + x[..., 1, 0] * 3 / 7, atol=1e-5)
    np.testing.assert_allclose(softmax.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(normal, x / math.sqrt(5e-5), rtol=1e-5)


def test_quantize_rounds_halves_to_even_and_saturates(tmp_path: Path) -> None:
    x = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, 300.0, -300.0, 0.49]], np.float32)

    def build(x: Any) -> Any:
        signed = mb.quantize(input=x, scale=np.float32(1), zero_point=np.int8(3), output_dtype="int8")
        unsigned = mb.quantize(input=x, scale=np.float32(0.5), output_dtype="uint8")
        return (
            mb.dequantize(input=signed, scale=np.float32(1), zero_point=np.int8(0)),
            mb.dequantize(input=unsigned, scale=np.float32(1)),
        )

    signed, unsigned = run(save(tmp_path, build, x.shape), x)
    assert signed.tolist() == [[3, 5, 5, 3, 1, 127, -128, 3]]
    assert unsigned.tolist() == [[1, 3, 5, 0, 0, 255, 0, 1]]


def test_dequantize_takes_one_scale_and_zero_point_per_index_of_the_axis(tmp_path: Path) -> None:
    scale, zero_point = np.array([0.5, 2.0], np.float32), np.array([1, -2], np.int8)

    def build(x: Any) -> Any:
        levels = mb.quantize(input=x, scale=scale, zero_point=zero_point, axis=1, output_dtype="int8")
        return mb.dequantize(input=levels, scale=scale, zero_point=zero_point, axis=1)

    x = np.array([[[0.7, 100.0], [0.9, -1000.0]]], np.float32)
    # Grids of 0.5 and 2; 127 - 1 steps up, 128 - 2 steps down.
    assert run(save(tmp_path, build, x.shape), x)[0].tolist() == [[[0.5, 63.0], [0.0, -252.0]]]


def test_constants_stored_in_8_bits(tmp_path: Path) -> None:
    stored = np.array([[-128, 0, 127], [10, 20, 30]], np.int8)

    def build(x: Any) -> Any:
        weight = mb.constexpr_affine_dequantize(
            quantized_data=stored,
            scale=np.array([0.5, 0.1], np.float32),
            zero_point=np.array([-28, 10], np.int8),
            axis=0,
        )
        return mb.linear(x=x, weight=weight)

    program = read_program(save(tmp_path, build, (1, 3)))
    assert any(isinstance(value, np.ndarray) and value.dtype == np.int8 for value in program.constants.values())
    got = MilInterpreter(program).run({"x": torch.eye(3)[None, 0]})
    np.testing.assert_allclose(next(iter(got.values())).numpy(), [[-50.0, 0.0]], atol=1e-6)
    got = MilInterpreter(program).run({"x": torch.eye(3)[None, 2]})
    np.testing.assert_allclose(next(iter(got.values())).numpy(), [[77.5, 2.0]], atol=1e-6)


def test_constants_stored_as_places_in_a_table(tmp_path: Path) -> None:
    # Two bits each, the lowest first: 3, 0, 1 | 2, 2, 3.
    packed = np.array([0b10_01_00_11, 0b11_10], np.uint8)
    table = np.array([-1.0, 0.5, 2.0, 8.0], np.float32)

    def build(x: Any) -> Any:
        return mb.linear(x=x, weight=mb.constexpr_lut_to_dense(indices=packed, lut=table, shape=np.uint32([2, 3])))

    (got,) = run(save(tmp_path, build, (3, 3)), np.eye(3))
    assert got.T.tolist() == [[8.0, -1.0, 0.5], [2.0, 2.0, 8.0]]


def test_values_declared_float16_are_rounded_unless_switched_off(tmp_path: Path) -> None:
    package = save(tmp_path, lambda x: mb.mul(x=mb.add(x=x, y=np.float16(1.0)), y=np.float16(3.0)), (1, 2), fp16=True)
    x = np.array([[2.0**-11, 3 * 2.0**-11]], np.float32)
    # 1 + 2^-11 is half-way between two float16 numbers and goes to the even one, 1; the other to 1 + 2^-9.
    assert run(package, x)[0].tolist() == [[3.0, float(np.float16(3 * (1 + 2.0**-9)))]]
    assert run(package, x, fp16_rounding=False)[0].tolist() == [[3 * (1 + 2.0**-11), 3 * (1 + 3 * 2.0**-11)]]
    assert MilInterpreter(read_program(package)).rounds
    assert not MilInterpreter(read_program(package), fp16_rounding=False).rounds


def test_a_program_of_float32_values_says_that_nothing_is_rounded(tmp_path: Path) -> None:
    package = save(tmp_path, lambda x: mb.mul(x=x, y=np.float32(3.0)), (1, 2))
    assert not MilInterpreter(read_program(package)).rounds


def test_values_without_a_fixed_size(tmp_path: Path) -> None:
    package = save(tmp_path, lambda x: mb.non_zero(x=x), (2, 2))
    with pytest.raises(ModelFileError, match=r"must have a fixed size, but .* has none\. Use operators whose sizes"):
        read_program(package)


def test_inputs_are_not_changed(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return mb.dequantize(
            input=mb.quantize(input=mb.relu(x=x), scale=np.float32(0.1), output_dtype="uint8"), scale=np.float32(0.1)
        )

    program = read_program(save(tmp_path, build, (2, 3)))
    x = torch.from_numpy(noise(2, 3))
    before = x.clone()
    MilInterpreter(program).run({"x": x})
    assert torch.equal(x, before)


def test_unknown_operator_is_named_with_its_output(tmp_path: Path) -> None:
    package = save(tmp_path, lambda x: mb.tanh(x=mb.relu(x=x), name="squashed"), (1, 2))
    with pytest.raises(ModelFileError, match=r"knows the MIL operators .*; 'tanh', which gives 'squashed', is not"):
        MilInterpreter(read_program(package))


def test_unknown_setting_is_named(tmp_path: Path) -> None:
    package = save(tmp_path, lambda x: mb.pad(x=x, pad=[1, 1], mode="reflect", name="mirrored"), (1, 4))
    with pytest.raises(ModelFileError, match=r"'pad', which gives 'mirrored', cannot be run: pad mode reflect"):
        run(package, noise(1, 4))
