"""Hold Ex-AP: give blocks back to floating point, worst first, until int8 costs no more than allowed.

It is measured on the graph that every format is made from, through the SDK, on cropped pictures: the recipe that comes
out is the same for all formats.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_edge.runtimes.base import Runtime
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_eval.annotations.coco import labelled_persons, read_annotations, with_skeleton
from probpose_eval.annotations.crop_set import CropRecipe, write_crop_set
from probpose_eval.evaluate import evaluate
from probpose_eval.predict import predict_set
from probpose_models.torch_runtime import TorchRuntime
from probpose_quant.graph_runtime import GraphRuntime
from probpose_quant.quantization import Quantization
from probpose_quant.sensitivity import BlockDrift, block_sensitivity, export_raw_graph, rounded_graph

CROP_SEED = 0


@dataclass(frozen=True, kw_only=True)
class KeptAccuracy:
    """What holding Ex-AP led to.

    Attributes
    ----------
    quantization: the given one with the blocks that stay in float, and why.
    reference: Ex-AP in full precision, in points. steps: Ex-AP with as many blocks in float as given, with one more,
        and so on; the last one is the one kept.
    sensitivity: drift of every block quantized alone, worst first; empty if it was not needed.
    """

    quantization: Quantization
    reference: float
    steps: tuple[float, ...]
    sensitivity: tuple[BlockDrift, ...]


def keep_accuracy(
    model: nn.Module,
    contract: ModelContract,
    quantization: Quantization,
    check: str,
    max_drop: float,
    *,
    crops: NDArray[np.uint8],
    reference_model: nn.Module | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> KeptAccuracy:
    """Keep as many blocks in float as it takes for a drop of at most `max_drop` points.

    check: ``annotations.json:images/``, judged on its cropped version (seed 0). crops: (M, H, W, 3) uint8 RGB, the
    sensitivity of the blocks is measured on. reference_model: what the drop is counted from, else `model` in float.
    progress: called with (blocks measured, blocks in all).

    Raises `InputError` for another form of `check`, and what reading its data raises.
    """
    path, separator, images = check.partition(":")
    if not separator or not images:
        raise InputError(f"A set to check on is written annotations.json:images/, got {check!r}. Name both parts.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "set"
        write_crop_set(path, images, folder, seed=CROP_SEED, recipe=CropRecipe(padding=contract.activation_padding))
        data = with_skeleton(read_annotations(folder / "annotations.json"), Skeleton.of(contract))
        if not labelled_persons(data):
            raise AnnotationError(f"A set to check on needs labelled persons, but {path} has none. Give another set.")

        def extended(runtime: Runtime) -> float:
            results = predict_set(PoseEstimator(runtime, contract), data, folder / "images")
            figures = evaluate(
                data, results, extended=True, presence_threshold=contract.presence_threshold,
                padding=contract.activation_padding, input_wh=contract.input_wh,
            )  # fmt: skip
            return 100 * figures["Ex-AP"]

        reference = extended(TorchRuntime(reference_model or model))
        graph = export_raw_graph(model, contract)
        recipe, reasons = quantization.recipe, dict(quantization.reasons)
        steps = [extended(GraphRuntime(rounded_graph(graph, recipe, quantization.ranges)))]
        worst: tuple[BlockDrift, ...] = ()
        while reference - steps[-1] > max_drop:
            worst = worst or block_sensitivity(
                model, contract, crops, dataclasses.replace(recipe, float_blocks=()), quantization.ranges,
                progress=progress,
            )  # fmt: skip
            following = next((entry for entry in worst if entry.block not in recipe.float_blocks), None)
            if following is None:
                break
            blocks = (*recipe.float_blocks, following.block)
            recipe = dataclasses.replace(recipe, name=_mixed(recipe.name), float_blocks=blocks)
            reasons[following.block] = (
                f"with {len(steps) - 1} blocks in float Ex-AP was {steps[-1]:.2f}, {reference - steps[-1]:.2f} below "
                f"full precision; of the others, this block alone moves the outputs most (map overlap "
                f"{following.drift.map_overlap:.4f}, probabilities by {following.drift.probability:.4f})"
            )
            steps.append(extended(GraphRuntime(rounded_graph(graph, recipe, quantization.ranges))))
    kept = dataclasses.replace(quantization, recipe=recipe, reasons=reasons)
    return KeptAccuracy(quantization=kept, reference=reference, steps=tuple(steps), sensitivity=worst)


def _mixed(name: str) -> str:
    return name if name.startswith("mixed") else name.replace("int8-static", "mixed")
