"""Which blocks suffer most from int8: each is quantized alone, everything else stays in float."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule

from probpose_edge.contract.metadata import ModelContract
from probpose_models.torch_runtime import TorchRuntime
from probpose_quant.blocks import block_names
from probpose_quant.calibrate import export_graph
from probpose_quant.drift import OutputDrift, output_drift
from probpose_quant.fold_batch_norms import fold_batch_norms
from probpose_quant.graph_runtime import GraphRuntime, TrainedOutputs
from probpose_quant.ranges import Range
from probpose_quant.recipe import Recipe
from probpose_quant.round_biases import round_biases


@dataclass(frozen=True, kw_only=True)
class BlockDrift:
    """What quantizing one block alone does to the outputs."""

    block: str
    drift: OutputDrift


def block_sensitivity(
    model: nn.Module,
    contract: ModelContract,
    crops: NDArray[np.uint8],
    recipe: Recipe,
    ranges: Mapping[str, Range],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[BlockDrift, ...]:
    """The drift of every block quantized alone, worst first; crops (M, H, W, 3) uint8 RGB.

    ranges: of all quantized values, as `find_ranges` gives them. Raises as `output_drift`.
    """
    graph = export_raw_graph(model, contract)
    reference = TorchRuntime(model).run(crops)
    names = block_names(model)
    drifts = []
    for done, name in enumerate(names):
        alone = dataclasses.replace(recipe, float_blocks=tuple(other for other in names if other != name))
        outputs = GraphRuntime(rounded_graph(graph, alone, ranges)).run(crops)
        drifts.append(BlockDrift(block=name, drift=output_drift(reference, outputs, contract)))
        if progress is not None:
            progress(done + 1, len(names))
    return tuple(sorted(drifts, key=lambda entry: -entry.drift.size))


def export_raw_graph(model: nn.Module, contract: ModelContract) -> GraphModule:
    """The float graph that `rounded_graph` takes; exporting is slow, and many recipes are tried on one."""
    width, height = contract.input_wh
    return export_graph(TrainedOutputs(fold_batch_norms(model)), (height, width))


@torch.no_grad()
def rounded_graph(graph: GraphModule, recipe: Recipe, ranges: Mapping[str, Range]) -> GraphModule:
    """A copy of a graph of `export_raw_graph` that computes what the int8 file will, in floats."""
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    from probpose_quant.quantizer import ProbPoseQuantizer

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # torch's own, of its copies
        rounded: GraphModule = prepare_qat_pt2e(
            copy.deepcopy(graph), ProbPoseQuantizer(recipe, ranges=ranges, trained=True)
        )
    round_biases(rounded)
    return rounded
