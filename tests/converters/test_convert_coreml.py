"""CoreML packages, on a small network with the operators of probpose-m, and on one with those of probpose-s."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probpose_convert import coreml_export
from probpose_convert.coreml_export import export_coreml
from probpose_convert.export_config import ExportConfig
from probpose_convert.export_result import ExportResult
from probpose_convert.mil_executor import MilRuntime, open_simulated
from probpose_convert.mil_library import import_coremltools, quiet
from probpose_convert.mil_reader import read_program
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.exceptions import (
    CheckpointError,
    ConversionError,
    InputError,
    MetadataError,
    MissingExtraError,
    ModelFileError,
)
from probpose_models.checkpoint import build_model, checkpoint_contract
from probpose_models.layers import conv_bn_relu, conv_bn_relu6
from probpose_models.mobilenet_v2 import InvertedResidual
from probpose_models.outputs import PoseOutputs
from probpose_models.probpose_m import upsample2x
from probpose_models.probpose_s import DeconvHead, PooledScalarHead
from probpose_models.vit import VisionTransformer
from probpose_quant.calibrate import quantize_static
from probpose_quant.recipes import RECIPES as QUANTIZATIONS

pytest.importorskip("coremltools", reason="needs the extra convert")
pytest.importorskip("torchao", reason="needs the extra convert")

RECIPES = ("fp32", "fp16", "int8-static", "int8-weights")


class SmallM(nn.Module):
    """Every operator of probpose-m at a sixteenth of the area."""

    name, input_wh, heatmap_wh, temperature, keypoints = "small-m", (48, 64), (12, 16), 0.5, 17
    window_ratio, presence_head = 1.0, True

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu6(3, 8, 3, 2)
        self.stage4 = nn.Sequential(InvertedResidual(8, 12, 2, 2), InvertedResidual(12, 12, 1, 2))
        self.stage8 = InvertedResidual(12, 16, 2, 2)
        self.lateral8 = conv_bn_relu(16, 16, 1)
        self.lateral4 = nn.Sequential(nn.Conv2d(12, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.final = nn.Conv2d(16, 17, 1)
        self.scalars = nn.ModuleList(
            nn.Sequential(conv_bn_relu(16, 16, 3), nn.MaxPool2d(2), nn.Conv2d(16, 17, (4, 3))) for _ in range(3)
        )

    def forward(self, x: Tensor) -> PoseOutputs:
        stride4 = self.stage4(self.stem(x))
        features = self.lateral8(self.stage8(stride4))
        logits = self.final((upsample2x(features) + self.lateral4(stride4)).relu())
        return PoseOutputs(logits, *(head(features).flatten(1) for head in self.scalars))


class SmallS(nn.Module):
    """Every operator of probpose-s, one narrow block."""

    name, input_wh, heatmap_wh, temperature, keypoints = "small-s", (192, 256), (48, 64), 0.5, 17
    window_ratio, presence_head = 1.0, True

    def __init__(self) -> None:
        super().__init__()
        self.backbone = VisionTransformer(width=24, depth=1, heads=2)
        self.map_head = DeconvHead(24, 17, hidden=(8, 8))
        self.scalars = nn.ModuleList(PooledScalarHead(24, 17) for _ in range(3))

    def forward(self, x: Tensor) -> PoseOutputs:
        features = self.backbone(x)
        return PoseOutputs(self.map_head(features)[0], *(head(features) for head in self.scalars))


def crops_for(model: Any, number: int, seed: int) -> NDArray[np.uint8]:
    """Blocks of colour: smoother than noise, so that ranges look like those of pictures."""
    width, height = model.input_wh
    coarse = np.random.default_rng(seed).integers(0, 256, (number, height // 8, width // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def settled(model: Any) -> Any:
    """In eval mode, with the statistics of a few batches."""
    model.train()
    with torch.no_grad():
        for seed in range(8):
            pixels = torch.from_numpy(crops_for(model, 4, 100 + seed)).permute(0, 3, 1, 2).float()
            model((pixels - 118) / 58)
    return model.eval()


def config(model: Any, out: Path, recipe: str, **changes: Any) -> ExportConfig:
    precision, _, kind = recipe.partition("-")
    settings = {
        "out": out,
        "precision": precision,
        "recipe": recipe if kind else None,
        "parity_crops": crops_for(model, 3, 1),
        "calibration_crops": crops_for(model, 16, 2),
    }
    return ExportConfig(**(settings | changes))


@pytest.fixture(scope="module")
def small_m() -> SmallM:
    torch.manual_seed(0)
    return settled(SmallM())


@pytest.fixture(scope="module")
def results(small_m: SmallM, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportResult]:
    folder = tmp_path_factory.mktemp("coreml")
    contract = checkpoint_contract(small_m)
    return {
        recipe: export_coreml(small_m, contract, config(small_m, folder / f"{recipe}.mlpackage", recipe))
        for recipe in RECIPES
    }


@pytest.fixture
def package(results: dict[str, ExportResult], tmp_path: Path) -> Path:
    """A copy of the float16 package, to be damaged."""
    return Path(shutil.copytree(results["fp16"].path, tmp_path / "copy.mlpackage"))


@pytest.fixture
def converted(results: dict[str, ExportResult], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares a test of what happens after the conversion the conversion itself."""
    with quiet():
        library = import_coremltools("Testing")
        model = library.models.MLModel(str(results["fp32"].path), skip_model_load=True)
    monkeypatch.setattr(coreml_export, "_convert", lambda *_: model)


