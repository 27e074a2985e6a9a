"""How fast this machine multiplies: a large matrix product in int8 and in float32, by onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.protobuf import encode_field, encode_number
from probpose_edge.extras import import_extra

SIZE = 1024
"""Rows and columns of the factors: enough for the product to be limited by arithmetic, few enough to fit in caches."""
_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6
"""Numbers of the types in onnx.TensorProto."""


@dataclass(frozen=True, kw_only=True)
class ArithmeticPeak:
    """Billions of operations per second, a multiplication and an addition counting as two, at so many threads."""

    int8_gops: float
    fp32_gops: float
    threads: int


def measure_arithmetic_peak(*, threads: int, seconds: float = 1.0, size: int = SIZE) -> ArithmeticPeak:
    """Products of two (size, size) matrices, uint8 by int8 and float32, in turns; the fastest of each counts.

    seconds: about how long to measure, for both together. Raises `MissingExtraError` without onnxruntime.
    """
    runs = {
        "int8": _product(_UINT8, _INT8, _INT32, "MatMulInteger", threads, size),
        "fp32": _product(_FLOAT, _FLOAT, _FLOAT, "MatMul", threads, size),
    }
    fastest = dict.fromkeys(runs, float("inf"))
    end = time.perf_counter() + seconds
    rounds = 0
    # The first round warms up.
    while rounds < 3 or time.perf_counter() < end:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            elapsed = time.perf_counter() - start
            fastest[name] = min(fastest[name], elapsed) if rounds else fastest[name]
        rounds += 1
    operations = 2 * size**3 / 1e9
    return ArithmeticPeak(
        int8_gops=operations / fastest["int8"], fp32_gops=operations / fastest["fp32"], threads=threads
    )


def _product(left: int, right: int, result: int, operator: str, threads: int, size: int) -> Callable[[], Any]:
    """A call that multiplies a matrix by a stored one, which the runtime may put into its own order beforehand."""
    ort = import_extra("Measuring the arithmetic peak", "onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    rng = np.random.default_rng(0)
    factors = [
        rng.uniform(-1, 1, (size, size)).astype(np.float32)
        if kind == _FLOAT
        else rng.integers(0, 100, (size, size)).astype(np.uint8 if kind == _UINT8 else np.int8)
        for kind in (left, right)
    ]
    model = _model(operator, left, right, result, factors[1])
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": factors[0]})


def _model(operator: str, left: int, right: int, result: int, stored: NDArray[Any]) -> bytes:
    """An ONNX model ``y = a @ stored``, written field by field (onnx.proto), because onnx itself is not needed else."""
    size = stored.shape[0]
    node = b"".join([_text(1, "a"), _text(1, "b"), _text(2, "y"), _text(4, operator)])
    tensor = (
        encode_number(1, size)
        + encode_number(1, size)
        + encode_number(2, right)
        + _text(8, "b")
        + encode_field(9, stored.tobytes())
    )
    graph = [encode_field(1, node), _text(2, "product"), encode_field(5, tensor), _value(11, "a", left, size)]
    graph.append(_value(12, "y", result, size))
    return encode_number(1, 8) + encode_field(7, b"".join(graph)) + encode_field(8, encode_number(2, 13))


def _value(number: int, name: str, kind: int, size: int) -> bytes:
    dimension = encode_field(1, encode_number(1, size))
    tensor_type = encode_number(1, kind) + encode_field(2, dimension + dimension)
    return encode_field(number, _text(1, name) + encode_field(2, encode_field(1, tensor_type)))


def _text(number: int, text: str) -> bytes:
    return encode_field(number, text.encode())
