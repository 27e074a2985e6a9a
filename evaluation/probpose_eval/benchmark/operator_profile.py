"""Where the work of a file is done: multiply-adds in int8 and in float, and what its fast path leaves out."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from probpose_edge.contract.read_contract import model_format
from probpose_edge.extras import import_extra

_INTEGERS = ("uint8", "int8")
_ALWAYS_INTEGER = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger", "QGemm", "ConvInteger")
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "Cast", "Transpose", "ReorderInput", "ReorderOutput")
_RUNS = 6


@dataclass(frozen=True, kw_only=True)
class OperatorProfile:
    """Of one crop through a file.

    Attributes
    ----------
    int8_macs, float_macs: multiply-adds of convolutions and matrix products, by the type they are computed in.
    slow: operators that are no part of the fast path, with the share of the time (ONNX: products and convolutions in
        float of an INT8 file, and conversions between types and layouts), or their number (TFLite: operators outside
        the delegate), in words.
    float_products: operator → how many of them multiply in float, and their multiply-adds, most of these first.
    partitions: into how many parts a delegate took the file (TFLite); None where there is no such thing.
    """

    int8_macs: int
    float_macs: int
    slow: tuple[str, ...]
    float_products: dict[str, tuple[int, int]] = field(default_factory=dict)
    partitions: int | None = None

    @property
    def macs(self) -> int:
        return self.int8_macs + self.float_macs


def sum_products(products: Iterable[tuple[str, bool, int]]) -> tuple[int, int, dict[str, tuple[int, int]]]:
    """`OperatorProfile`'s int8_macs, float_macs and float_products of (operator, whether in int8, multiply-adds)."""
    integer, counts, macs = 0, Counter[str](), Counter[str]()
    for name, is_integer, amount in products:
        if is_integer:
            integer += amount
        elif amount:
            counts[name] += 1
            macs[name] += amount
    floats = {name: (counts[name], amount) for name, amount in macs.most_common()}
    return integer, sum(macs.values()), floats


def profile_operators(path: Path, input_wh: tuple[int, int], *, threads: int) -> OperatorProfile | None:
    """Run a file on a grey crop and see what its operators do; None for formats and runtimes that do not tell."""
    kind = model_format(path)
    crop = np.full((1, input_wh[1], input_wh[0], 3), 128, np.uint8)
    if kind == "onnx":
        return _profile_onnx(path, crop, threads)
    return _profile_tflite(path) if kind == "tflite" else None


def _profile_onnx(path: Path, crop: Any, threads: int) -> OperatorProfile:
    # Stored weights lose their shape when they are put into the order of a kernel, which is what makes it fast: one
    # run for the shapes, one for the times.
    integer, floating, products = sum_products(
        (event["args"]["op_name"], _is_integer(event), _onnx_macs(event))
        for event in _onnx_events(path, crop, threads, prepacking=False)
    )
    times: Counter[str] = Counter()
    for event in _onnx_events(path, crop, threads, prepacking=True):
        name = event["args"]["op_name"]
        weighs = name in _CONVERSIONS or (integer > 0 and not _is_integer(event) and _has_weights(name))
        times[name if weighs else ""] += event["dur"]
    total = max(sum(times.values()), 1)
    shares = [(name, time / total) for name, time in times.most_common() if name and time / total >= 0.02]
    return OperatorProfile(
        int8_macs=integer,
        float_macs=floating,
        slow=tuple(f"{name} {share:.0%} of the time" for name, share in shares),
        float_products=products,
    )


def _onnx_events(path: Path, crop: Any, threads: int, *, prepacking: bool) -> list[dict[str, Any]]:
    """What onnxruntime noted of every operator; of a few runs the shortest time of each."""
    ort = import_extra("Running .onnx files", "onnxruntime", "onnx")
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        if not prepacking:
            options.add_session_config_entry("session.disable_prepacking", "1")
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(_RUNS):
            session.run(None, {"image": crop})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [e for e in events if e.get("cat") == "Node" and "op_name" in e["args"] and e["name"].endswith("_time")]
    count = len(nodes) // _RUNS
    runs = [nodes[first : first + count] for first in range(0, count * _RUNS, count)] if count else []
    return [{**same[0], "dur": min(event["dur"] for event in same)} for same in zip(*runs, strict=True)]


