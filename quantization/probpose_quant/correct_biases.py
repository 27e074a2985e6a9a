"""Bias correction: what rounding adds to the mean of a channel is taken out of its bias (Nagel et al., ICCV 2019)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from probpose_edge.contract.metadata import ModelContract
from probpose_quant.frozen_norms import norm_behind
from probpose_quant.ranges import Range
from probpose_quant.recipe import Recipe
from probpose_quant.sensitivity import export_raw_graph, rounded_graph
from probpose_quant.value_keys import module_path

_WEIGHTED = ("conv2d", "conv_transpose2d", "linear")


@torch.no_grad()
def correct_biases(
    model: nn.Module,
    contract: ModelContract,
    crops: NDArray[np.uint8],
    recipe: Recipe,
    ranges: Mapping[str, Range],
) -> nn.Module:
    """A copy of the network whose layers, quantized, have the mean outputs that they have in float on the crops.

    Layer by layer: each is corrected for inputs that come through the corrected ones before it. crops: (M, H, W, 3)
    uint8 RGB. Layers without a bias, their own or of the normalisation behind them, stay as they are.
    """
    image = torch.from_numpy(np.ascontiguousarray(crops))
    graph = export_raw_graph(model, contract)
    float_pass = _Means(graph)
    float_pass.run(image)
    rounded_pass = _Means(rounded_graph(graph, recipe, ranges), float_pass.means)
    rounded_pass.run(image)
    corrected = copy.deepcopy(model)
    for path, shift in rounded_pass.shifts.items():
        layer = norm_behind(corrected, path) or corrected.get_submodule(path)
        if layer.bias is not None:
            layer.bias += shift
    return corrected


class _Means(Interpreter):
    """Takes down the mean of every output channel of every layer with weights, or moves it to the wanted one."""

    def __init__(self, graph: GraphModule, wanted: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(graph)
        self.means: dict[str, Tensor] = {}
        self.shifts: dict[str, Tensor] = {}
        self._wanted = wanted

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        operator = str(getattr(n.target, "overloadpacket", "")).rpartition(".")[2]
        path = module_path(n)
        if n.op != "call_function" or operator not in _WEIGHTED or not path:
            return value
        axis = value.ndim - 1 if operator == "linear" else 1
        mean = value.mean([other for other in range(value.ndim) if other != axis])
        if self._wanted is None:
            self.means[path] = mean
            return value
        self.shifts[path] = self._wanted[path] - mean
        shape = [-1 if other == axis else 1 for other in range(value.ndim)]
        return value + self.shifts[path].view(shape)
