"""8-bit weights in an exported ONNX graph; the arithmetic stays in float."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from probpose_convert.onnx_graph import initializer

SMALLEST_INT8_WEIGHT = 512
"""Weights with fewer values stay float32: their scales would take as much room as they save."""
_DECODE = "decode."
"""What the names of the decode's constants begin with: its arithmetic is exact."""


def store_integer_weights(model: ir.Model) -> int:
    """Store the weights of convolutions and matrix products as int8 with one scale per output channel, and return how
    many there were. A runtime turns them back into floats: every run, or once when it loads the file.
    """
    stored: dict[str, ir.Value] = {}
    for node in list(model.graph):
        axis = _output_axis(node)
        weight = node.inputs[1] if axis is not None else None
        tensor = ir.convenience.get_const_tensor(weight) if weight is not None else None
        if axis is None or weight is None or tensor is None or tensor.size < SMALLEST_INT8_WEIGHT:
            continue
        if tensor.dtype != ir.DataType.FLOAT or weight.name is None or weight.name.startswith(_DECODE):
            continue
        if weight.name not in stored:
            stored[weight.name] = _dequantized(model, node, weight.name, tensor.numpy(), axis)
        node.replace_input_with(1, stored[weight.name])
    for name in stored:
        if not model.graph.initializers[name].uses():
            del model.graph.initializers[name]
    return len(stored)


def _output_axis(node: ir.Node) -> int | None:
    """Axis of the output channels in the weights of a node, None for one without weights."""
    if node.op_type == "Gemm":
        return 0 if "transB" in node.attributes and node.attributes["transB"].as_int() else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}.get(node.op_type)


def _dequantized(model: ir.Model, reader: ir.Node, name: str, weight: np.ndarray, axis: int) -> ir.Value:
    others = tuple(other for other in range(weight.ndim) if other != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True).astype(np.float32) / 127
    scale[scale == 0] = 1
    integers = np.round(weight / scale).astype(np.int8)
    inputs = [
        initializer(model, f"{name}_int8", integers),
        initializer(model, f"{name}_scale", scale.reshape(-1)),
    ]
    dequantize = ir.node("DequantizeLinear", inputs, {"axis": axis})
    model.graph.insert_before(reader, dequantize)
    return dequantize.outputs[0]
