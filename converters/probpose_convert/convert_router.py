"""Convert one router to several files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probpose_convert.export_config import ExportConfig
from probpose_convert.export_result import SUFFIXES
from probpose_convert.router_coreml import export_router_coreml
from probpose_convert.router_export import RouterResult
from probpose_convert.router_onnx import export_router_onnx
from probpose_convert.router_tflite import export_router_tflite
from probpose_edge.routing.router_contract import RouterContract
from probpose_models.router import ProbPoseRouter

EXPORTERS = {"onnx": export_router_onnx, "tflite": export_router_tflite, "coreml": export_router_coreml}


def convert_router(
    model: ProbPoseRouter,
    contract: RouterContract,
    jobs: Sequence[tuple[str, str]],
    out_dir: Path,
    *,
    name: str,
    calibration_crops: NDArray[np.uint8] | None,
    parity_crops: NDArray[np.uint8],
    progress: Callable[[int, int], None] | None = None,
) -> list[RouterResult]:
    """One file per job (format, precision or int8 recipe), named ``<name>-<precision>.<suffix>`` in `out_dir`.

    Raises what the exporters raise; files finished before stay.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    results: list[RouterResult] = []
    for done, (form, wanted) in enumerate(jobs):
        if progress is not None:
            progress(done, len(jobs))
        precision, _, kind = wanted.partition("-")
        config = ExportConfig(
            out=out_dir / f"{name}-{wanted}{SUFFIXES[form]}",
            precision=precision,
            recipe=wanted if kind else None,
            calibration_crops=calibration_crops,
            parity_crops=parity_crops,
        )
        results.append(EXPORTERS[form](model, contract, config))
    return results
