"""Write a router as an .onnx file."""

from __future__ import annotations

from torch import nn

from probpose_convert.export_config import ExportConfig, resolve_recipe
from probpose_convert.onnx_export import onnx_versions, translate_to_onnx
from probpose_convert.pending_output import pending_output
from probpose_convert.quiet import quiet_libraries
from probpose_convert.router_export import (
    RECIPES_OF_ROUTERS,
    STATIC,
    RouterResult,
    check_router,
    checked_router,
    written_contract,
)
from probpose_convert.router_graph import merge_norms, sum_channels_as_integers
from probpose_convert.router_network import DeployableRouter, HalfRouter
from probpose_edge.contract.metadata import METADATA_KEY
from probpose_edge.extras import import_extra
from probpose_edge.routing.router_contract import RouterContract
from probpose_edge.runtimes.onnx import OnnxRuntime
from probpose_models.router import ProbPoseRouter
from probpose_quant.calibrate import quantize_static


def export_router_onnx(model: ProbPoseRouter, contract: RouterContract, config: ExportConfig) -> RouterResult:
    """Convert a router to one self-contained .onnx file for any batch size, and compare the two before it is kept.

    model: in float32; it is not changed. contract: what its checkpoint says. The first convolution of an int8 file is
    float32, see `probpose_convert.router_export.STATIC`.

    Raises as `probpose_convert.onnx_export.export_onnx`.
    """
    recipe = resolve_recipe(config, default="int8-static", supported=RECIPES_OF_ROUTERS, format="ONNX routers")
    check_router(model, contract, config)
    with quiet_libraries():
        for module in ("onnx", "onnxscript", "onnxruntime"):
            import_extra("Writing .onnx files", module, "convert")
        program = translate_to_onnx(_network(model, config, recipe), contract)
        sum_channels_as_integers(program.model)
        merge_norms(program.model)
    written = written_contract(contract, config, recipe, "onnx", onnx_versions(recipe))
    program.model.metadata_props[METADATA_KEY] = written.to_json()
    with pending_output(config.out) as pending:
        program.save(pending)
        return checked_router(pending, OnnxRuntime(pending), model, written, config)


def _network(model: ProbPoseRouter, config: ExportConfig, recipe: str) -> nn.Module:
    if recipe == "int8-static":
        import_extra("Quantizing to int8", "torchao", "convert")
        crops = config.calibration_crops
        assert crops is not None  # resolve_recipe refused that
        return quantize_static(DeployableRouter(model), crops, STATIC, int32_bias=True, unsigned_activations=True)
    return (HalfRouter if recipe == "fp16" else DeployableRouter)(model).eval()
