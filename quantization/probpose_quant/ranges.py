"""Ranges of the quantized values of a network, from example crops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from probpose_edge.exceptions import InputError
from probpose_models.deploy import Deployable
from probpose_quant.calibrate import check_crops, export_graph
from probpose_quant.fold_batch_norms import fold_batch_norms
from probpose_quant.recipe import Recipe
from probpose_quant.value_keys import value_keys

Range = tuple[float, float]
"""Smallest and largest value that 8 bits represent."""
FEWEST_CROPS = 8
"""Fewer persons than this do not show what a network computes; a hundred are usual."""


def check_enough_crops(crops: NDArray[np.uint8]) -> None:
    """Raise `InputError` for fewer than `FEWEST_CROPS`."""
    if len(crops) < FEWEST_CROPS:
        raise InputError(
            f"Ranges need at least {FEWEST_CROPS} example crops, got {len(crops)}. Give a set with more persons."
        )


@torch.no_grad()
def find_ranges(
    model: nn.Module,
    crops: NDArray[np.uint8],
    recipe: Recipe,
    *,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Range]:
    """Name of every value that `recipe` quantizes (see `value_keys`) → the smallest and largest value to represent.

    crops: (M, H, W, 3) uint8 RGB, M >= `FEWEST_CROPS`. The network is not changed.
    Raises `InputError` for fewer crops, and for crops of one colour.
    """
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    from probpose_quant.quantizer import ProbPoseQuantizer

    check_crops(crops)
    check_enough_crops(crops)
    graph = export_graph(Deployable(fold_batch_norms(model)), crops.shape[1:3])
    prepared = prepare_pt2e(graph, ProbPoseQuantizer(recipe))
    for first in range(0, len(crops), batch_size):
        prepared(torch.from_numpy(np.ascontiguousarray(crops[first : first + batch_size])))
        if progress is not None:
            progress(min(first + batch_size, len(crops)), len(crops))
    keys = value_keys(prepared.graph)
    ranges: dict[str, Range] = {}
    for node in prepared.graph.nodes:
        if node.op == "call_module" and node.args[0] in keys:
            observer = prepared.get_submodule(node.target)
            scale, zero_point = (float(value) for value in observer.calculate_qparams())
            ranges[keys[node.args[0]]] = (
                (observer.quant_min - zero_point) * scale,
                (observer.quant_max - zero_point) * scale,
            )
    return ranges