# Largest relative error of the logits and largest error of a probability. Float32 differs in the order of sums only;
# float16 rounds to 11 bits at each of some twenty layers; int8 by half of 1/255 of a range at each.
BOUNDS = {"fp32": (1e-5, 1e-5), "fp16": (5e-3, 5e-3), "int8-static": (0.15, 0.1), "int8-weights": (0.03, 0.03)}


@pytest.mark.parametrize("recipe", RECIPES)
def test_package_follows_the_network(results: dict[str, ExportResult], recipe: str) -> None:
    parity = results[recipe].parity
    logits, probability = BOUNDS[recipe]
    assert parity.crops == 3
    assert parity.logits_relative <= logits
    assert max(parity.presence_max_abs, parity.visibility_max_abs, parity.quality_max_abs) <= probability


@pytest.mark.parametrize("recipe", RECIPES)
def test_package_says_what_it_is(results: dict[str, ExportResult], recipe: str) -> None:
    result = results[recipe]
    contract = read_contract(result.path)
    assert contract == result.contract
    assert (contract.format, contract.precision, contract.recipe) == ("coreml", recipe.partition("-")[0], recipe)
    assert {"torch", "coremltools", "probpose-edge"} <= set(contract.versions)
    assert result.provenance == "simulated"
    assert result.runtime.startswith("MIL executor (torch ")
    # Nothing is rounded in a package of float32 values.
    assert result.runtime.endswith(f", simulated, fp16 rounding: {'no' if recipe == 'fp32' else 'yes'})")
    assert result.size_bytes == sum(part.stat().st_size for part in result.path.rglob("*") if part.is_file())
    assert {part.name for part in result.path.iterdir()} == {"Data", "Manifest.json"}


def test_interface_is_the_contract(results: dict[str, ExportResult]) -> None:
    library = import_coremltools("Testing")
    with quiet():
        model = library.models.MLModel(str(results["fp16"].path), skip_model_load=True)
    description = model.get_spec().description
    [image] = description.input
    kinds = library.proto.FeatureTypes_pb2
    assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("image", 48, 64)
    assert image.type.imageType.colorSpace == kinds.ImageFeatureType.RGB
    outputs = {feature.name: feature.type.multiArrayType for feature in description.output}
    assert {name: list(array.shape) for name, array in outputs.items()} == {
        "logits": [1, 17, 16, 12],
        "presence": [1, 17],
        "visibility": [1, 17],
        "quality": [1, 17],
    }
    assert all(array.dataType == kinds.ArrayFeatureType.FLOAT32 for array in outputs.values())
    assert (model.license, model.author) == ("Apache-2.0", "The probpose-edge authors")
    assert "small-m (fp16)" in model.short_description
    assert model.version


