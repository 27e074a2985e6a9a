"""Where the layers of a file ran, and in which type: runtimes quietly take what they cannot place elsewhere."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import MissingExtraError
from probpose_edge.extras import import_extra
from probpose_edge.runtimes.base import Runtime
from probpose_edge.runtimes.litert import LiteRTRuntime
from probpose_edge.runtimes.onnx import OnnxRuntime

MULTIPLYING = {
    "onnx": ("Conv", "ConvTranspose", "Gemm", "MatMul"),
    "tflite": ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"),
}
"""Names, or parts of them in onnxruntime, of the layers that take the time: those that multiply matrices."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How many layers there are, and which did not run where, or as, they were asked to.

    Attributes
    ----------
    asked: where. asked_type: the precision of the file. layers: all that ran. multiplying: those that multiply
        matrices.
    other_place: place or operation → layers that ran one by one on a place that was not asked for.
    other_type: type → multiplying layers that ran in it though another was asked for.
    """

    asked: str
    asked_type: str
    layers: int
    multiplying: int
    other_place: dict[str, int]
    other_type: dict[str, int]


def place_layers(
    path: Path, runtime: Runtime, precision: str, crop: NDArray[np.uint8], *, threads: int | None = None
) -> Placement | None:
    """Placement of the layers of a file on the CPU, by one run on a (1, H, W, 3) uint8 RGB crop.

    runtime: what runs the file; None is returned for others than onnxruntime and LiteRT. precision: of the file.
    onnxruntime is asked by its profile, LiteRT by its list of operations, in which XNNPACK takes whole blocks.
    """
    if isinstance(runtime, OnnxRuntime):
        return _of_onnx(path, precision, crop, threads)
    return _of_tflite(path, precision, threads) if isinstance(runtime, LiteRTRuntime) else None


def _of_onnx(path: Path, precision: str, crop: NDArray[np.uint8], threads: int | None) -> Placement:
    ort = import_extra("Running .onnx files", "onnxruntime", "onnx")
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.intra_op_num_threads = threads or 0
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        session.run(None, {"image": crop})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    layers = [event["args"] for event in events if str(event.get("name", "")).endswith("_kernel_time")]
    multiplying = [layer for layer in layers if any(name in layer["op_name"] for name in MULTIPLYING["onnx"])]
    other_place = Counter(layer["provider"] for layer in layers if layer["provider"] != "CPUExecutionProvider")
    other_type: Counter[str] = Counter()
    for layer in multiplying:
        kind = next(iter(layer["input_type_shape"][0])) if layer["input_type_shape"] else "unknown type"
        if kind not in _ONNX_TYPES[precision]:
            other_type["fp32" if kind == "float" else kind] += 1
    return Placement(
        asked="CPU",
        asked_type=precision,
        layers=len(layers),
        multiplying=len(multiplying),
        other_place=dict(other_place),
        other_type=dict(other_type),
    )


def _of_tflite(path: Path, precision: str, threads: int | None) -> Placement | None:
    try:
        module = import_extra("Running .tflite files", "ai_edge_litert.interpreter", "tflite")
    except MissingExtraError:  # its predecessor runs the file, and tells nothing
        return None
    interpreter = module.Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    types = {tensor["index"]: np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()
    layers = [operation for operation in operations if operation["op_name"] != "DELEGATE"]
    multiplying = [layer for layer in layers if layer["op_name"] in MULTIPLYING["tflite"]]
    other_type: Counter[str] = Counter()
    for layer in multiplying:
        kind = _TFLITE_TYPES.get(types.get(int(layer["inputs"][1]), ""), "another type")
        if kind != precision:
            other_type[kind] += 1
    outputs = [int(detail["index"]) for detail in interpreter.get_output_details()]
    return Placement(
        asked="XNNPACK",
        asked_type=precision,
        layers=len(layers),
        multiplying=len(multiplying),
        other_place=dict(Counter(_outside_blocks(operations, outputs))),
        other_type=dict(other_type),
    )


def _outside_blocks(operations: list[dict[str, Any]], outputs: list[int]) -> list[str]:
    """Names of the operations that still run one by one: found backwards from the outputs, as the list keeps those
    that a block has taken."""
    maker = {}
    for operation in operations:
        # Blocks come last in the list and so take the place of what they replace.
        maker.update({int(tensor): operation for tensor in operation["outputs"]})
    waiting, seen, outside = list(outputs), set(), []
    while waiting:
        found = maker.get(waiting.pop())
        if found is None or found["index"] in seen:
            continue
        seen.add(found["index"])
        if found["op_name"] != "DELEGATE":
            outside.append(found["op_name"])
        waiting.extend(int(tensor) for tensor in found["inputs"])
    return outside


_ONNX_TYPES = {"fp32": ("float",), "fp16": ("float16",), "int8": ("int8", "uint8")}
_TFLITE_TYPES = {"float32": "fp32", "float16": "fp16", "int8": "int8"}
