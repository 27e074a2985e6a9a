"""Ranges by what they do to the outputs: narrowed one by one for as long as the outputs come closer to full precision.

The range of least squared error serves all values of a tensor alike. Not all count alike: in the last layers of a map
head the largest values belong to the background, which a probability map cuts to zero however low it lies, while the
few cells of a keypoint lie in a tenth of the range. Judging a step by the loss of the whole network is due to Nahshan
et al. ("Loss aware post-training quantization", 2019); here the loss is the drift of the outputs, without labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.runtimes.base import RawOutputs
from probpose_models.deploy import deployed_outputs
from probpose_models.outputs import PoseOutputs
from probpose_models.torch_runtime import TorchRuntime
from probpose_quant.blocks import lies_in
from probpose_quant.drift import output_drift
from probpose_quant.fixed_ranges import LearnedRange, ranges_of
from probpose_quant.ranges import Range, find_ranges
from probpose_quant.recipe import Recipe
from probpose_quant.sensitivity import export_raw_graph, rounded_graph
from probpose_quant.value_keys import IMAGE, value_keys

FACTOR = 0.8
"""What a range is multiplied with at each try."""
PATIENCE = 2
"""Tries in succession that may fail before a range stays: rounding everywhere else makes drift a little random."""

NARROWED_ON = 12
"""Crops: every try runs them."""
_KEPT = ("backbone",)
"""Parts whose ranges stay: what is behind them reads their values for many purposes."""


def recipe_ranges(
    model: nn.Module,
    contract: ModelContract,
    crops: NDArray[np.uint8],
    recipe: Recipe,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Range]:
    """`find_ranges`, then `narrow_ranges` on the first crops if the recipe says so; raises as they do."""
    ranges = find_ranges(model, crops, recipe, progress=None if recipe.narrowed else progress)
    if not recipe.narrowed:
        return ranges
    return narrow_ranges(model, contract, crops[:NARROWED_ON], recipe, ranges, progress=progress)


@torch.no_grad()
def narrow_ranges(
    model: nn.Module,
    contract: ModelContract,
    crops: NDArray[np.uint8],
    recipe: Recipe,
    ranges: Mapping[str, Range],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Range]:
    """The given ranges, those of the heads as narrow as helps the outputs on the crops, in the order of computation.

    crops: (M, H, W, 3) uint8 RGB, a dozen. ranges: of every value that `recipe` quantizes, as `find_ranges` gives
    them; those of other values come back as they are. Both ends of a range shrink alike, so zero stays where it is on
    the grid. Raises as `output_drift`.
    """
    reference = TorchRuntime(model).run(crops)
    graph = rounded_graph(export_raw_graph(model, contract), recipe, ranges)
    replay = _Replay(graph, torch.from_numpy(np.ascontiguousarray(crops)))

    def size() -> float:
        return output_drift(reference, replay.outputs(), contract).size

    least = size()
    while (rounding := replay.advance()) is not None:
        narrowest, failures = rounding.log2_scale.clone(), 0
        while failures < PATIENCE:
            rounding.log2_scale.add_(float(np.log2(FACTOR)))
            got = size()
            if got < least:
                least, narrowest, failures = got, rounding.log2_scale.clone(), 0
            else:
                failures += 1
        rounding.log2_scale.copy_(narrowest)
        if progress is not None:
            progress(replay.done, replay.total)
    return {**ranges, **ranges_of(graph)}


class _Replay:
    """A graph that has run up to the next value to round, and can be run from there to its end again and again."""

    def __init__(self, graph: GraphModule, image: Tensor) -> None:
        self._interpreter = Interpreter(graph)
        self._image = image
        self._nodes = list(graph.graph.nodes)
        keys = value_keys(graph.graph)
        roundings = {
            node: module
            for node in self._nodes
            if node.op == "call_module" and isinstance(module := graph.get_submodule(node.target), LearnedRange)
        }
        # One that also rounds a value of a part whose ranges stay, stays.
        kept = {id(module) for node, module in roundings.items() if _stays(keys[node.args[0]])}
        self._roundings = {node: module for node, module in roundings.items() if id(module) not in kept}
        self._last_use = {used: node for node in self._nodes for used in node.all_input_nodes}
        self._values: dict[Node, Any] = {}
        self._at, self._seen = 0, set[int]()
        self.total, self.done = len({id(module) for module in self._roundings.values()}), 0

    def advance(self) -> LearnedRange | None:
        """Go on to the next value that has a range of its own; its range, or None at the end."""
        while self._at < len(self._nodes):
            node = self._nodes[self._at]
            rounding = self._roundings.get(node)
            if rounding is not None and id(rounding) not in self._seen:
                self._seen.add(id(rounding))
                self.done = len(self._seen)
                return rounding
            self._run(node, self._values)
            self._at += 1
        return None

    def outputs(self) -> RawOutputs:
        """What the network gives with the ranges as they are."""
        values = dict(self._values)
        for node in self._nodes[self._at :]:
            result = self._run(node, values)
        raw = deployed_outputs(PoseOutputs(*result))
        return RawOutputs(**{name: value.float().numpy() for name, value in raw.items()})

    def _run(self, node: Node, values: dict[Node, Any]) -> Any:
        self._interpreter.env = values
        value = values[node] = self._image if node.op == "placeholder" else self._interpreter.run_node(node)
        for used in node.all_input_nodes:
            if self._last_use[used] is node:
                del values[used]
        return value


def _stays(key: str) -> bool:
    return key == IMAGE or lies_in(key.partition(":")[0], _KEPT)
