"""Write .tflite files: fp32, fp16, and int8 in three recipes, for LiteRT (ai-edge-litert) and tflite-runtime.

What the recipes of probpose-m gave with its first trained weights, ranges from 200 crops of COCO train, on 287 persons
of COCO val as they are and in cropped pictures (true boxes, no flip; ``probpose-edge evaluate FILE …``), and the time
of one crop with one and two threads of an x86-64 with AVX-512 VNNI
(``probpose-edge benchmark FILE … --threads 1 --rounds 100``). Every file is one XNNPACK partition.

| recipe | MB | 1 thread | 2 threads | Ex-AP | Ex-AP cropped | map overlap with fp32 |
| --- | --- | --- | --- | --- | --- | --- |
| fp32 | 14.36 | 14.95 ms | 16.82 ms | 28.87 | 13.85 | 1 |
| fp16 | 7.37 | 15.12 ms (0.99×) | 16.97 ms (0.99×) | 28.76 | 13.83 | 0.997 |
| int8-weights | 3.91 | 14.89 ms (1.00×) | 16.77 ms (1.00×) | 28.90 | 13.82 | 0.969 |
| int8-dynamic | 3.90 | 7.67 ms (1.95×) | 9.32 ms (1.81×) | 29.20 | 13.76 | 0.957 |
| **int8-static** | 4.13 | 5.72 ms (2.61×) | 7.18 ms (2.34×) | 28.68 | 14.10 | 0.917 |

So ``int8`` means static for this convolutional network. For the transformer probpose-s (random weights, one thread) it
means dynamic: 46.8 ms against 163.4 ms for fp32 (3.5×). Static int8 took twice as long, in 47 partitions.

tflite-runtime 2.14 runs all five files of probpose-m, but on x86-64 it has fast kernels for fp32, fp16 and
int8-weights only (14.5 ms each, against 45 ms for int8-dynamic and 70 ms for int8-static). The int8-dynamic file of
probpose-s runs there too, since it has no transposed convolutions, but takes 2.5 times as long as fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from torch import nn

from probpose_convert.export_config import (
    ExportConfig,
    check_model,
    even_network,
    resolve_recipe,
    written_calibration,
    written_recipe,
)
from probpose_convert.export_result import ExportResult
from probpose_convert.parity import checked_result
from probpose_convert.pending_output import pending_output
from probpose_convert.tflite_calibrate import Ranges, activation_ranges, weight_ranges
from probpose_convert.tflite_carry import always_float_outputs, carry_ranges
from probpose_convert.tflite_decode import append_decode
from probpose_convert.tflite_flatbuffer import with_contract
from probpose_convert.tflite_graph import float_tflite
from probpose_convert.tflite_quantize import INT8_RECIPES, quantize_tflite
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import ConversionError, InputError, ModelFileError
from probpose_edge.extras import import_extra
from probpose_edge.runtimes.litert import LiteRTRuntime
from probpose_models.decode_in_graph import decoded_contract

DEFAULT_INT8 = {"probpose-m": "int8-static", "probpose-s": "int8-dynamic"}
"""Model → the recipe that was fastest; see above. A network with two maps (``-dh``) takes that of the one with one."""


def export_tflite(
    model: nn.Module,
    contract: ModelContract,
    config: ExportConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> ExportResult:
    """Convert a network to a self-contained .tflite file for one crop at a time, and compare the two before it is kept.

    model: the network; it is not changed. contract: what its checkpoint says. Precision ``int8`` means `DEFAULT_INT8`;
    `quantize_tflite` says what each recipe does. With ``config.decoded`` the decode follows in float32. progress:
    called with (crops done, crops in all) while ``int8-static`` is calibrated.

    Raises
    ------
    InputError: crops of another size, a name that does not end in .tflite, ``int8-static`` without calibration crops.
    CheckpointError: weights that are not finite.
    ConversionError: an operator TFLite does not have, a file that does not follow the network, or a full disk.
    MissingExtraError: a library of the extra ``convert`` is missing.
    Whatever ends the conversion, Ctrl-C included, an older file at `config.out` stays as it was and no other is left.
    """
    default = DEFAULT_INT8.get(contract.model.removesuffix("-dh"), "int8-dynamic")
    recipe = resolve_recipe(config, default=default, supported=INT8_RECIPES, format="TFLite")
    if config.out.suffix.lower() != ".tflite":
        raise InputError(f"A TFLite file must be named *.tflite, got {config.out.name!r}. Change its name.")
    check_model(model, contract, config)
    if recipe != "fp32":
        # Translating takes half a minute; what is missing is said before.
        import_extra("Quantizing .tflite files", "ai_edge_quantizer", "convert")
    content = float_tflite(even_network(model, config, recipe), contract.input_wh)
    if recipe != "fp32":
        static = recipe == "int8-static"
        ranges, kept = _ranges(content, model, config, progress) if static else (None, always_float_outputs(content))
        content = quantize_tflite(content, recipe, ranges, float_outputs=kept)
    outline = contract
    if config.decoded:
        content, outline = append_decode(content, contract), decoded_contract(contract)
    written = outline.replace(
        format="tflite",
        precision=config.precision,
        recipe=written_recipe(config, recipe),
        calibration=written_calibration(contract, config, recipe),
        versions={**contract.versions, **_versions(recipe)},
    )
    with pending_output(config.out) as pending:
        pending.write_bytes(with_contract(content, written))
        runtime = _open(pending, recipe)
        result = checked_result(pending, runtime, model, written, config, source=contract)
    return result


def _open(path: Path, recipe: str) -> LiteRTRuntime:
    try:
        return LiteRTRuntime(path)
    except ModelFileError as error:
        reason = str(error.__cause__ or error)
        raise ConversionError(
            f"The {recipe} file must load in LiteRT, but does not: {' '.join(reason.split())[:300]}. "
            "Choose another recipe; the file was not kept."
        ) from error


def _ranges(
    content: bytes, model: nn.Module, config: ExportConfig, progress: Callable[[int, int], None] | None
) -> tuple[Ranges, frozenset[str]]:
    """Ranges by tensor, and the outputs of operators that a saved recipe keeps in float."""
    if config.quantization is not None:
        carried = carry_ranges(content, model, config.quantization, config.parity_crops[0])
        return carried.ranges, carried.float_outputs
    crops = config.calibration_crops
    assert crops is not None  # resolve_recipe refused that
    activations = activation_ranges(content, crops, progress=progress)
    return {**activations, **weight_ranges(content, activations)}, always_float_outputs(content)


def _versions(recipe: str) -> dict[str, str]:
    names = ["torch", "litert-torch", "ai-edge-litert", *([] if recipe == "fp32" else ["ai-edge-quantizer"])]
    return {name: version(name) for name in names}
