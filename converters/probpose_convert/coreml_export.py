"""Write a network as a CoreML package (.mlpackage): float32, float16, W8A8 int8, int8 weights alone, or a palette.

The package takes an RGB image and gives float32 outputs. CoreML runs on Apple systems only, so the parity check uses
`MilRuntime`, which reads the saved package and computes what it says.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
from probpose_convert.mil_executor import MilRuntime
from probpose_convert.mil_library import import_coremltools, quiet
from probpose_convert.mil_palette import palettize
from probpose_convert.parity import checked_result
from probpose_convert.pending_output import pending_output
from probpose_edge.contract.metadata import METADATA_KEY, ModelContract
from probpose_edge.exceptions import ConversionError, InputError, ModelFileError, ProbPoseError
from probpose_edge.routing.router_contract import RouterContract
from probpose_edge.version import __version__
from probpose_models.decode_in_graph import DecodedNetwork, decoded_contract
from probpose_models.deploy import Deployable

DEFAULT_INT8_RECIPE = "int8-static"
RECIPES_OF_COREML = ("int8-static", "int8-weights", "palette6")
_DECODE = "decode_"
"""What the names of the decode's operations begin with."""
_SMALLEST_INT8_WEIGHT = 512
"""Weights with fewer values stay float16 with ``int8-weights``: their scales would take as much room as they save."""
_OUTPUT_TEXTS = {
    "keypoints": "Keypoints (1, keypoints, 2), x before y, in pixels of the input image; its first pixel is at 0.",
    "expected_oks": "Object keypoint similarity that the probability map promises, per keypoint.",
    "logits": "Map logits (1, keypoints, rows, columns), before temperature and sparsemax.",
    "presence": "Probability per keypoint that it lies in the window at all, before calibration.",
    "visibility": "Probability per keypoint that it is visible.",
    "quality": "Object keypoint similarity the network expects of its own estimate, per keypoint.",
    "expert_logits": "Logits of the second map, over the input; 'logits' is over the larger window of the metadata.",
    "confidence": "Per keypoint: OKS the confidence head expects, and probability that it counts in the person's.",
}
_HEATMAP_TEXT = "Heatmaps (1, keypoints, rows, columns); the largest value is the confidence of a keypoint."


class _RgbPlanes(nn.Module):
    """Takes (1, 3, H, W) numbers from 0 to 255, as CoreML hands an image over, instead of (1, H, W, 3) uint8."""

    def __init__(self, deployable: nn.Module) -> None:
        super().__init__()
        self.deployable = deployable

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        # The network's own first step is the opposite permutation; the converter removes both.
        return tuple(self.deployable(image.permute(0, 2, 3, 1)))


def export_coreml(model: nn.Module, contract: ModelContract, config: ExportConfig) -> ExportResult:
    """Convert, check against `model` on ``config.parity_crops``, and only then give the package its name.

    Precision ``int8`` is the recipe ``"int8-static"`` (8-bit weights and activations, float16 between) unless
    ``config.recipe`` is ``"int8-weights"`` (float16 arithmetic on 8-bit weights) or ``"palette6"`` (float16 arithmetic
    on weights that are 6-bit places in a table). An existing package of that name is replaced when the new one is
    complete.

    Raises
    ------
    MissingExtraError: coremltools or, for ``int8-static``, torchao is not installed.
    InputError: a file name without .mlpackage, a recipe CoreML does not have, or missing or misshapen crops.
    CheckpointError: weights that are not finite.
    ConversionError: an operator that CoreML lacks, a package that does not reproduce the network, a full disk.
    """
    library = import_coremltools("Converting to CoreML")
    recipe = resolve_recipe(config, default=DEFAULT_INT8_RECIPE, supported=RECIPES_OF_COREML, format="CoreML")
    check_package_name(config)
    check_model(model, contract, config)
    outline = decoded_contract(contract) if config.decoded else contract
    written = outline.replace(
        format="coreml",
        precision=config.precision,
        recipe=written_recipe(config, recipe),
        calibration=written_calibration(contract, config, recipe),
        versions={"probpose-edge": __version__, "torch": torch.__version__, "coremltools": library.__version__},
    )
    package = _convert(library, model, contract, written, config, recipe)
    _describe(package, written)
    with pending_output(config.out) as pending:
        runtime = save_package(package, pending)
        result = checked_result(pending, runtime, model, written, config, source=contract)
    return result


def _convert(
    library: ModuleType,
    model: nn.Module,
    contract: ModelContract,
    written: ModelContract,
    config: ExportConfig,
    recipe: str,
) -> Any:
    """The package in memory, as coremltools' MLModel. contract: of the network; written: of the package."""
    precision = library.precision.FLOAT32 if recipe == "fp32" else half_precision(library)
    try:
        with quiet():
            if recipe == "int8-static":
                # coremltools rejects int32 biases; CoreML adds them in float16.
                deployable = static_graph(even_network(model, config, recipe), config, int32_bias=False)
            else:
                deployable = Deployable(model).eval()
            if config.decoded:
                deployable = DecodedNetwork(deployable, contract)
            package = to_package(library, deployable, written, precision)
            if recipe == "palette6":
                return palettize(package, skip=(_DECODE,))
            return _quantize_weights(package) if recipe == "int8-weights" else package
    except ProbPoseError:
        raise
    except Exception as error:  # torch.export and coremltools raise whatever their passes stumble over
        remedy = f"Use the pinned versions of torch and coremltools (here {library.__version__})."
        raise untranslatable(model, contract.input_wh, "CoreML", error, remedy) from error


