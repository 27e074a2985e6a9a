"""TFLite files: a small network of probpose-m's layers goes all the way through every recipe."""

from __future__ import annotations

import copy
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if find_spec("litert_torch") is None:
    pytest.skip("needs the extra convert", allow_module_level=True)

from torch import Tensor, nn  # noqa: E402

from probpose_convert import tflite_export, tflite_graph  # noqa: E402
from probpose_convert.export_config import ExportConfig  # noqa: E402
from probpose_convert.export_result import ExportResult  # noqa: E402
from probpose_convert.tflite_calibrate import LARGEST_BIAS, activation_ranges, weight_ranges  # noqa: E402
from probpose_convert.tflite_export import export_tflite  # noqa: E402
from probpose_convert.tflite_flatbuffer import (  # noqa: E402
    BUFFER_ALIGNMENT,
    operator_name,
    read_flatbuffer,
    write_flatbuffer,
)
from probpose_convert.tflite_graph import float_tflite  # noqa: E402
from probpose_convert.tflite_quantize import quantize_tflite  # noqa: E402
from probpose_edge.contract.metadata import ModelContract  # noqa: E402
from probpose_edge.contract.read_contract import read_contract  # noqa: E402
from probpose_edge.exceptions import CheckpointError, ConversionError, InputError, MissingExtraError  # noqa: E402
from probpose_edge.runtimes.litert import LiteRTRuntime  # noqa: E402
from probpose_models.checkpoint import build_model, checkpoint_contract  # noqa: E402
from probpose_models.layers import conv_bn_relu, conv_bn_relu6  # noqa: E402
from probpose_models.mobilenet_v2 import InvertedResidual  # noqa: E402
from probpose_models.outputs import PoseOutputs  # noqa: E402
from probpose_models.probpose_m import upsample2x  # noqa: E402

RECIPES = ("fp32", "fp16", "int8-weights", "int8-dynamic", "int8-static")
SMALL_INT8 = 128
"""A bias of so few steps is rounded by more than the share that the test allows."""


class SmallNetwork(nn.Module):
    """48×64 pixels to maps of 12×16 cells, by every kind of layer of probpose-m."""

    name = "probpose-m"
    keypoints = 17
    input_wh = (48, 64)
    heatmap_wh = (12, 16)
    temperature = 0.5
    window_ratio, presence_head = 1.0, True

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu6(3, 16, 3, 2)
        self.stride4 = InvertedResidual(16, 24, 2, 3)
        self.shortcut = InvertedResidual(24, 24, 1, 3)
        self.stride8 = InvertedResidual(24, 32, 2, 3)
        self.lateral = nn.Sequential(nn.Conv2d(24, 32, 1, bias=False), nn.BatchNorm2d(32))
        self.fuse = conv_bn_relu(32, 32, 3)
        self.final = nn.Conv2d(32, 17, 1)
        self.heads = nn.ModuleList(
            nn.Sequential(conv_bn_relu(32, 16, 3), nn.MaxPool2d(2), nn.Conv2d(16, 17, (4, 3))) for _ in range(3)
        )

    def forward(self, x: Tensor) -> PoseOutputs:
        stride4 = self.shortcut(self.stride4(self.stem(x)))
        stride8 = self.stride8(stride4)
        logits = self.final(self.fuse(torch.relu(upsample2x(stride8) + self.lateral(stride4))))
        return PoseOutputs(logits, *(head(stride8).flatten(1) for head in self.heads))


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Smooth random pictures: (12, 64, 48, 3) uint8."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 8, 6, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def network(crops: np.ndarray) -> SmallNetwork:
    """Random weights, statistics from the crops, and one stem channel without weights whose output is constant."""
    torch.manual_seed(0)
    model = SmallNetwork()
    with torch.no_grad():
        model.stem[0].weight[3] = 0
        nn.init.constant_(model.stem[1].bias, 0.7)
        pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 64 - 2
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        for _ in range(3):
            model.train()(pixels)
        model.final.weight *= 5
    return model.eval()


