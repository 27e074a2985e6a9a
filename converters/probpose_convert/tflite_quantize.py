"""float16 and int8 versions of a float TFLite model, by ai-edge-quantizer."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection
from typing import Any

from probpose_convert.quiet import quiet_libraries
from probpose_convert.tflite_calibrate import Ranges
from probpose_convert.tflite_deconvolution import replace_deconvolutions
from probpose_convert.tflite_flatbuffer import operator_name, read_flatbuffer, write_flatbuffer
from probpose_edge.exceptions import ConversionError
from probpose_edge.extras import import_extra

INT8_RECIPES = ("int8-static", "int8-dynamic", "int8-weights")

_PURPOSE = "Quantizing .tflite files"
_EVERYWHERE = ".*"
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED", "BATCH_MATMUL")
"""Operators with a large constant, by ai-edge-quantizer's names."""
_CARRIERS = ("ADD", "RESIZE_BILINEAR", "MAX_POOL_2D")
"""What lies between the convolutions: in int8 too, or every one of them would convert to float and back."""
_SCHEMA_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
"""TFLite's schema → ai-edge-quantizer, where they differ."""


def quantize_tflite(
    content: bytes, recipe: str, ranges: Ranges | None = None, *, float_outputs: Collection[str] = ()
) -> bytes:
    """A smaller version of a float TFLite model; its inputs and outputs keep their types.

    - ``"fp16"``: float16 weights, float32 arithmetic. Depthwise weights stay float32: they are 2 % of probpose-m, but
      rounded too they raise the error of its logits from 0.3 to 1.5 %, where one multiplies a nearly constant channel.
    - ``"int8-weights"``: int8 weights per output channel, float32 arithmetic.
    - ``"int8-dynamic"``: the same weights; activations are quantized while running, in int8 arithmetic. Depthwise
      convolutions compute in float32: XNNPACK has no such kernel for them and would fall apart into 18 partitions.
      Deconvolutions become convolutions, which XNNPACK multiplies faster.
    - ``"int8-static"``: int8 weights, activations and arithmetic with fixed ranges. The normalisation and the layers
      that give the outputs compute in float32, on int8 weights. Those layers are 1 % of the work, but with one scale
      for all logits the maps overlap those of fp32 by 0.73 instead of 0.94.

    ranges: for ``"int8-static"``, of activations and weights. float_outputs: tensors whose operators stay as they are,
    weights included. Raises `MissingExtraError` without ai-edge-quantizer,
    `ConversionError` if it cannot quantize the model.
    """
    if recipe == "int8-dynamic":
        content = replace_deconvolutions(content)
    quantizer = import_extra(_PURPOSE, "ai_edge_quantizer.quantizer", "convert").Quantizer(content)
    _configure(quantizer, content, recipe)
    with quiet_libraries():  # it would tell of every recipe that this one overwrites
        _leave_out(quantizer, content, float_outputs)
    known = None if ranges is None else {name: {"min": low, "max": high} for name, (low, high) in ranges.items()}
    try:
        # Its progress bars cannot be switched off.
        with quiet_libraries(), contextlib.redirect_stderr(io.StringIO()):
            quantized = quantizer.quantize(known, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError, KeyError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConversionError(
            f"ai-edge-quantizer must have the operators of a network for {recipe}, but failed with "
            f"{type(error).__name__}: {reason}. Choose another recipe."
        ) from error
    return write_flatbuffer(read_flatbuffer(bytes(quantized.quantized_model)))


def _configure(quantizer: Any, content: bytes, recipe: str) -> None:
    types = import_extra(_PURPOSE, "ai_edge_quantizer.qtyping", "convert")
    names = types.TFLOperationName
    if recipe == "fp16":
        half = types.OpQuantizationConfig(
            weight_tensor_config=types.TensorQuantizationConfig(num_bits=16, dtype=types.TensorDataType.FLOAT),
            compute_precision=types.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        )
        for operator in ("CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED"):
            quantizer.update_quantization_recipe(_EVERYWHERE, names[operator], half, "float_casting")
    elif recipe == "int8-weights":
        for operator in _WEIGHTED:
            quantizer.add_weight_only_config(_EVERYWHERE, names[operator], num_bits=8)
    elif recipe == "int8-dynamic":
        for operator in _WEIGHTED:
            depthwise = operator == "DEPTHWISE_CONV_2D"
            add = quantizer.add_weight_only_config if depthwise else quantizer.add_dynamic_config
            add(_EVERYWHERE, names[operator], num_bits=8)
    else:
        for operator in (*_WEIGHTED, *_CARRIERS):
            quantizer.add_static_config(_EVERYWHERE, names[operator], activation_num_bits=8, weight_num_bits=8)
        for operator, output in _output_layers(content):
            # The quantizer matches the name of an operator's output, followed by a semicolon.
            quantizer.add_weight_only_config(f"^{re.escape(output)};$", names[operator], num_bits=8)


def _leave_out(quantizer: Any, content: bytes, float_outputs: Collection[str]) -> None:
    names = import_extra(_PURPOSE, "ai_edge_quantizer.qtyping", "convert").TFLOperationName
    model = read_flatbuffer(content)
    (graph,) = model.subgraphs
    for operator in graph.operators if float_outputs else ():
        output, kind = graph.tensors[operator.outputs[0]].name.decode(), operator_name(model, operator)
        if output in float_outputs:
            quantizer.update_quantization_recipe(
                f"^{re.escape(output)};$", names[_SCHEMA_NAMES.get(kind, kind)], algorithm_key="no_quantize"
            )


def _output_layers(content: bytes) -> list[tuple[str, str]]:
    """Type and output name of the last operator with weights before each output of a model."""
    model = read_flatbuffer(content)
    (graph,) = model.subgraphs
    producers = {index: operator for operator in graph.operators for index in operator.outputs}
    layers = []
    for index in graph.outputs:
        while index in producers:
            operator = producers[index]
            kind = operator_name(model, operator)
            kind = _SCHEMA_NAMES.get(kind, kind)
            if kind in _WEIGHTED:
                layers.append((kind, graph.tensors[operator.outputs[0]].name.decode()))
                break
            index = operator.inputs[0]
    return layers
