"""Post-training static quantization: export, observe example crops, convert."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule

from probpose_edge.exceptions import InputError
from probpose_models.deploy import Deployable
from probpose_quant.blocks import check_blocks
from probpose_quant.fold_batch_norms import fold_batch_norms
from probpose_quant.recipe import Recipe


@torch.no_grad()
def quantize_static(
    model: nn.Module,
    calibration_crops: NDArray[np.uint8],
    recipe: Recipe,
    *,
    int32_bias: bool,
    unsigned_activations: bool = False,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    batch_size: int = 8,
) -> GraphModule:
    """A network, or a `Deployable` around one, as a graph with quantize and dequantize operators in it.

    Parameters
    ----------
    model: the network in float32; it is not changed.
    calibration_crops: (M, H, W, 3) uint8 RGB, M >= 1, typical of what the file will see.
    int32_bias, unsigned_activations: what the target's kernels want, see `ProbPoseQuantizer`.
    ranges: of the quantized values by name, where they are known (`find_ranges`, or learned); the crops then only say
        how large the picture is.

    Returns a graph module with the signature of `Deployable`, batch normalisations folded, weights stored as int8,
    any batch size. Raises `InputError` without calibration crops, for crops of one colour, for a recipe with blocks
    that the network does not have, and for ranges that do not cover it.
    """
    # Here rather than at the top: the messages torchao prints while it loads belong to no one who does not use it.
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from probpose_quant.quantizer import ProbPoseQuantizer

    check_crops(calibration_crops)
    deployable = model if isinstance(model, Deployable) else Deployable(fold_batch_norms(model))
    check_blocks(deployable.model, recipe.float_blocks)
    graph = export_graph(deployable, calibration_crops[:1].shape[1:3])
    quantizer = ProbPoseQuantizer(
        recipe, int32_bias=int32_bias, unsigned_activations=unsigned_activations, ranges=ranges
    )
    prepared = prepare_pt2e(graph, quantizer)
    for first in range(0, len(calibration_crops) if ranges is None else 1, batch_size):
        prepared(torch.from_numpy(np.ascontiguousarray(calibration_crops[first : first + batch_size])))
    quantized: GraphModule = convert_pt2e(prepared)
    return quantized


def check_crops(crops: NDArray[np.uint8]) -> None:
    """Raise `InputError` if there are no calibration crops, or if they show nothing."""
    if len(crops) == 0:
        raise InputError(
            "Static quantization takes its ranges from example crops and got none. "
            "Name annotated pictures with --calib (calibration_crops in Python)."
        )
    if crops.min() == crops.max():
        raise InputError(
            f"Calibration crops must show something, but every pixel of all {len(crops)} has the value "
            f"{int(crops.min())}: ranges taken from them would cut everything else off. Give photographs of people."
        )


def crops_hash(crops: NDArray[np.uint8]) -> str:
    """SHA-256 over the pixels of calibration crops, whatever their order: what a file's ranges were taken from."""
    each = sorted(hashlib.sha256(np.ascontiguousarray(crop)).digest() for crop in crops)
    return hashlib.sha256(b"".join(each)).hexdigest()


def export_graph(model: nn.Module, image_hw: tuple[int, ...]) -> GraphModule:
    """The eval graph of a network or `Deployable` with a free batch size and nothing in it but arithmetic."""
    deployable = model if isinstance(model, Deployable) else Deployable(model)
    modes = [(module, module.training) for module in deployable.modules()]
    deployable.eval()
    try:
        image = torch.zeros(2, *image_hw, 3, dtype=torch.uint8)
        batch = torch.export.Dim("batch", min=1, max=4096)
        program = torch.export.export(deployable, (image,), dynamic_shapes={"image": {0: batch}})
    finally:
        for module, training in modes:
            module.training = training
    graph = program.module(check_guards=False)
    for node in list(graph.graph.nodes):
        # Neither computes anything, and both would stand between a value and its quantizer.
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
        elif node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.graph.erase_node(node)
    graph.recompile()
    return graph