@pytest.fixture(scope="module")
def contract(network: SmallNetwork) -> ModelContract:
    return checkpoint_contract(network)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def content(network: SmallNetwork) -> bytes:
    """The float model."""
    return float_tflite(network, network.input_wh)


@pytest.fixture(scope="module")
def files(
    network: SmallNetwork, contract: ModelContract, crops: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ExportResult]:
    """One file per recipe."""
    folder = tmp_path_factory.mktemp("tflite")
    return {
        recipe: export_tflite(network, contract, config_for(folder / f"{recipe}.tflite", recipe, crops))
        for recipe in RECIPES
    }


def config_for(out: Path, recipe: str, crops: np.ndarray) -> ExportConfig:
    precision, _, kind = recipe.partition("-")
    return ExportConfig(
        out=out,
        precision=precision,
        recipe=recipe if kind else None,
        calibration_crops=crops[:8],
        parity_crops=crops[8:],
    )


def operators(path: Path) -> list[tuple[str, Any]]:
    model = read_flatbuffer(path.read_bytes())
    return [(operator_name(model, operator), operator) for operator in model.subgraphs[0].operators]


@pytest.mark.parametrize(
    ("recipe", "logits_relative"),
    [("fp32", 1e-4), ("fp16", 5e-3), ("int8-weights", 0.05), ("int8-dynamic", 0.1), ("int8-static", 0.15)],
)
def test_a_file_follows_its_network_and_says_what_it_is(
    files: dict[str, ExportResult], contract: ModelContract, recipe: str, logits_relative: float
) -> None:
    result = files[recipe]
    assert result.parity.logits_relative < logits_relative
    assert result.parity.presence_max_abs < logits_relative
    assert result.parity.crops == 4
    assert (result.format, result.precision, result.recipe) == ("tflite", recipe.split("-")[0], recipe)
    assert result.size_bytes == result.path.stat().st_size
    assert result.provenance == "measured"
    assert "ai-edge-litert" in result.runtime
    written = read_contract(result.path)
    assert written == result.contract
    assert written.recipe == recipe
    assert {"litert-torch", "torch"} <= set(written.versions)
    assert set(written.calibration) == ({"int8_crops", "int8_sha256"} if recipe == "int8-static" else set())
    same = {"versions": contract.versions, "calibration": contract.calibration}
    assert written.replace(format="safetensors", precision="fp32", recipe="fp32", **same) == contract


