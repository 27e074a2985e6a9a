"""Compare a converted file with the network it came from, before the file gets its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from probpose_convert.export_config import ExportConfig
from probpose_convert.export_result import ExportResult, Parity
from probpose_convert.pending_output import size_on_disk
from probpose_edge.decode import decode_maps
from probpose_edge.exceptions import ConversionError
from probpose_edge.metadata import ModelContract
from probpose_edge.probmap import sparsemax_maps
from probpose_edge.runtimes.base import RawOutputs, Runtime
from probpose_models.torch_runtime import TorchRuntime


@dataclass(frozen=True, kw_only=True)
class ParityBound:
    """The largest differences a file may show; see `Parity` for the figures."""

    logits_relative: float
    keypoint_shift_cell: float
    probability_mean_abs: float


PARITY_BOUNDS = {
    # Only the order of float32 sums differs: about 3e-6 of the logits.
    "fp32": ParityBound(logits_relative=1e-3, keypoint_shift_cell=0.01, probability_mean_abs=1e-4),
    # float16 keeps 11 bits: 5e-4 per layer. Sixty layers of a MobileNetV2 amplify that: 0.02 of the logits was seen.
    "fp16": ParityBound(logits_relative=0.06, keypoint_shift_cell=0.1, probability_mean_abs=0.02),
    # Guards against a broken file (channels swapped, a normalisation missing, a layer with a wrong scale), which is
    # off by its whole size: means and medians, because the worst of a few hundred probabilities may well be one that
    # was undecided. What int8 costs in accuracy is for the evaluation to say.
    "int8": ParityBound(logits_relative=0.4, keypoint_shift_cell=1.0, probability_mean_abs=0.1),
}


def measure_parity(runtime: Runtime, model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]) -> Parity:
    """Run `crops` (N, H, W, 3) uint8 RGB through a file and through the torch network in float32, and compare.

    runtime: opened on the file. model: the network, float32. contract: temperature, sigmas and decode kernel.
    Raises `ConversionError` if the file's outputs have other shapes or are not finite.
    """
    reference = TorchRuntime(model).run(crops)
    outputs = runtime.run(crops)
    for name in ("logits", "presence", "visibility", "quality"):
        expected, got = getattr(reference, name), getattr(outputs, name)
        if got.shape != expected.shape:
            raise ConversionError(
                f"The converted file must give {name} of shape {expected.shape}, but gives {got.shape} in "
                f"{runtime.name}. Report this: the file is unusable and was not kept."
            )
        if not np.isfinite(got).all():
            raise ConversionError(
                f"The converted file must give finite {name}, but gives NaN or infinity in {runtime.name}. "
                "Try another precision or recipe; the file was not kept."
            )
    return _compare(reference, outputs, contract)


def check_parity(parity: Parity, precision: str) -> None:
    """Raise `ConversionError` if a file is further from its network than `PARITY_BOUNDS` allows."""
    bound = PARITY_BOUNDS[precision]
    limits = (
        ("logits_relative", parity.logits_relative, bound.logits_relative),
        ("keypoint_shift_cell", parity.keypoint_shift_cell, bound.keypoint_shift_cell),
        ("probability_mean_abs", parity.probability_mean_abs, bound.probability_mean_abs),
    )
    broken = [f"{name} {value:.4g} (at most {limit:g})" for name, value, limit in limits if not value <= limit]
    if broken:
        raise ConversionError(
            f"A {precision} file must follow the network it came from, but on {parity.crops} crops it is off: "
            f"{', '.join(broken)}. Try another precision, recipe or more calibration crops; the file was not kept."
        )


def _compare(reference: RawOutputs, outputs: RawOutputs, contract: ModelContract) -> Parity:
    difference = outputs.logits.astype(np.float64) - reference.logits
    # A reference of all zeros must not divide by zero: any difference is then infinitely large, none is none.
    scale = float(np.sqrt(np.mean(reference.logits.astype(np.float64) ** 2)))
    rms = float(np.sqrt(np.mean(difference**2)))
    maps = [sparsemax_maps(side.logits, contract.temperature) for side in (reference, outputs)]
    points = [decode_maps(side, contract.sigmas, contract.decode_kernel)[0] for side in maps]
    shift = np.linalg.norm(points[0].astype(np.float64) - points[1], axis=-1)
    presence, visibility, quality = (
        np.abs(getattr(outputs, name).astype(np.float64) - getattr(reference, name))
        for name in ("presence", "visibility", "quality")
    )
    return Parity(
        crops=len(reference.logits),
        logits_max_abs=float(np.abs(difference).max()),
        logits_relative=rms / scale if scale > 0 else (0.0 if rms == 0 else float("inf")),
        map_overlap=float(np.minimum(maps[0], maps[1]).sum(axis=(2, 3)).mean()),
        keypoint_shift_cell=float(np.median(shift)),
        presence_max_abs=float(presence.max()),
        visibility_max_abs=float(visibility.max()),
        quality_max_abs=float(quality.max()),
        probability_mean_abs=float(np.mean([presence.mean(), visibility.mean(), quality.mean()])),
    )


def checked_result(
    pending: Path, runtime: Runtime, model: nn.Module, contract: ModelContract, config: ExportConfig
) -> ExportResult:
    """Compare a file that has no name yet with the network, refuse it if it is too far off, and describe it.

    pending: the file. runtime: opened on it; it is closed. contract: what the file says about itself.
    Raises `ConversionError` as `measure_parity` and `check_parity`.
    """
    try:
        parity = measure_parity(runtime, model, contract, config.parity_crops)
    finally:
        runtime.close()
    check_parity(parity, config.precision)
    return ExportResult(
        path=config.out,
        format=contract.format,
        precision=contract.precision,
        recipe=contract.recipe,
        size_bytes=size_on_disk(pending),
        contract=contract,
        parity=parity,
        runtime=runtime.name,
        provenance=runtime.provenance,
    )
