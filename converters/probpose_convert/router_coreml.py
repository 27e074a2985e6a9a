"""Write a router as a CoreML package."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from probpose_convert.coreml_export import check_package_name, half_precision, save_package, to_package
from probpose_convert.export_config import ExportConfig, resolve_recipe
from probpose_convert.mil_library import import_coremltools, quiet
from probpose_convert.pending_output import pending_output
from probpose_convert.router_export import (
    RECIPES_OF_ROUTERS,
    STATIC,
    RouterResult,
    check_router,
    checked_router,
    written_contract,
)
from probpose_convert.router_network import DeployableRouter
from probpose_edge.contract.metadata import METADATA_KEY
from probpose_edge.exceptions import ConversionError, ProbPoseError
from probpose_edge.routing.router_contract import SCORE_NAME, RouterContract
from probpose_edge.version import __version__
from probpose_models.router import ProbPoseRouter
from probpose_quant.calibrate import quantize_static


def export_router_coreml(model: ProbPoseRouter, contract: RouterContract, config: ExportConfig) -> RouterResult:
    """Convert a router to a CoreML package, and compare the two, by the executor of this project, before it is kept.

    Raises as `probpose_convert.coreml_export.export_coreml`.
    """
    library = import_coremltools("Converting to CoreML")
    recipe = resolve_recipe(config, default="int8-static", supported=RECIPES_OF_ROUTERS, format="CoreML routers")
    check_package_name(config)
    check_router(model, contract, config)
    versions = {"probpose-edge": __version__, "torch": torch.__version__, "coremltools": library.__version__}
    written = written_contract(contract, config, recipe, "coreml", versions)
    precision = library.precision.FLOAT32 if recipe == "fp32" else half_precision(library)
    try:
        with quiet():
            package = to_package(library, _network(model, config, recipe), written, precision)
    except ProbPoseError:
        raise
    except Exception as error:  # torch.export and coremltools raise whatever their passes stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConversionError(
            f"CoreML must be able to express every operator of a router, but coremltools {library.__version__} failed: "
            f"{reason[:500]}. Use the ONNX or TFLite file, or the pinned versions of torch and coremltools."
        ) from error
    _describe(package, written)
    with pending_output(config.out) as pending:
        runtime = save_package(package, pending)
        return checked_router(pending, runtime, model, written, config)


def _network(model: ProbPoseRouter, config: ExportConfig, recipe: str) -> nn.Module:
    if recipe != "int8-static":
        return DeployableRouter(model).eval()
    crops = config.calibration_crops
    assert crops is not None  # resolve_recipe refused that
    return quantize_static(DeployableRouter(model), crops, STATIC, int32_bias=False)


def _describe(package: Any, contract: RouterContract) -> None:
    package.short_description = f"{contract.model} ({contract.recipe}): which persons are worth a larger pose model."
    package.author = "The probpose-edge authors"
    package.license = contract.licence
    package.version = __version__
    package.user_defined_metadata[METADATA_KEY] = contract.to_json()
    width, height = contract.input_wh
    package.input_description["image"] = f"RGB crop of one person, {width} x {height} pixels; normalised inside."
    package.output_description[SCORE_NAME] = "Share of the small model's error that the large one should remove."