@pytest.mark.parametrize("recipe", RECIPES)
def test_inputs_and_outputs_keep_names_and_types(files: dict[str, ExportResult], recipe: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(files[recipe].path))
    runner = interpreter.get_signature_runner()
    image = runner.get_input_details()["image"]
    assert (image["name"], image["dtype"], image["shape"].tolist()) == ("image", np.uint8, [1, 64, 48, 3])
    outputs = {name: (d["name"], d["dtype"], d["shape"].tolist()) for name, d in runner.get_output_details().items()}
    assert outputs == {
        "logits": ("logits", np.float32, [1, 17, 16, 12]),
        **{name: (name, np.float32, [1, 17]) for name in ("presence", "visibility", "quality")},
    }
    assert [d["name"] for d in interpreter.get_output_details()] == ["logits", "presence", "visibility", "quality"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_graph_is_native_and_runs_in_one_xnnpack_partition(files: dict[str, ExportResult], recipe: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    kinds = [kind for kind, _ in operators(files[recipe].path)]
    assert "PAD" not in kinds  # SAME padding instead
    assert kinds.count("TRANSPOSE") == 1  # of the logits, which leave in the layout of the contract
    assert {"RESIZE_BILINEAR", "MAX_POOL_2D", "DEPTHWISE_CONV_2D"} <= set(kinds)
    interpreter = Interpreter(model_path=str(files[recipe].path), num_threads=1)
    interpreter.allocate_tensors()
    planned = [details["op_name"] for details in interpreter._get_ops_details()]
    assert planned.count("DELEGATE") == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_constants_lie_inside_the_flatbuffer_and_aligned(files: dict[str, ExportResult], recipe: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(files[recipe].path.read_bytes(), 0)
    starts = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        assert buffer.Offset() == 0
        if not buffer.DataIsNone():
            starts.append(buffer._tab.Vector(buffer._tab.Offset(4)))  # 4: the slot of the field `data`
    assert len(starts) > 20
    assert all(start % BUFFER_ALIGNMENT == 0 for start in starts)


def test_equal_arrays_are_stored_once_and_change_no_answer(files: dict[str, ExportResult], crops: np.ndarray) -> None:
    import flatbuffers
    from ai_edge_litert.interpreter import Interpreter

    class ApartBuilder(flatbuffers.Builder):  # type: ignore[misc]
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
            return super().StartVector(elemSize, numElems, BUFFER_ALIGNMENT if elemSize == 1 else alignment)

    content = files["int8-static"].path.read_bytes()
    model = read_flatbuffer(content)
    apart = ApartBuilder(2**20)
    apart.Finish(model.Pack(apart), file_identifier=b"TFL3")
    shared = write_flatbuffer(read_flatbuffer(content))
    assert content.startswith(shared)
    assert len(shared) < 0.9 * len(apart.Output())
    grids = [
        [(tensor.quantization.scale, tensor.quantization.zeroPoint) for tensor in graph.tensors if tensor.quantization]
        for graph in (read_flatbuffer(shared).subgraphs[0], model.subgraphs[0])
    ]
    for kept, given in zip(*grids, strict=True):
        assert [np.array_equal(a, b) for a, b in zip(kept, given, strict=True)] == [True, True]
    answers = []
    for form in (shared, bytes(apart.Output())):
        interpreter = Interpreter(model_content=form, num_threads=1)
        runner = interpreter.get_signature_runner()
        answers.append({name: value.tobytes() for name, value in runner(image=crops[:1]).items()})
    assert answers[0] == answers[1]


def test_static_int8_computes_in_int8_between_float_boundaries(files: dict[str, ExportResult]) -> None:
    from ai_edge_litert.schema_py_generated import TensorType

    path = files["int8-static"].path
    (graph,) = read_flatbuffer(path.read_bytes()).subgraphs
    types: dict[str, set[int]] = {}
    for kind, operator in operators(path):
        types.setdefault(kind, set()).add(graph.tensors[operator.outputs[0]].type)
    for kind in ("DEPTHWISE_CONV_2D", "ADD", "RESIZE_BILINEAR", "MAX_POOL_2D"):
        assert types[kind] == {TensorType.INT8}
    for kind in ("SUB", "MUL", "TRANSPOSE", "LOGISTIC"):
        assert types[kind] == {TensorType.FLOAT32}
    float_convolutions = [
        operator
        for kind, operator in operators(path)
        if kind == "CONV_2D" and graph.tensors[operator.outputs[0]].type == TensorType.FLOAT32
    ]
    assert len(float_convolutions) == 4  # the last layer of each output


def test_static_int8_keeps_the_bias_of_a_channel_without_weights(
    files: dict[str, ExportResult], content: bytes
) -> None:
    floats, quantized = read_flatbuffer(content), read_flatbuffer(files["int8-static"].path.read_bytes())
    names = {tensor.name: tensor for tensor in floats.subgraphs[0].tensors}
    compared = 0
    for tensor in quantized.subgraphs[0].tensors:
        if tensor.type != 2 or tensor.quantization is None or tensor.quantization.scale is None:  # 2: int32
            continue
        steps = np.frombuffer(quantized.buffers[tensor.buffer].data, np.int32)
        expected = np.frombuffer(floats.buffers[names[tensor.name].buffer].data, np.float32)
        coarse = np.abs(steps) > SMALL_INT8
        np.testing.assert_allclose((steps * tensor.quantization.scale)[coarse], expected[coarse], rtol=0.01)
        assert np.abs(steps).max() <= LARGEST_BIAS + 1
        compared += coarse.sum()
    assert compared > 100


def test_a_bias_without_weights_would_overflow_without_weight_ranges(content: bytes, crops: np.ndarray) -> None:
    activations = activation_ranges(content, crops[:2])
    reach = weight_ranges(content, activations)
    stem = next(name for name in reach if "stem" in name)
    high = reach[stem][1].ravel()
    assert high[3] == high.max()
    assert (reach[stem][0] == -reach[stem][1]).all()
    assert reach[stem][1].shape == (16, 1, 1, 1)
    model = read_flatbuffer(quantize_tflite(content, "int8-static", activations))
    steps = [
        np.frombuffer(model.buffers[tensor.buffer].data, np.int32)
        for tensor in model.subgraphs[0].tensors
        if tensor.type == 2 and tensor.quantization is not None and tensor.quantization.scale is not None
    ]
    assert any((np.abs(values.astype(np.int64)) >= 2**31 - 1).any() for values in steps)


def test_ranges_lie_between_the_average_and_the_extreme_crop(content: bytes) -> None:
    crops = np.stack([np.zeros((64, 48, 3), np.uint8), np.full((64, 48, 3), 255, np.uint8)])
    reports: list[tuple[int, int]] = []
    before = crops.copy()
    ranges = activation_ranges(content, crops, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(1, 2), (2, 2)]
    assert (crops == before).all()
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    black, white = -mean / std, (1 - mean) / std
    low = ((black.min() + white.min()) / 2 + black.min()) / 2
    high = ((black.max() + white.max()) / 2 + white.max()) / 2
    (graph,) = (model := read_flatbuffer(content)).subgraphs
    multiply = next(op for op in graph.operators if operator_name(model, op) == "MUL")
    found = ranges[graph.tensors[multiply.outputs[0]].name.decode()]
    np.testing.assert_allclose([found[0].item(), found[1].item()], [low, high], rtol=1e-5)
    assert found[0].shape == (1, 1, 1)


def test_int8_means_static_for_a_convolutional_network(
    network: SmallNetwork, contract: ModelContract, crops: np.ndarray, files: dict[str, ExportResult], tmp_path: Path
) -> None:
    result = export_tflite(network, contract, config_for(tmp_path / "default.tflite", "int8", crops))
    assert result.recipe == "int8-static"
    assert result.path.read_bytes() == files["int8-static"].path.read_bytes()  # and the same again, byte for byte


def test_the_network_is_left_alone_and_translated_once(
    network: SmallNetwork, contract: ModelContract, crops: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litert_torch

    model = copy.deepcopy(network)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    float_tflite(model, model.input_wh)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    calls: list[object] = []
    monkeypatch.setattr(litert_torch, "convert", lambda *args, **kwargs: calls.append(args) or 1 / 0)
    export_tflite(model, contract, config_for(tmp_path / "again.tflite", "fp32", crops))
    assert not calls
    with torch.no_grad():
        model.final.bias += 1
    with pytest.raises(ConversionError, match="translating it failed with ZeroDivisionError"):
        float_tflite(model, model.input_wh)
    assert len(calls) == 1


class Untranslatable(SmallNetwork):
    def forward(self, x: Tensor) -> PoseOutputs:
        return super().forward(torch.linalg.svdvals(x).mean() + x)


def test_operators_that_tflite_lacks_are_named_as_the_reason(
    contract: ModelContract, crops: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=r"must consist of operators that TFLite has.*choose another format"):
        export_tflite(Untranslatable(), contract, config_for(tmp_path / "m.tflite", "fp32", crops))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["litert_torch", "ai_edge_quantizer"])
def test_a_missing_library_names_the_extra(
    network: SmallNetwork,
    contract: ModelContract,
    crops: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=re.escape(f'"{module}"') + r'.*pip install "probpose-edge\[convert\]"'):
        export_tflite(network, contract, config_for(tmp_path / "m.tflite", "fp16", crops))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_litert_cannot_load_is_a_failed_conversion(
    network: SmallNetwork,
    contract: ModelContract,
    content: bytes,
    crops: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tflite_export, "float_tflite", lambda model, input_wh: content)
    monkeypatch.setattr(tflite_export, "quantize_tflite", lambda content, recipe, ranges, **_: content[:5000])
    with pytest.raises(ConversionError, match=r"The int8-weights file must load in LiteRT, .*Choose another recipe"):
        export_tflite(network, contract, config_for(tmp_path / "m.tflite", "int8-weights", crops))
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_are_refused_before_anything_is_written(
    network: SmallNetwork, contract: ModelContract, crops: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"int8-static takes its ranges from example crops.*--calib"):
        export_tflite(
            network, contract, ExportConfig(out=tmp_path / "m.tflite", precision="int8", parity_crops=crops[:1])
        )
    with pytest.raises(InputError, match=r"must be named \*\.tflite, got 'm\.onnx'"):
        export_tflite(network, contract, config_for(tmp_path / "m.onnx", "fp32", crops))
    with pytest.raises(InputError, match=r"must have shape \(N, 64, 48, 3\)"):
        export_tflite(network, contract, config_for(tmp_path / "m.tflite", "fp32", crops[:, :32]))
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.final.bias[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"final\.bias .* has NaN or infinite values"):
        export_tflite(broken, contract, config_for(tmp_path / "m.tflite", "fp32", crops))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_follow_its_network_is_not_kept(
    network: SmallNetwork, contract: ModelContract, crops: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.tflite"
    export_tflite(network, contract, config_for(out, "fp32", crops))
    kept = out.read_bytes()
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.final.weight *= -1
    with monkeypatch.context() as patched:
        patched.setattr(tflite_export, "float_tflite", lambda model, wh: float_tflite(network, wh))
        with pytest.raises(ConversionError, match="must follow the network it came from"):
            export_tflite(other, contract, config_for(out, "fp32", crops))
    assert out.read_bytes() == kept
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("step", ["float_tflite", "activation_ranges", "quantize_tflite", "checked_result"])
def test_an_interrupted_conversion_leaves_the_older_file_and_nothing_else(
    network: SmallNetwork,
    contract: ModelContract,
    crops: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    out = tmp_path / "m.tflite"
    out.write_bytes(b"older")

    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tflite_export, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_tflite(network, contract, config_for(out, "int8-static", crops))
    assert out.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [out]


def test_conversion_is_quiet(
    network: SmallNetwork, contract: ModelContract, crops: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tflite_graph._latest = None
    export_tflite(network, contract, config_for(tmp_path / "m.tflite", "int8-static", crops))
    out, err = capfd.readouterr()
    # The runtime announces its delegate once per process, and the compiler's log level is what it was when something
    # first imported litert_torch: no Python code can change either afterwards.
    fixed = ("XNNPACK delegate", "flatbuffer_export.cc")
    assert [line for line in (out + err).splitlines() if not any(text in line for text in fixed)] == []


@pytest.mark.slow
def test_probpose_m_is_native_and_its_int8_file_is_small(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model("probpose-m")
    with torch.no_grad():
        model.train()(torch.randn(2, 3, 256, 192))
    model.eval()
    coarse = np.random.default_rng(0).integers(0, 256, (12, 32, 24, 3), dtype=np.uint8)
    crops = coarse.repeat(8, axis=1).repeat(8, axis=2)
    contract = checkpoint_contract(model)
    sizes = {}
    for recipe in ("fp32", "int8-dynamic", "int8-static"):
        result = export_tflite(model, contract, config_for(tmp_path / f"{recipe}.tflite", recipe, crops))
        sizes[recipe] = result.size_bytes
        kinds = [kind for kind, _ in operators(result.path)]
        assert "PAD" not in kinds
        assert kinds.count("TRANSPOSE") == 1
        runtime = LiteRTRuntime(result.path)
        assert [d["op_name"] for d in runtime._session.get()._get_ops_details()].count("DELEGATE") == 1
        runtime.close()
    assert sizes["int8-dynamic"] <= 0.3 * sizes["fp32"]
    assert sizes["int8-static"] <= 0.3 * sizes["fp32"]
