"""Write .onnx files: fp32, fp16, and int8 as QuantizeLinear and DequantizeLinear around ordinary operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from probpose_convert.explain_operator import untranslatable
from probpose_convert.export_config import (
    ExportConfig,
    check_model,
    even_network,
    resolve_recipe,
    static_graph,
    written_calibration,
    written_recipe,
)
from probpose_convert.export_result import ExportResult
from probpose_convert.onnx_graph import fold_pads, store_linear_layers_for_integers, strip_notes
from probpose_convert.onnx_network import HalfNetwork, IntegerNetwork, OnnxNetwork
from probpose_convert.onnx_weights import store_integer_weights
from probpose_convert.parity import checked_result
from probpose_convert.pending_output import pending_output
from probpose_convert.quiet import quiet_libraries
from probpose_edge.contract.metadata import METADATA_KEY, ModelContract
from probpose_edge.exceptions import ConversionError, ProbPoseError
from probpose_edge.extras import import_extra
from probpose_edge.routing.router_contract import RouterContract
from probpose_edge.runtimes.onnx import OnnxRuntime
from probpose_models.decode_in_graph import DecodedNetwork, decoded_contract

RECIPES_OF_ONNX = ("int8-static", "int8-weights")
_REMEDY = "Report this if the network is one of this project."
OPSET = 20
"""The first opset in which GELU is one operator; onnxruntime knows it since 1.17."""


def export_onnx(model: nn.Module, contract: ModelContract, config: ExportConfig) -> ExportResult:
    """Convert a network to one self-contained .onnx file for any batch size, and compare the two before it is kept.

    model: the network in float32; it is not changed. contract: what its checkpoint says. ``int8`` means
    ``int8-static``: uint8 activations per tensor (the fast signedness on x86-64), int8 weights per channel, int32
    biases, ranges from the calibration crops; ``int8-weights`` is float32 arithmetic on int8 weights. The maps and
    probabilities leave as float32 in every precision. With ``config.decoded`` the decode follows in float32.

    Raises
    ------
    InputError: crops of another size, a recipe that ONNX files do not have, int8 without calibration crops.
    CheckpointError: weights that are not finite.
    ConversionError: an operator ONNX does not have, a file that does not follow the network, or a full disk.
    MissingExtraError: a library of the extra ``convert`` is missing.
    Whatever ends the conversion, Ctrl-C included, an older file at `config.out` stays as it was and no other is left.
    """
    recipe = resolve_recipe(config, default="int8-static", supported=RECIPES_OF_ONNX, format="ONNX")
    check_model(model, contract, config)
    with quiet_libraries():
        for module in ("onnx", "onnxscript", "onnxruntime"):
            import_extra("Writing .onnx files", module, "convert")
        try:
            network = _network(model, contract, config, recipe)
        except ProbPoseError:
            raise
        except Exception as error:  # whatever torch.export stumbles over
            raise untranslatable(model, contract.input_wh, "ONNX", error, _REMEDY) from error
        outline = contract
        if config.decoded:
            network, outline = DecodedNetwork(network, contract), decoded_contract(contract)
        try:
            program = translate_to_onnx(network, outline)
        except ConversionError as error:
            raise untranslatable(model, contract.input_wh, "ONNX", error.__cause__ or error, _REMEDY) from error
        if recipe == "int8-weights":
            store_integer_weights(program.model)
    written = outline.replace(
        format="onnx",
        precision=config.precision,
        recipe=written_recipe(config, recipe),
        calibration=written_calibration(contract, config, recipe),
        versions={**contract.versions, **onnx_versions(recipe)},
    )
    program.model.metadata_props[METADATA_KEY] = written.to_json()
    with pending_output(config.out) as pending:
        program.save(pending)
        runtime = OnnxRuntime(pending)
        result = checked_result(pending, runtime, model, written, config, source=contract)
    return result


def _network(model: nn.Module, contract: ModelContract, config: ExportConfig, recipe: str) -> nn.Module:
    """The module to translate: float32, float16, or with quantize and dequantize operators in it."""
    if config.precision == "fp16":
        return HalfNetwork(model, contract.input_wh).eval()
    if recipe in ("fp32", "int8-weights"):
        return OnnxNetwork(model, contract.input_wh).eval()
    import_extra("Quantizing to int8", "torchao", "convert")
    network = IntegerNetwork(even_network(model, config, recipe), contract.input_wh)
    return static_graph(network, config, int32_bias=True, unsigned_activations=True)


def translate_to_onnx(network: nn.Module, contract: ModelContract | RouterContract) -> Any:
    """A `torch.onnx.ONNXProgram` with a free batch size, and the input size and output names of the contract.

    Raises `ConversionError` for an operator that ONNX does not have.
    """
    image = torch.zeros(2, contract.input_wh[1], contract.input_wh[0], 3, dtype=torch.uint8)
    try:
        program: Any = torch.onnx.export(
            network,
            (image,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(contract.output_names),
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1, max=4096)}},
            custom_translation_table=_translations(),
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise ConversionError(
            f"A network must consist of operators that ONNX has, but translating it failed: {reason}. {_REMEDY}"
        ) from error
    fold_pads(program.model)
    store_linear_layers_for_integers(program.model)
    strip_notes(program.model)
    return program


def _translations() -> dict[Any, Any]:
    """What torch's exporter does not know: dequantizing per channel. The zero points of symmetric weights are zero."""
    from onnxscript import opset20 as op

    quantized = getattr(torch.ops.quantized_decomposed, "dequantize_per_channel", None)
    if quantized is None:  # registered by torchao, when something was quantized
        return {}

    def dequantize_per_channel(
        input: Any,
        scales: Any,
        zero_points: Any,
        axis: int,
        quant_min: int,
        quant_max: int,
        dtype: int,
        out_dtype: int = -1,
    ) -> Any:
        return op.DequantizeLinear(input, scales, axis=axis)

    return {quantized.default: dequantize_per_channel}


def onnx_versions(recipe: str) -> dict[str, str]:
    names = ["torch", "onnx", "onnxscript", *(["torchao"] if recipe == "int8-static" else [])]
    return {name: str(import_extra("Writing .onnx files", name, "convert").__version__) for name in names}