def _shapes(event: dict[str, Any], side: str) -> list[list[int]]:
    return [next(iter(entry.values()), []) for entry in event["args"].get(f"{side}_type_shape", [])]


def _has_weights(name: str) -> bool:
    return any(part in name for part in ("Conv", "MatMul", "Gemm"))


def _is_integer(event: dict[str, Any]) -> bool:
    kinds = [next(iter(entry), "") for entry in event["args"].get("input_type_shape", [])]
    return event["args"]["op_name"] in _ALWAYS_INTEGER or (bool(kinds) and kinds[0] in _INTEGERS)


def _onnx_macs(event: dict[str, Any]) -> int:
    name, inputs, outputs = event["args"]["op_name"], _shapes(event, "input"), _shapes(event, "output")
    if not _has_weights(name) or len(inputs) < 2 or not outputs:
        return 0
    if "Conv" in name:
        # QLinearConv has scale and zero point of its input before its weights.
        weights = inputs[3] if name.startswith("QLinear") else inputs[1]
        return math.prod(inputs[0] if "Transpose" in name else outputs[0]) * math.prod(weights[1:])
    return math.prod(outputs[0]) * (inputs[0][-1] if inputs[0] else 0)


def _profile_tflite(path: Path) -> OperatorProfile | None:
    try:
        module = import_extra("Running .tflite files", "ai_edge_litert.interpreter", "tflite")
        interpreter = module.Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        operators = interpreter._get_ops_details()
        tensors = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    except (ImportError, AttributeError, ValueError, RuntimeError):
        # Another or an older runtime: the profile is a help, not a result.
        return None
    found: list[tuple[str, bool, int]] = []
    for operator in operators:
        count = _TFLITE_MACS.get(operator["op_name"])
        if count is None:
            continue
        given = [tensors.get(int(index)) for index in operator["inputs"]]
        out = tensors.get(int(operator["outputs"][0]))
        if out is None or given[0] is None or given[1] is None:
            continue
        macs = count([detail["shape"].tolist() if detail else [] for detail in given], out["shape"].tolist())
        found.append((operator["op_name"], given[1]["dtype"] == np.int8, macs))
    integer, floating, products = sum_products(found)
    outside = Counter(_outside_delegate(operators))
    slow = tuple(f"{count} {name} outside the delegate" for name, count in outside.most_common())
    return OperatorProfile(
        int8_macs=integer,
        float_macs=floating,
        slow=slow,
        float_products=products,
        partitions=sum(operator["op_name"] == "DELEGATE" for operator in operators),
    )


_TFLITE_MACS: dict[str, Callable[[list[list[int]], list[int]], int]] = {
    "CONV_2D": lambda given, out: math.prod(out) * math.prod(given[1][1:]),
    "DEPTHWISE_CONV_2D": lambda given, out: math.prod(out) * math.prod(given[1][1:3]),
    "TRANSPOSE_CONV": lambda given, out: math.prod(given[2]) * math.prod(given[1][:3]),
    "FULLY_CONNECTED": lambda given, out: math.prod(out) * given[1][-1],
    "BATCH_MATMUL": lambda given, out: math.prod(out) * given[0][-1],
}
"""Operator → multiply-adds from the shapes of its inputs and of its output (channels last; weights (O, H, W, I))."""


def _outside_delegate(operators: list[dict[str, Any]]) -> list[str]:
    """Names of the operators that no delegate took: those that a delegate's outputs do not lead back to."""
    producers = {int(t): op for op in operators if op["op_name"] != "DELEGATE" for t in op["outputs"]}
    inside: set[int] = set()
    for delegate in (op for op in operators if op["op_name"] == "DELEGATE"):
        border = {int(tensor) for tensor in delegate["inputs"]}
        waiting = [int(tensor) for tensor in delegate["outputs"]]
        while waiting:
            tensor = waiting.pop()
            operator = producers.get(tensor)
            if tensor in border or operator is None or operator["index"] in inside:
                continue
            inside.add(operator["index"])
            waiting += [int(index) for index in operator["inputs"]]
    return [op["op_name"] for op in operators if op["op_name"] != "DELEGATE" and op["index"] not in inside]
