"""Biases as ONNX and TFLite files store them: int32, in steps of the products that they are added to.

Torch adds a float bias. The difference is a fraction of a step of the output, but where folding a batch normalisation
left a depthwise convolution large weights that fraction is some hundredths, and sixty layers spread it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from probpose_quant.fixed_ranges import LearnedRange, RoundedPerChannelWeight


@torch.no_grad()
def round_biases(graph: GraphModule) -> None:
    """Round the biases of a graph of `LearnedRange` in place, wherever input and weight of a layer are rounded."""
    for node in graph.graph.nodes:
        if node.op != "call_function" or len(node.args) < 3 or not all(isinstance(x, Node) for x in node.args[:3]):
            continue
        source, weight, bias = node.args[:3]
        values, kernels = _module(graph, source), _module(graph, weight)
        if isinstance(values, LearnedRange) and isinstance(kernels, RoundedPerChannelWeight) and bias.op == "get_attr":
            step = values.log2_scale.exp2() * kernels.scale_of(_attribute(graph, weight.args[0]))
            stored = _attribute(graph, bias)
            stored.copy_((stored / step).round() * step)


def _module(graph: GraphModule, node: Node) -> Any:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _attribute(graph: GraphModule, node: Any) -> Any:
    value: Any = graph
    for name in node.target.split("."):
        value = getattr(value, name)
    return value
