"""Deconvolutions of a float TFLite model as convolutions, for dynamic int8.

XNNPACK multiplies the int8 weights of a transposed convolution at half the speed of those of a convolution: 3.1 and
6.7 ms for the two of probpose-s, of 47 ms. tflite-runtime 2.14 has no dynamic int8 for them at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_convert.tflite_flatbuffer import operator_name, read_flatbuffer, write_flatbuffer
from probpose_edge.extras import import_extra

_TAPS = np.zeros((2, 2, 4), np.float32)
_TAPS[0, 0, 2] = _TAPS[0, 1, 0] = _TAPS[1, 0, 3] = _TAPS[1, 1, 1] = 1
"""[place, i] the tap of the kernel of 4 for input i of two; place 0 holds the output cells of odd index, as in
`probpose_convert.onnx_deconvolution.replace_deconvolutions`, which explains the form."""


def replace_deconvolutions(content: bytes) -> bytes:
    """A float TFLite model with every 4×4 stride-2 transposed convolution as padding, 2×2 convolution, depth-to-space
    and crop; values are the same up to the order of sums.
    """
    model = read_flatbuffer(content)
    (graph,) = model.subgraphs
    operators: list[Any] = []
    for operator in graph.operators:
        replace = operator_name(model, operator) == "TRANSPOSE_CONV" and _doubles(graph, operator)
        operators += _as_convolution(model, graph, operator) if replace else [operator]
    if len(operators) == len(graph.operators):
        return content
    graph.operators = operators
    _drop_unread_constants(model, graph)
    return write_flatbuffer(model)


def _doubles(graph: Any, operator: Any) -> bool:
    """Whether a transposed convolution is 4×4, stride 2, and pads by 1."""
    options = operator.builtinOptions
    same = _schema().Padding.SAME
    kernel = list(graph.tensors[operator.inputs[1]].shape[1:3])
    return kernel == [4, 4] and (options.strideH, options.strideW) == (2, 2) and options.padding == same


def _as_convolution(model: Any, graph: Any, operator: Any) -> list[Any]:
    schema = _schema()
    kernel, source, output = (graph.tensors[i] for i in (operator.inputs[1], operator.inputs[2], operator.outputs[0]))
    name = output.name.decode()
    stored = _values(model, kernel).reshape(kernel.shape)
    # (out, 4, 4, in) → (place in the column, place in the row, out, 2, 2, in)
    weight = np.einsum("oklc,ayk,bxl->aboyxc", stored, _TAPS, _TAPS)
    out, given = stored.shape[0], stored.shape[3]
    bias = _values(model, graph.tensors[operator.inputs[3]]) if len(operator.inputs) > 3 else np.zeros(out, np.float32)
    n, height, width, _ = (int(size) for size in source.shape)

    def constant(part: str, values: NDArray[Any]) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        model.buffers.append(buffer)
        kind = schema.TensorType.INT32 if values.dtype == np.int32 else schema.TensorType.FLOAT32
        return _tensor(graph, f"{name}/{part}", values.shape, kind, len(model.buffers) - 1)

    def computed(part: str, shape: tuple[int, ...]) -> int:
        return _tensor(graph, f"{name}/{part}", shape, schema.TensorType.FLOAT32, 0)

    padded = computed("padded", (n, height + 2, width + 2, given))
    cells = computed("cells", (n, height + 1, width + 1, 4 * out))
    shuffled = computed("shuffled", (n, 2 * height + 2, 2 * width + 2, out))
    border = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
    convolution = schema.Conv2DOptionsT()
    convolution.padding, convolution.strideW, convolution.strideH = schema.Padding.VALID, 1, 1
    convolution.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction
    depth = schema.DepthToSpaceOptionsT()
    depth.blockSize = 2
    steps = (
        ("PAD", [operator.inputs[2], constant("border", border)], padded, schema.PadOptionsT()),
        (
            "CONV_2D",
            [padded, constant("weight", weight.reshape(4 * out, 2, 2, given)), constant("bias", np.tile(bias, 4))],
            cells,
            convolution,
        ),
        ("DEPTH_TO_SPACE", [cells], shuffled, depth),
        (
            "SLICE",
            [
                shuffled,
                constant("begin", np.array([0, 1, 1, 0], np.int32)),
                constant("size", np.array([n, 2 * height, 2 * width, out], np.int32)),
            ],
            operator.outputs[0],
            schema.SliceOptionsT(),
        ),
    )
    return [_operator(model, *step) for step in steps]


def _drop_unread_constants(model: Any, graph: Any) -> None:
    read = {int(index) for operator in graph.operators for index in operator.inputs if index >= 0}
    kept = {graph.tensors[index].buffer for index in read}
    for index, tensor in enumerate(graph.tensors):
        if index not in read and tensor.buffer not in kept:
            model.buffers[tensor.buffer].data = None


def _operator(model: Any, kind: str, inputs: list[int], output: int, options: Any) -> Any:
    schema = _schema()
    number = getattr(schema.BuiltinOperator, kind)
    codes = model.operatorCodes
    index = next((i for i, code in enumerate(codes) if code.builtinCode == number), len(codes))
    if index == len(codes):
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        codes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = index, inputs, [output]
    operator.builtinOptions = options
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    return operator


def _tensor(graph: Any, name: str, shape: tuple[int, ...], kind: int, buffer: int) -> int:
    tensor = _schema().TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), kind, buffer
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _values(model: Any, tensor: Any) -> NDArray[np.float32]:
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32)


def _schema() -> Any:
    return import_extra("Writing .tflite files", "ai_edge_litert.schema_py_generated", "convert")
