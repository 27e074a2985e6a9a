"""Which values of an exported graph are quantized: the one quantizer behind every static int8 file.

Convolutions take int8 and give int8 (ONNX Runtime runs a convolution in int8 only if its output is quantized too);
pads, pools and upsampling between them pass int8 on with the same scale; sums of two int8 values are int8. Linear
layers and matrix products take int8 and give float: quantizing their outputs as well was slower and less accurate.
The network's outputs stay float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantizer import (
    DerivedQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

from probpose_edge.exceptions import InputError
from probpose_quant.blocks import ALWAYS_FLOAT, lies_in
from probpose_quant.fixed_ranges import known_spec, learned_spec, trained_weight_spec
from probpose_quant.observers import activation_spec, weight_spec
from probpose_quant.ranges import Range
from probpose_quant.recipe import Recipe
from probpose_quant.value_keys import module_path, value_keys

aten = torch.ops.aten
_WEIGHT_AXIS: dict[Any, int] = {
    aten.conv2d.default: 0,
    aten.conv2d.padding: 0,
    aten.linear.default: 0,
    # (in, out, height, width): the output channel comes second.
    aten.conv_transpose2d.input: 1,
}
_CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding, aten.conv_transpose2d.input)
_ACTIVATIONS = (aten.relu.default, aten.relu_.default, aten.hardtanh.default, aten.hardtanh_.default)
_SUMS = (aten.add.Tensor, aten.add_.Tensor)
_PADS = (aten.pad.default, aten.constant_pad_nd.default)
_MOVERS = (aten.pixel_shuffle.default, aten.slice.Tensor)
_PASS_THROUGH = (*_PADS, *_MOVERS, aten.max_pool2d.default, aten.upsample_bilinear2d.vec)


class ProbPoseQuantizer(Quantizer):  # type: ignore[misc]
    """Annotates an exported eval graph for `prepare_pt2e`, or for `prepare_qat_pt2e` if `trained`.

    int32_bias: quantize biases to int32 with the scale of the products they are added to, as ONNX Runtime's integer
    kernels need; CoreML takes float biases only. unsigned_activations: uint8 instead of int8, the same values with
    the zero point moved by 128; what x86-64 multiplies fastest. ranges: of every quantized value by its name in
    `value_keys`; without them they are observed. trained: the ranges are where training starts.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        int32_bias: bool = False,
        unsigned_activations: bool = False,
        ranges: Mapping[str, Range] | None = None,
        trained: bool = False,
    ) -> None:
        super().__init__()
        self._recipe = recipe
        self._int32_bias = int32_bias
        self._unsigned = unsigned_activations
        self._ranges = ranges
        self._trained = trained
        self._observed = activation_spec(recipe, unsigned=unsigned_activations)

    def annotate(self, model: GraphModule) -> GraphModule:
        self._keys = value_keys(model.graph)
        self._known: dict[Node, QuantizationSpec] = {}
        # Values that only pass another one on, with its range.
        self._sources: dict[Node, Node] = {}
        integer: set[Node] = set()
        for node in model.graph.nodes:
            if node.op != "call_function" or lies_in(module_path(node), (*self._recipe.float_blocks, *ALWAYS_FLOAT)):
                continue
            if node.target in _CONVOLUTIONS:
                self._annotate_weighted(node)
                self._annotate_output(_with_activation(node), integer)
            elif node.target is aten.linear.default and self._recipe.linear:
                self._annotate_weighted(node)
            elif node.target is aten.matmul.default and self._recipe.linear:
                _annotate(node, {source: self._activation(source) for source in node.args})
            elif node.target in _PASS_THROUGH and (node.args[0] in integer or _pads_for_convolution(node)):
                source = node.args[0]
                _annotate(node, {source: self._activation(source)}, SharedQuantizationSpec((source, node)))
                self._sources[node] = self._sources.get(source, source)
                integer.add(node)
            elif node.target in _SUMS and all(x in integer for x in node.args):
                _annotate(node, {source: self._activation(source) for source in node.args})
                self._annotate_output(_with_activation(node), integer)
        return model

    def _activation(self, node: Node) -> QuantizationSpec:
        """How the value of `node` is quantized: the same object for the same value, or it would be done twice."""
        if self._ranges is None:
            return self._observed
        node = self._sources.get(node, node)
        if node not in self._known:
            key = self._keys[node]
            if key not in self._ranges:
                raise InputError(
                    f"Saved ranges must cover every quantized value of the network, but have none for {key}. "
                    "Quantize the checkpoint again with this version."
                )
            limits = self._ranges[key]
            self._known[node] = learned_spec(limits) if self._trained else known_spec(limits, unsigned=self._unsigned)
        return self._known[node]

    def validate(self, model: GraphModule) -> None:
        """Nothing to refuse: what is not annotated stays float."""

    def _annotate_weighted(self, node: Node) -> None:
        source, weight = node.args[0], node.args[1]
        kernel = (trained_weight_spec if self._trained else weight_spec)(_WEIGHT_AXIS[node.target])
        specs: dict[Any, Any] = {source: self._activation(source), weight: kernel}
        bias = node.args[2] if len(node.args) > 2 else None
        if bias is not None and self._int32_bias:
            specs[bias] = DerivedQuantizationSpec(
                derived_from=[(source, node), (weight, node)],
                derive_qparams_fn=_bias_qparams,
                dtype=torch.int32,
                quant_min=-(2**31),
                quant_max=2**31 - 1,
                qscheme=torch.per_channel_symmetric,
                ch_axis=0,
            )
        _annotate(node, specs)

    def _annotate_output(self, node: Node, integer: set[Node]) -> None:
        if _ends_in_output(node):
            return
        annotation = node.meta.get("quantization_annotation") or QuantizationAnnotation(_annotated=True)
        annotation.output_qspec = self._activation(node)
        node.meta["quantization_annotation"] = annotation
        integer.add(node)


def _annotate(
    node: Node, inputs: dict[Any, Any], output: QuantizationSpec | SharedQuantizationSpec | None = None
) -> None:
    node.meta["quantization_annotation"] = QuantizationAnnotation(
        input_qspec_map=inputs, output_qspec=output, _annotated=True
    )


def _with_activation(node: Node) -> Node:
    """The ReLU or ReLU6 that alone reads `node`, else `node`: the value worth quantizing is the one after it."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in _ACTIVATIONS else node


def _ends_in_output(node: Node) -> bool:
    """Whether the value only goes, reshaped or through a sigmoid, to outputs of the network, or to what is float."""
    to_output = (aten.flatten.using_ints, aten.sigmoid.default)
    return all(
        user.op == "output"
        or lies_in(module_path(user), ALWAYS_FLOAT)
        or (user.target in to_output and _ends_in_output(user))
        for user in node.users
    )


def _pads_for_convolution(node: Node) -> bool:
    """Whether a zero padding of a float value is only read by convolutions, which will want it quantized anyway."""
    return node.target in _PADS and all(user.target in _CONVOLUTIONS for user in node.users)


def _bias_qparams(observers: list[Any]) -> tuple[Tensor, Tensor]:
    (activation_scale, _), (weight_scale, _) = (observer.calculate_qparams() for observer in observers)
    scale = activation_scale * weight_scale
    return scale, torch.zeros_like(scale, dtype=torch.int64)
