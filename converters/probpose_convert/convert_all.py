"""Convert one checkpoint to several files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from probpose_convert.coreml_export import RECIPES_OF_COREML, export_coreml
from probpose_convert.export_config import INT8_RECIPES, ExportConfig, resolve_recipe
from probpose_convert.export_result import SUFFIXES, ExportResult
from probpose_convert.onnx_export import RECIPES_OF_ONNX, export_onnx
from probpose_convert.record_self_test import with_self_test
from probpose_convert.tflite_export import export_tflite
from probpose_convert.tflite_quantize import INT8_RECIPES as RECIPES_OF_TFLITE
from probpose_edge.contract.metadata import ModelContract
from probpose_models.confidence_head import without_confidence_head
from probpose_models.open_checkpoint import open_checkpoint
from probpose_quant.quantization import Quantization, read_quantization

EXPORTERS = {"onnx": export_onnx, "tflite": export_tflite, "coreml": export_coreml}
RECIPES = {"onnx": RECIPES_OF_ONNX, "tflite": RECIPES_OF_TFLITE, "coreml": RECIPES_OF_COREML}
NAMES = {"onnx": "ONNX", "tflite": "TFLite", "coreml": "CoreML"}


def convert_all(
    checkpoint: Path,
    jobs: Sequence[tuple[str, str]],
    out_dir: Path,
    *,
    calibration_crops: NDArray[np.uint8],
    parity_crops: NDArray[np.uint8],
    progress: Callable[[int, int], None] | None = None,
) -> list[ExportResult]:
    """`convert_network` of a checkpoint; raises what `open_checkpoint` raises as well."""
    model, contract = open_checkpoint(checkpoint)
    return convert_network(
        model,
        contract,
        jobs,
        out_dir,
        calibration_crops=calibration_crops,
        parity_crops=parity_crops,
        quantization=read_quantization(checkpoint),
        progress=progress,
    )


def convert_network(
    model: nn.Module,
    contract: ModelContract,
    jobs: Sequence[tuple[str, str]],
    out_dir: Path,
    *,
    calibration_crops: NDArray[np.uint8],
    parity_crops: NDArray[np.uint8],
    quantization: Quantization | None = None,
    decoded: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[ExportResult]:
    """One file per job (format, precision or int8 recipe), named ``<model>-<precision>.<suffix>`` in `out_dir`.

    decoded: files that end in keypoints instead of maps, named ``<model>-<precision>-decoded.<suffix>``, without a
    confidence head.

    Each file records what it answers to the crops of the self-test, for `probpose-edge doctor`.

    Raises what the exporters raise, for a recipe that a format does not have before anything is converted; files
    finished before stay.
    """
    if decoded:
        model, contract = without_confidence_head(model, contract)
    out_dir.mkdir(parents=True, exist_ok=True)
    configs = []
    for form, wanted in jobs:
        recipe = wanted if wanted in INT8_RECIPES else None
        config = ExportConfig(
            out=out_dir / f"{contract.model}-{wanted}{'-decoded' if decoded else ''}{SUFFIXES[form]}",
            precision="int8" if recipe else wanted,
            recipe=recipe,
            calibration_crops=calibration_crops,
            parity_crops=parity_crops,
            quantization=quantization,
            decoded=decoded,
        )
        resolve_recipe(config, default="int8-static", supported=RECIPES[form], format=NAMES[form])
        configs.append(config)
    results: list[ExportResult] = []
    for done, ((form, _), config) in enumerate(zip(jobs, configs, strict=True)):
        if progress is not None:
            progress(done, len(jobs))
        results.append(with_self_test(EXPORTERS[form](model, contract, config)))
    return results