def test_weights_are_stored_in_the_precision_asked_for(small_m: SmallM, results: dict[str, ExportResult]) -> None:
    def stored(recipe: str) -> tuple[dict[str, int], list[str]]:
        program = read_program(results[recipe].path)
        values: dict[str, int] = {}
        for value in program.constants.values():
            if isinstance(value, np.ndarray) and value.ndim == 4:
                values[str(value.dtype)] = values.get(str(value.dtype), 0) + value.size
        return values, [operation.type for operation in program.operations]

    convolutions = sum(isinstance(module, nn.Conv2d) for module in small_m.modules())
    for recipe, dtype in (("fp32", "float32"), ("fp16", "float16"), ("int8-static", "int8")):
        values, operations = stored(recipe)
        assert set(values) == {dtype}
        assert operations.count("conv") == convolutions
        assert operations.count("constexpr_affine_dequantize") == (convolutions if dtype == "int8" else 0)
    _, operations = stored("int8-static")
    assert operations.count("quantize") >= convolutions
    values, operations = stored("int8-weights")
    assert values["int8"] > 4 * values["float16"]
    assert "quantize" not in operations


def test_int8_agrees_with_the_quantized_graph(small_m: SmallM, tmp_path: Path) -> None:
    """In float32 the package is the same arithmetic; what is left are values half-way between two steps."""
    library = import_coremltools("Testing")
    with quiet():
        graph = quantize_static(small_m, crops_for(small_m, 16, 2), QUANTIZATIONS["int8-static"], int32_bias=False)
        package = coreml_export.to_package(library, graph, checkpoint_contract(small_m), library.precision.FLOAT32)
        package.save(str(tmp_path / "same.mlpackage"))
    crops = crops_for(small_m, 4, 3)
    with torch.no_grad():
        expected = [value.numpy() for value in graph(torch.from_numpy(crops))]
    got = MilRuntime(tmp_path / "same.mlpackage").run(crops)
    for name, want in zip(("logits", "presence", "visibility", "quality"), expected, strict=True):
        difference = np.abs(getattr(got, name) - want)
        assert np.sqrt((difference**2).mean()) <= 0.01 * want.std(), name


