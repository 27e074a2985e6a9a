"""What the converters of routers share: the recipe, and the check before a file gets its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from probpose_convert.export_config import ExportConfig
from probpose_convert.export_result import ExportResult, result_of
from probpose_edge.exceptions import ConversionError, InputError, ModelFileError
from probpose_edge.routing.router import Router
from probpose_edge.routing.router_contract import RouterContract
from probpose_edge.runtimes.base import Runtime
from probpose_eval.metrics.confidence_scores import rank_correlation
from probpose_models.router import ProbPoseRouter, crop_scores
from probpose_quant.finite_weights import refuse_broken_weights
from probpose_quant.recipe import Recipe

RECIPES_OF_ROUTERS = ("int8-static",)
STATIC = Recipe(name="int8-static", observer="mse", float_blocks=("stem",))
"""The first convolution reads one channel, which integer kernels are slow at, and the pooling before it would become
an integer one, which takes 171 µs in ONNX Runtime instead of 12."""
SCORE_BOUNDS = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.1}
"""Largest mean difference of a score. It guards against a broken file, which is off by its whole size; what INT8 costs
is in `RouterParity` and for the evaluation to say."""


@dataclass(frozen=True, kw_only=True)
class RouterParity:
    """Differences between a file and the router in torch, on the same crops.

    Attributes
    ----------
    crops: how many. score_max_abs, score_mean_abs: largest and mean difference of a score.
    rank_correlation: Spearman's of both; None where the scores of one of them do not vary.
    """

    crops: int
    score_max_abs: float
    score_mean_abs: float
    rank_correlation: float | None


RouterResult: TypeAlias = ExportResult[RouterContract, RouterParity]
"""One converted router."""


def check_router(model: ProbPoseRouter, contract: RouterContract, config: ExportConfig) -> None:
    """Refuse what no format could hold.

    Raises `CheckpointError` for weights that are NaN or infinite, `InputError` for crops of another size than the
    router's, and for a decoded file.
    """
    refuse_broken_weights(model, contract)
    if config.decoded:
        raise InputError("A router gives no maps that a file could decode. Leave --decoded out.")
    expected = (contract.input_wh[1], contract.input_wh[0], 3)
    for label, crops in (("Parity crops", config.parity_crops), ("Calibration crops", config.calibration_crops)):
        if crops is not None and crops.shape[1:] != expected:
            raise InputError(
                f"{label} must have shape (N, {expected[0]}, {expected[1]}, 3) for this router, got {crops.shape}. Cut "
                "them with probpose_edge.window.crop_windows and the contract's input_wh."
            )


def written_contract(
    contract: RouterContract, config: ExportConfig, recipe: str, form: str, versions: dict[str, str]
) -> RouterContract:
    """What the file says about itself."""
    return contract.replace(
        format=form, precision=config.precision, recipe=recipe, versions={**contract.versions, **versions}
    )


def measure_router_parity(router: Router, model: ProbPoseRouter, crops: NDArray[np.uint8]) -> RouterParity:
    """Run `crops` (N, H, W, 3) uint8 RGB through a file and through the router in torch, and compare.

    Raises `ConversionError` if the file does not give one finite score per crop.
    """
    expected = crop_scores(model, crops)
    try:
        got = router(crops)
    except ModelFileError as error:
        raise ConversionError(
            f"The converted router is unusable in {router.runtime.name} and was not kept: {error}"
        ) from error
    apart = np.abs(got - expected)
    order = rank_correlation(expected, got)
    return RouterParity(
        crops=len(crops),
        score_max_abs=float(apart.max()),
        score_mean_abs=float(apart.mean()),
        rank_correlation=order if np.isfinite(order) else None,
    )


def checked_router(
    pending: Path, runtime: Runtime, model: ProbPoseRouter, contract: RouterContract, config: ExportConfig
) -> RouterResult:
    """Compare a file that has no name yet with the router, refuse it if it is too far off, and describe it.

    pending: the file. runtime: opened on it; it is closed. contract: what the file says about itself.
    Raises `ConversionError`.
    """
    with Router(runtime, contract) as router:
        parity = measure_router_parity(router, model, config.parity_crops)
    bound = SCORE_BOUNDS[config.precision]
    if not parity.score_mean_abs <= bound:
        raise ConversionError(
            f"A {config.precision} router must follow the network it came from, but on {parity.crops} crops its scores "
            f"are off by {parity.score_mean_abs:.4g} (at most {bound:g}). Try another precision or more calibration "
            "crops; the file was not kept."
        )
    return result_of(pending, runtime, contract, config, parity)