def to_package(
    library: ModuleType, deployable: nn.Module, contract: ModelContract | RouterContract, precision: Any
) -> Any:
    """A graph with the signature of `Deployable`, quantized or not, as coremltools' MLModel.

    precision: ``library.precision.FLOAT32`` or `half_precision`, the type of everything that is not 8-bit.
    """
    example = torch.zeros(1, 3, contract.input_wh[1], contract.input_wh[0])
    program = torch.export.export(_RgbPlanes(deployable), (example,)).run_decompositions({})
    _name_decode(program)
    return library.convert(
        program,
        inputs=[library.ImageType("image", tuple(example.shape), color_layout=library.colorlayout.RGB)],
        outputs=[library.TensorType(name, dtype=np.float32) for name in contract.output_names],
        minimum_deployment_target=library.target.iOS17,
        compute_precision=precision,
        skip_model_load=True,
    )


def half_precision(library: ModuleType) -> Any:
    """float16, but for the decode: 11 bits place a keypoint at the far side of the crop only to a sixteenth of a pixel,
    and they make neighbouring cells of a wide map equal.
    """

    def in_decode(operation: Any) -> bool:
        return operation is not None and _DECODE in str(operation.name)

    def is_half(operation: Any) -> bool:
        # Some operations lose the name of what they came from; they read one that did not.
        given = [
            value
            for values in operation.inputs.values()
            for value in (values if isinstance(values, tuple) else (values,))
        ]
        return not in_decode(operation) and not any(in_decode(value.op) for value in given)

    return library.transform.FP16ComputePrecision(op_selector=is_half)


def _name_decode(program: torch.export.ExportedProgram) -> None:
    """Mark what belongs to `DecodeInGraph` by its name, the one thing that reaches coremltools."""
    renamed = {}
    for node in program.graph.nodes:
        classes = [str(kind) for _, kind in (node.meta.get("nn_module_stack") or {}).values()]
        if node.op == "call_function" and any("DecodeInGraph" in kind for kind in classes):
            before = node.name
            node._rename(_DECODE + before)
            renamed[before] = node.name
    for output in program.graph_signature.output_specs:
        output.arg.name = renamed.get(output.arg.name, output.arg.name)


def _quantize_weights(package: Any) -> Any:
    from coremltools.optimize import coreml as optimize

    weights = optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=_SMALLEST_INT8_WEIGHT
    )
    config = optimize.OptimizationConfig(global_config=weights)
    for name in optimize.get_weights_metadata(package, weight_threshold=_SMALLEST_INT8_WEIGHT):
        if _DECODE in name:
            config.set_op_name(name, None)
    return optimize.linear_quantize_weights(package, config)


def _describe(package: Any, contract: ModelContract) -> None:
    """Fill in what Xcode shows, and the contract that the SDK reads."""
    is_heatmap = contract.map_kind == "heatmap"
    what = "heatmaps" if is_heatmap else "probability maps, presence, visibility and quality"
    package.short_description = (
        f"{contract.model} ({contract.recipe}): {what} of {len(contract.keypoint_names)} keypoints of one person."
    )
    package.author = "The probpose-edge authors"
    package.license = contract.licence
    package.version = __version__
    package.user_defined_metadata[METADATA_KEY] = contract.to_json()
    width, height = contract.input_wh
    package.input_description["image"] = f"RGB crop of one person, {width} x {height} pixels; normalised inside."
    for name in contract.output_names:
        package.output_description[name] = _HEATMAP_TEXT if is_heatmap and name == "logits" else _OUTPUT_TEXTS[name]


def check_package_name(config: ExportConfig) -> None:
    """Raise `InputError` unless the package is to be called *.mlpackage."""
    if config.out.suffix != ".mlpackage":
        raise InputError(f"A CoreML package must be named *.mlpackage, got {config.out.name!r}. Change its name.")


def save_package(package: Any, path: Path) -> MilRuntime:
    """Write a package and open it with our executor; raises `ConversionError` if that cannot read it."""
    with quiet():
        package.save(str(path))
    # Notes for debugging another tool, as large as a tenth of an int8 package; the manifest does not list them.
    (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    # coremltools writes parts that only their owner can read.
    for part in (path, *path.rglob("*")):
        part.chmod(0o755 if part.is_dir() else 0o644)
    try:
        return MilRuntime(path)
    except ModelFileError as error:
        raise ConversionError(str(error)) from error