def test_operators_of_probpose_s(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = settled(SmallS())
    # Small first logits say nothing about errors in the layers before them.
    nn.init.normal_(model.map_head.final.weight)
    contract = checkpoint_contract(model)
    settings = config(model, tmp_path / "a.mlpackage", "int8-static", calibration_crops=crops_for(model, 4, 2))
    result = export_coreml(model, contract, settings)
    assert result.parity.logits_relative <= 0.15
    operations = {operation.type for operation in read_program(result.path).operations}
    assert {"conv_transpose", "gelu", "layer_norm", "linear", "matmul", "quantize", "softmax", "split"} <= operations


def test_crops_are_independent_of_their_batch(small_m: SmallM, results: dict[str, ExportResult]) -> None:
    crops = crops_for(small_m, 3, 5)
    runtime = MilRuntime(results["int8-static"].path)
    together = runtime.run(crops)
    assert together.logits.shape == (3, 17, 16, 12)
    assert together.logits.dtype == np.float32
    for index in range(3):
        np.testing.assert_array_equal(runtime.run(crops[index : index + 1]).logits[0], together.logits[index])
    assert runtime.run(crops[:0]).presence.shape == (0, 17)
    # Red and blue are told apart.
    assert np.abs(runtime.run(crops[..., ::-1]).logits - together.logits).max() > 0.01


def test_simulated_estimator(small_m: SmallM, results: dict[str, ExportResult]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    with open_simulated(results["fp16"].path, fp16_rounding=False, presence_threshold=0.25) as estimator:
        poses = estimator(image, [[10, 10, 60, 110], [80, 5, 150, 100]])
    assert poses.keypoints.shape == (2, 17, 2)
    assert poses.presence_threshold == 0.25
    assert estimator.runtime.provenance == "simulated"
    assert estimator.runtime.name.endswith("fp16 rounding: no)")
    with pytest.raises(InputError, match=r"This model was closed\. Open it again"):
        estimator.runtime.run(crops_for(small_m, 1, 0))


def test_converting_is_quiet(small_m: SmallM, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_coreml(small_m, checkpoint_contract(small_m), config(small_m, tmp_path / "a.mlpackage", "int8-weights"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("converted")
@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_failure_leaves_the_old_package_and_nothing_else(
    small_m: SmallM, package: Path, failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {part: part.read_bytes() for part in package.rglob("*") if part.is_file()}

    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr("probpose_convert.parity.check_parity", fail)
    with pytest.raises(KeyboardInterrupt if failure is KeyboardInterrupt else ConversionError) as caught:
        export_coreml(small_m, checkpoint_contract(small_m), config(small_m, package, "fp32"))
    if failure is not KeyboardInterrupt:
        assert "writing it failed: No space left on device. Free disk space" in str(caught.value)
    assert {part: part.read_bytes() for part in package.rglob("*") if part.is_file()} == before
    assert os.listdir(package.parent) == [package.name]


@pytest.mark.usefixtures("converted")
def test_success_replaces_the_old_package(small_m: SmallM, package: Path) -> None:
    assert read_contract(package).precision == "fp16"
    (package / "left over").write_text("from another time")
    result = export_coreml(small_m, checkpoint_contract(small_m), config(small_m, package, "fp32"))
    assert result.path == package
    assert read_contract(package).precision == "fp32"
    assert {part.name for part in package.iterdir()} == {"Data", "Manifest.json"}
    assert os.listdir(package.parent) == [package.name]


def test_a_package_that_does_not_follow_the_network_is_refused(
    small_m: SmallM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Darker(coreml_export._RgbPlanes):
        def forward(self, image: Tensor) -> tuple[Tensor, ...]:
            return super().forward(image * 0.25)

    monkeypatch.setattr(coreml_export, "_RgbPlanes", Darker)
    with pytest.raises(ConversionError, match=r"A fp32 file must follow the network .* logits_relative .* not kept"):
        export_coreml(small_m, checkpoint_contract(small_m), config(small_m, tmp_path / "a.mlpackage", "fp32"))
    assert os.listdir(tmp_path) == []


def test_a_package_that_the_executor_cannot_run_is_refused(
    small_m: SmallM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mirrored(coreml_export._RgbPlanes):
        def forward(self, image: Tensor) -> tuple[Tensor, ...]:
            return super().forward(image.flip(3))

    monkeypatch.setattr(coreml_export, "_RgbPlanes", Mirrored)
    with pytest.raises(ConversionError, match=r"'reverse', which gives 'flip', is not among them\. Use a network of"):
        export_coreml(small_m, checkpoint_contract(small_m), config(small_m, tmp_path / "a.mlpackage", "fp32"))
    assert os.listdir(tmp_path) == []


def test_an_operator_coreml_lacks(small_m: SmallM, tmp_path: Path) -> None:
    class Bessel(nn.Module):
        def forward(self, x: Tensor) -> PoseOutputs:
            out = small_m(x)
            return out._replace(logits=torch.special.bessel_j0(out.logits))

    with pytest.raises(ConversionError, match=r"operators that CoreML has, but bessel_j0 in .* could not be .*Use the"):
        export_coreml(Bessel().eval(), checkpoint_contract(small_m), config(small_m, tmp_path / "a.mlpackage", "fp32"))


def test_bad_requests(small_m: SmallM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = checkpoint_contract(small_m)
    with pytest.raises(InputError, match=r"must be named \*\.mlpackage, got 'a\.mlmodel'\. Change its name"):
        export_coreml(small_m, contract, config(small_m, tmp_path / "a.mlmodel", "fp16"))
    out = tmp_path / "a.mlpackage"
    with pytest.raises(
        InputError, match=r"CoreML must be one of int8-static, int8-weights, palette6, got 'int8-dynamic'"
    ):
        export_coreml(small_m, contract, config(small_m, out, "int8-dynamic"))
    with pytest.raises(InputError, match=r"int8-static takes its ranges from example crops and got none"):
        export_coreml(small_m, contract, config(small_m, out, "int8-static", calibration_crops=None))
    broken = SmallM().eval()
    nn.init.constant_(broken.final.weight, float("nan"))
    with pytest.raises(CheckpointError, match=r"final\.weight of small-m has NaN"):
        export_coreml(broken, contract, config(small_m, out, "fp16"))
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingExtraError, match=r'Converting to CoreML needs the package "coremltools".*\[convert\]'):
        export_coreml(small_m, contract, config(small_m, out, "fp16"))
    assert os.listdir(tmp_path) == []


WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
MODEL = Path("Data/com.apple.CoreML/model.mlmodel")


def test_damaged_weights(package: Path) -> None:
    content = (package / WEIGHTS).read_bytes()
    complaint = r"copy\.mlpackage is not a complete CoreML program: .+\. Copy it again, or convert the checkpoint again"
    for damaged in (content[: len(content) // 2], b"", bytes(len(content))):
        (package / WEIGHTS).write_bytes(damaged)
        with pytest.raises(ModelFileError, match=complaint):
            open_simulated(package)
    (package / WEIGHTS).unlink()
    with pytest.raises(ModelFileError, match=complaint):
        open_simulated(package)


def test_damaged_package(package: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"There is no model file .*absent\.mlpackage"):
        open_simulated(tmp_path / "absent.mlpackage")
    (tmp_path / "file.mlpackage").write_bytes(b"not a folder")
    with pytest.raises(ModelFileError, match=r"must be a folder"):
        open_simulated(tmp_path / "file.mlpackage")
    (package / MODEL).write_bytes((package / MODEL).read_bytes()[:3000])
    with pytest.raises(ModelFileError, match=r"is not a complete CoreML model"):
        open_simulated(package)
    with pytest.raises(ModelFileError, match=r"is not a complete CoreML program"):
        read_program(package)
    (package / "Manifest.json").unlink()
    with pytest.raises(ModelFileError, match=r"it has no Manifest\.json"):
        open_simulated(package)


def rewrite(package: Path, change: Any) -> None:
    """Edit the package's specification in place."""
    specification = import_coremltools("Testing").proto.Model_pb2.Model()
    specification.ParseFromString((package / MODEL).read_bytes())
    change(specification)
    (package / MODEL).write_bytes(specification.SerializeToString())


def test_package_without_metadata(package: Path) -> None:
    rewrite(package, lambda specification: specification.description.metadata.userDefined.clear())
    with pytest.raises(MetadataError, match=r"carries no probpose-edge metadata"):
        open_simulated(package)


def test_package_of_another_schema(package: Path) -> None:
    def change(specification: Any) -> None:
        entries = specification.description.metadata.userDefined
        entries["probpose_edge"] = entries["probpose_edge"].replace('"schema_version": 3', '"schema_version": 9')

    rewrite(package, change)
    with pytest.raises(MetadataError, match=r"reads metadata schemas 1 to 3; the file has schema 9"):
        open_simulated(package)


def test_package_with_another_interface(package: Path) -> None:
    def swap_colours(specification: Any) -> None:
        specification.description.input[0].type.imageType.colorSpace = 30  # BGR

    rewrite(package, swap_colours)
    with pytest.raises(ModelFileError, match=r"has one RGB image input 'image' and the float outputs logits, pres"):
        open_simulated(package)


def test_wrong_crops(results: dict[str, ExportResult]) -> None:
    runtime = MilRuntime(results["fp32"].path)
    with pytest.raises(InputError, match=r"must be a uint8 RGB array of shape \(N, 64, 48, 3\), got \(1, 48, 64, 3\)"):
        runtime.run(np.zeros((1, 48, 64, 3), np.uint8))


def test_probpose_m(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = settled(build_model("probpose-m"))
    contract: ModelContract = checkpoint_contract(model)
    result = export_coreml(model, contract, config(model, tmp_path / "fp32.mlpackage", "fp32"))
    assert result.parity.logits_relative <= 1e-4
    assert max(result.parity.presence_max_abs, result.parity.visibility_max_abs, result.parity.quality_max_abs) <= 1e-4
    # Four bytes a weight; the rest is the list of operations.
    assert result.size_bytes <= 4.2 * sum(parameter.numel() for parameter in model.parameters())
