"""Which block makes a file drift from its network, and what to do about it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probpose_convert.export_config import ExportConfig
from probpose_convert.export_result import Parity
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import ConversionError
from probpose_edge.runtimes.base import Runtime
from probpose_models.torch_runtime import TorchRuntime
from probpose_quant.blocks import block_names, lies_in
from probpose_quant.fold_batch_norms import fold_batch_norms
from probpose_quant.ranges import FEWEST_CROPS

CROPS = 4
"""Crops that blocks are compared on: a ruined block shows on every one."""
_RANGE_CROPS = 32
_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_SHOWN = 3
_LITTLE = 0.25
"""Share of what the file is off by below which the worst block explains nothing."""

Measure = Callable[[Runtime, nn.Module, ModelContract, NDArray[np.uint8]], Parity]


def explain_drift(
    model: nn.Module, contract: ModelContract, config: ExportConfig, recipe: str, measure: Measure, off: Parity | None
) -> str:
    """Sentences: the blocks that move the outputs most when each alone is rounded as the file rounds it, the worst
    layer of the worst one, and the way out.

    contract: of the network. recipe: what the file was made by, ``"fp32"`` and ``"fp16"`` included. measure: compares a
    runtime with the network, as `measure_parity`. off: what the file shows; None if its outputs are not finite.
    """
    if recipe == "fp32":
        return "Nothing is rounded in such a file, so the translation itself is at fault: report this."
    rounded = _rounding(model, contract, config, recipe)
    crops = config.parity_crops[:CROPS]

    def drifts(paths: Iterable[str]) -> list[tuple[float, str]]:
        return sorted(((_drift(rounded(path), model, contract, crops, measure), path) for path in paths), reverse=True)

    blocks = drifts(block_names(model))
    size, worst = blocks[0]
    if off is not None and size < _LITTLE * _size(off):
        return (
            f"Rounded alone, no block explains that (the worst, {worst}: {_text(size)}): it adds up over all of them, "
            "or the translation is at fault. Use a higher precision, and report this if that is off too."
        )
    layers = [
        name for name, part in model.get_submodule(worst).named_modules(prefix=worst) if isinstance(part, _WEIGHTED)
    ]
    layer = drifts(layers)[0][1] if len(layers) > 1 else next(iter(layers), worst)
    others = ", ".join(f"{path} {_text(value)}" for value, path in blocks[1:_SHOWN])
    kind = type(model.get_submodule(layer)).__name__
    return (
        f"Rounded alone, the block {worst} moves the outputs most ({_text(size)}; next: {others or 'none'}), and in it "
        f"the {kind} {layer}. {_remedy(worst, recipe)}"
    )


def _remedy(block: str, recipe: str) -> str:
    if recipe == "fp16":
        return f"Its values are too large or too fine for float16: use fp32, or rescale {block}."
    keep = f"Keep it in float: `probpose-edge quantize CHECKPOINT --float-block {block}`, then convert what that writes"
    if _is_static(recipe):
        return f"{keep}; or give more and more typical calibration crops (--calib)."
    return f"{keep} with --precision int8; or use fp16."


def _is_static(recipe: str) -> bool:
    """Saved recipes have longer names, such as ``mixed-qat``."""
    return recipe.startswith(("int8-static", "mixed"))


def _drift(
    runtime: Runtime, model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8], measure: Measure
) -> float:
    try:
        return _size(measure(runtime, model, contract, crops))
    except ConversionError:  # not finite
        return float("inf")


def _size(parity: Parity) -> float:
    """The relative error of the logits, of the second map if that is worse, or of a probability if that is."""
    figures = (parity.logits_relative, parity.expert_logits_relative, parity.probability_mean_abs)
    return max(value for value in figures if value is not None)


def _text(size: float) -> str:
    return "NaN or infinity" if size == float("inf") else f"off by {size:.3g}"


def _rounding(model: nn.Module, contract: ModelContract, config: ExportConfig, recipe: str) -> Callable[[str], Runtime]:
    """Module path → the network of which that part alone is rounded."""
    if recipe == "fp16":
        return lambda path: TorchRuntime(_half(model, path))
    crops, saved = config.calibration_crops, config.quantization
    if not _is_static(recipe) or (saved is None and (crops is None or len(crops) < FEWEST_CROPS)):
        return lambda path: TorchRuntime(_with_integer_weights(model, path))
    from probpose_quant.graph_runtime import GraphRuntime
    from probpose_quant.ranges import find_ranges
    from probpose_quant.recipes import RECIPES
    from probpose_quant.sensitivity import export_raw_graph, rounded_graph

    base = saved.recipe if saved else RECIPES["int8-static"]
    if saved:
        ranges = saved.ranges
    else:
        assert crops is not None
        ranges = find_ranges(model, crops[:_RANGE_CROPS], dataclasses.replace(base, float_blocks=()))
    graph = export_raw_graph(model, contract)
    layers = [name for name, part in model.named_modules() if isinstance(part, _WEIGHTED)]

    def alone(path: str) -> Runtime:
        kept = tuple(layer for layer in layers if not lies_in(layer, (path,)) or lies_in(layer, base.float_blocks))
        return GraphRuntime(rounded_graph(graph, dataclasses.replace(base, float_blocks=kept), ranges))

    return alone


@torch.no_grad()
def _with_integer_weights(model: nn.Module, path: str) -> nn.Module:
    """A copy, batch normalisations folded, with the weights in `path` on the grid of 255 steps per output channel."""
    from probpose_quant.fixed_ranges import RoundedPerChannelWeight  # imports torchao, slow and needed for this alone

    network = fold_batch_norms(model)
    for name, part in network.named_modules():
        if isinstance(part, _WEIGHTED) and lies_in(name, (path,)):
            axis = 1 if isinstance(part, nn.ConvTranspose2d) else 0
            part.weight.copy_(RoundedPerChannelWeight(axis, torch.int8, -127, 127)(part.weight))
    return network


@torch.no_grad()
def _half(model: nn.Module, path: str) -> nn.Module:
    """A copy in which weights and results of the layers in `path` are rounded to float16."""
    network = copy.deepcopy(model).eval()

    def round_result(_module: nn.Module, _inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
        return result.half().float()

    for name, part in network.named_modules():
        if lies_in(name, (path,)) and not list(part.children()):
            for value in part.parameters():
                value.copy_(value.half().float())
            part.register_forward_hook(round_result)
    return network
