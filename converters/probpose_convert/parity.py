"""Compare a converted file with the network it came from, before the file gets its name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from probpose_convert.explain_drift import explain_drift
from probpose_convert.export_config import ExportConfig
from probpose_convert.export_result import ExportResult, Parity, result_of
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.decode import decode_heatmaps, decode_maps
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import ConversionError, ModelFileError
from probpose_edge.probmap import sparsemax_maps
from probpose_edge.runtimes.base import RawOutputs, Runtime
from probpose_models.decode_in_graph import decoded_contract
from probpose_models.torch_runtime import TorchRuntime


@dataclass(frozen=True, kw_only=True)
class ParityBound:
    """The largest differences a file may show; see `Parity` for the figures.

    maps_alike: overlap of the maps from which on the logits may differ by their own size: narrow ranges cut off how low
        those of the background lie, and a probability map does not tell.
    """

    logits_relative: float
    keypoint_shift_cell: float
    probability_mean_abs: float
    maps_alike: float = math.inf


PARITY_BOUNDS = {
    # Only the order of float32 sums differs: about 3e-6 of the logits.
    "fp32": ParityBound(logits_relative=1e-3, keypoint_shift_cell=0.01, probability_mean_abs=1e-4),
    # float16 keeps 11 bits: 5e-4 per layer. Sixty layers of a MobileNetV2 amplify that: 0.02 of the logits was seen.
    "fp16": ParityBound(logits_relative=0.06, keypoint_shift_cell=0.1, probability_mean_abs=0.02),
    # Guards against a broken file (channels swapped, a normalisation missing, a layer with a wrong scale), which is
    # off by its whole size: means and medians, because the worst of a few hundred probabilities may well be one that
    # was undecided. What int8 costs in accuracy is for the evaluation to say.
    "int8": ParityBound(logits_relative=0.4, keypoint_shift_cell=1.0, probability_mean_abs=0.1, maps_alike=0.7),
}


def measure_parity(runtime: Runtime, model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]) -> Parity:
    """Run `crops` (N, H, W, 3) uint8 RGB through a file and through the torch network in float32, and compare.

    runtime: opened on the file. model: the network, float32. contract: temperature, sigmas and decode kernel.
    Raises `ConversionError` if the file's outputs have other shapes or are not finite.
    """
    reference = TorchRuntime(model).run(crops)
    outputs = runtime.run(crops)
    if list(reference.named()) != list(outputs.named()):
        raise ConversionError(
            f"The converted file must give {', '.join(reference.named())}, but gives {', '.join(outputs.named())} in "
            f"{runtime.name}. Report this: the file is unusable and was not kept."
        )
    for name, expected in reference.named().items():
        got = outputs.named()[name]
        if got.shape != expected.shape:
            raise ConversionError(
                f"The converted file must give {name} of shape {expected.shape}, but gives {got.shape} in "
                f"{runtime.name}. Report this: the file is unusable and was not kept."
            )
        if not np.isfinite(got).all():
            raise ConversionError(
                f"The converted file must give finite {name}, but gives NaN or infinity in {runtime.name}. "
                "The file was not kept."
            )
    return _compare(reference, outputs, contract)


def measure_decoded_parity(
    runtime: Runtime, model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]
) -> Parity:
    """The same for a file that decodes its maps itself: its keypoints against those of the SDK.

    contract: of the network, with its calibration. Raises as `measure_parity`.
    """
    width, height = contract.input_wh
    # Windows in which image pixels are pixels of the crop.
    frame = np.array([(width - 1) / 2, (height - 1) / 2, width - 1, height - 1], dtype=np.float64)
    windows = np.tile(frame, (len(crops), 1))
    expected = PoseEstimator(TorchRuntime(model), contract).predict_crops(crops, windows)
    try:
        got = PoseEstimator(runtime, decoded_contract(contract)).predict_crops(crops, windows)
    except ModelFileError as error:
        raise ConversionError(f"The converted file is unusable in {runtime.name} and was not kept: {error}") from error
    cell = (np.array(contract.input_wh) - 1.0) / (np.array(contract.heatmap_wh) - 1.0)
    shift = np.linalg.norm((got.keypoints - expected.keypoints) / cell, axis=-1)
    presence, visibility, quality = (
        np.abs(getattr(got, name).astype(np.float64) - getattr(expected, name))
        for name in ("presence", "visibility", "quality")
    )
    return Parity(
        crops=len(crops),
        logits_max_abs=None,
        logits_relative=None,
        map_overlap=None,
        keypoint_shift_cell=float(np.median(shift)),
        presence_max_abs=float(presence.max()),
        visibility_max_abs=float(visibility.max()),
        quality_max_abs=float(quality.max()),
        probability_mean_abs=float(np.mean([presence.mean(), visibility.mean(), quality.mean()])),
    )


def check_parity(parity: Parity, precision: str) -> None:
    """Raise `ConversionError` if a file is further from its network than `PARITY_BOUNDS` allows."""
    bound = PARITY_BOUNDS[precision]
    logits, expert_logits = (
        1.0 if overlap is not None and overlap >= bound.maps_alike else bound.logits_relative
        for overlap in (parity.map_overlap, parity.expert_map_overlap)
    )
    limits = (
        ("logits_relative", parity.logits_relative, logits),
        ("keypoint_shift_cell", parity.keypoint_shift_cell, bound.keypoint_shift_cell),
        ("probability_mean_abs", parity.probability_mean_abs, bound.probability_mean_abs),
        ("expert_logits_relative", parity.expert_logits_relative, expert_logits),
        ("expert_keypoint_shift_cell", parity.expert_keypoint_shift_cell, bound.keypoint_shift_cell),
        ("confidence_mean_abs", parity.confidence_mean_abs, bound.probability_mean_abs),
    )
    broken = [
        f"{name} {value:.4g} (at most {limit:g})"
        for name, value, limit in limits
        if value is not None and not value <= limit
    ]
    if broken:
        raise ConversionError(
            f"A {precision} file must follow the network it came from, but on {parity.crops} crops it is off: "
            f"{', '.join(broken)}. The file was not kept."
        )


@dataclass(frozen=True, kw_only=True)
class _MapFigures:
    """How far one kind of map is off; `confidence` has the (N, K) differences of the peaks of plain heatmaps."""

    max_abs: float
    relative: float
    overlap: float
    shift_cell: float
    confidence: NDArray[np.float64]


def _compare(reference: RawOutputs, outputs: RawOutputs, contract: ModelContract) -> Parity:
    figures = _compare_maps(reference.logits, outputs.logits, contract, contract.activation_padding)
    expert = None
    if reference.expert_logits is not None and outputs.expert_logits is not None:
        expert = _compare_maps(reference.expert_logits, outputs.expert_logits, contract, contract.padding)
    head = None
    if reference.confidence is not None and outputs.confidence is not None:
        head = np.abs(outputs.confidence.astype(np.float64) - reference.confidence)
    presence, visibility, quality = (
        figures.confidence if expected is None or got is None else np.abs(got.astype(np.float64) - expected)
        for expected, got in (
            (reference.presence, outputs.presence),
            (reference.visibility, outputs.visibility),
            (reference.quality, outputs.quality),
        )
    )
    return Parity(
        crops=len(reference.logits),
        logits_max_abs=figures.max_abs,
        logits_relative=figures.relative,
        map_overlap=figures.overlap,
        keypoint_shift_cell=figures.shift_cell,
        presence_max_abs=float(presence.max()),
        visibility_max_abs=float(visibility.max()),
        quality_max_abs=float(quality.max()),
        probability_mean_abs=float(np.mean([presence.mean(), visibility.mean(), quality.mean()])),
        expert_logits_relative=None if expert is None else expert.relative,
        expert_map_overlap=None if expert is None else expert.overlap,
        expert_keypoint_shift_cell=None if expert is None else expert.shift_cell,
        confidence_max_abs=None if head is None else float(head.max()),
        confidence_mean_abs=None if head is None else float(head.mean()),
    )


def _compare_maps(
    reference: NDArray[np.float32], logits: NDArray[np.float32], contract: ModelContract, padding: float
) -> _MapFigures:
    """reference, logits: (N, K, H, W), of the network and of the file, over windows `padding` times the boxes."""
    difference = logits.astype(np.float64) - reference
    # A reference of all zeros must not divide by zero: any difference is then infinitely large, none is none.
    scale = float(np.sqrt(np.mean(reference.astype(np.float64) ** 2)))
    rms = float(np.sqrt(np.mean(difference**2)))
    if contract.map_kind == "heatmap":
        maps = [np.maximum(side, 0) for side in (reference, logits)]
        decoded = [decode_heatmaps(side) for side in (reference, logits)]
    else:
        maps = [sparsemax_maps(side, contract.temperature) for side in (reference, logits)]
        decoded = [decode_maps(side, contract.sigmas, contract.decode_kernel, padding=padding) for side in maps]
    (points, values), (other_points, other_values) = decoded
    shared, total = np.minimum(*maps).sum(axis=(2, 3)), (maps[0] + maps[1]).sum(axis=(2, 3))
    overlap = np.divide(2 * shared, total, out=np.ones_like(total), where=total > 0)
    return _MapFigures(
        max_abs=float(np.abs(difference).max()),
        relative=rms / scale if scale > 0 else (0.0 if rms == 0 else float("inf")),
        overlap=float(overlap.mean()),
        shift_cell=float(np.median(np.linalg.norm(points.astype(np.float64) - other_points, axis=-1))),
        confidence=np.abs(values.astype(np.float64) - other_values),
    )


def checked_result(
    pending: Path,
    runtime: Runtime,
    model: nn.Module,
    contract: ModelContract,
    config: ExportConfig,
    *,
    source: ModelContract,
) -> ExportResult:
    """Compare a file that has no name yet with the network, refuse it if it is too far off, and describe it.

    pending: the file. runtime: opened on it; it is closed. contract: what the file says about itself. source: what the
    network's contract says. Raises `ConversionError` as `measure_parity` and `check_parity`, with the block at fault.
    """
    parity = None
    try:
        measure = measure_decoded_parity if config.decoded else measure_parity
        parity = measure(runtime, model, source, config.parity_crops)
        check_parity(parity, config.precision)
    except ConversionError as error:
        off = None if config.decoded else parity
        why = explain_drift(model, source, config, contract.recipe, measure_parity, off)
        raise ConversionError(f"{error} {why}") from error
    finally:
        runtime.close()
    return result_of(pending, runtime, contract, config, parity)
