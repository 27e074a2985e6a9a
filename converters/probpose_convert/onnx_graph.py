"""Passes over an exported ONNX graph that change its form and not its values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def fold_pads(model: ir.Model) -> int:
    """Merge every zero padding into the convolution that reads it, and return how many were merged.

    A quantized network pads a dequantized value and quantizes it again with the same scale before the convolution:
    that pair changes nothing and goes too. What is left, ``DequantizeLinear → Conv``, is what a runtime turns into one
    integer convolution.
    """
    folded = 0
    for pad in [node for node in model.graph if node.op_type == "Pad"]:
        readers = _readers_of_the_same_values(pad)
        amounts = _spatial_zero_padding(pad)
        if amounts is None or not readers or any(node.op_type != "Conv" or index for node, index in readers):
            continue
        for conv, index in readers:
            before = conv.attributes["pads"].as_ints() if "pads" in conv.attributes else [0] * len(amounts)
            conv.attributes["pads"] = ir.AttrInt64s("pads", [a + b for a, b in zip(before, amounts, strict=True)])
            conv.attributes.pop("auto_pad", None)
            conv.replace_input_with(index, pad.inputs[0])
        folded += 1
    remove_unread(model)
    return folded


def store_linear_layers_for_integers(model: ir.Model) -> int:
    """Give quantized linear layers the form that runs as integers, and return how many there were.

    The exporter writes ``MatMul(x, Transpose(DequantizeLinear(weight))) + DequantizeLinear(bias)``. A runtime sees an
    integer product only if the dequantized weights go into it as they are, so they are stored transposed; and such a
    product is float, so the bias is stored as the float it stands for.
    """
    changed = 0
    for product in [node for node in model.graph if node.op_type == "MatMul"]:
        transpose = _producer(product.inputs[1], "Transpose")
        weight = None if transpose is None else _producer(transpose.inputs[0], "DequantizeLinear")
        if weight is None or len(weight.inputs) != 2:
            continue
        stored = ir.convenience.get_const_tensor(weight.inputs[0])
        if stored is None or len(stored.shape) != 2:
            continue
        turned = initializer(model, f"{weight.inputs[0].name}_transposed", stored.numpy().T)
        dequantize = ir.node("DequantizeLinear", [turned, weight.inputs[1]], {"axis": 1 - _axis(weight)})
        model.graph.insert_before(product, dequantize)
        product.replace_input_with(1, dequantize.outputs[0])
        for add, _ in product.outputs[0].uses():
            if add.op_type == "Add":
                _store_float_bias(model, add)
        changed += 1
    remove_unread(model)
    return changed


def strip_notes(model: ir.Model) -> None:
    """Drop what the exporter noted on nodes and values (source lines, stack traces): a fifth of an int8 file."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    model.metadata_props.clear()


def _store_float_bias(model: ir.Model, add: ir.Node) -> None:
    """Replace a dequantized constant that is added by its float values."""
    for index, value in enumerate(add.inputs):
        dequantize = _producer(value, "DequantizeLinear")
        if dequantize is None or len(dequantize.inputs) != 2:
            continue
        stored, scale = (ir.convenience.get_const_tensor(source) for source in dequantize.inputs)
        if stored is not None and scale is not None and stored.shape == scale.shape:
            values = stored.numpy().astype(np.float32) * scale.numpy()
            add.replace_input_with(index, initializer(model, f"{dequantize.inputs[0].name}_float", values))


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that computes `value`, if it is of that type."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _axis(dequantize: ir.Node) -> int:
    return dequantize.attributes["axis"].as_int() if "axis" in dequantize.attributes else 1


def initializer(model: ir.Model, name: str, array: NDArray[Any]) -> ir.Value:
    """A new stored constant of the graph."""
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def _readers_of_the_same_values(pad: ir.Node) -> list[tuple[ir.Node, int]]:
    """Who reads the padded value, looking through a quantize and dequantize with the scale it came with."""
    dequantize = pad.inputs[0].producer() if pad.inputs[0] is not None else None
    readers: list[tuple[ir.Node, int]] = []
    for node, index in pad.outputs[0].uses():
        if node.op_type == "QuantizeLinear" and dequantize is not None and _same_grid(node, dequantize):
            for second, _ in node.outputs[0].uses():
                if second.op_type != "DequantizeLinear" or not _same_grid(second, dequantize):
                    return []
                readers += second.outputs[0].uses()
        else:
            readers.append((node, index))
    return readers


def _same_grid(a: ir.Node, b: ir.Node) -> bool:
    """Whether two quantize or dequantize nodes have equal scale and zero point."""
    if b.op_type != "DequantizeLinear" or len(a.inputs) != len(b.inputs):
        return False
    for first, second in zip(a.inputs[1:], b.inputs[1:], strict=True):
        one, other = ir.convenience.get_const_tensor(first), ir.convenience.get_const_tensor(second)
        if one is None or other is None or one.dtype != other.dtype or (one.numpy() != other.numpy()).any():
            return False
    return True


def _spatial_zero_padding(pad: ir.Node) -> list[int] | None:
    """``[top, left, bottom, right]`` of a constant zero padding of NCHW, else None."""
    mode = pad.attributes["mode"].as_string() if "mode" in pad.attributes else "constant"
    amounts = ir.convenience.get_const_tensor(pad.inputs[1]) if len(pad.inputs) > 1 and pad.inputs[1] else None
    value = ir.convenience.get_const_tensor(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] else None
    if mode != "constant" or amounts is None or amounts.size != 8 or (len(pad.inputs) > 3 and pad.inputs[3]):
        return None
    if len(pad.inputs) > 2 and pad.inputs[2] and (value is None or float(value.numpy()) != 0):
        return None
    flat = [int(amount) for amount in amounts.numpy()]
    return None if any(flat[i] for i in (0, 1, 4, 5)) else [flat[2], flat[3], flat[6], flat[7]]


def remove_unread(model: ir.Model) -> None:
    outputs = set(model.graph.outputs)
    for node in reversed(list(model.graph)):
        if all(not value.uses() and value not in outputs for value in node.outputs):
            model.graph.remove(node, safe=True)
    for name in [name for name, value in model.graph.initializers.items() if not value.uses() and value not in outputs]:
        del model.graph.initializers[name]
