"""Files that decode inside, in every format: their poses are those that the SDK decodes from the twin with maps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from probpose_convert import ExportConfig, ExportResult  # noqa: E402
from probpose_convert.convert_all import EXPORTERS, SUFFIXES, convert_network  # noqa: E402
from probpose_convert.mil_executor import MilRuntime  # noqa: E402
from probpose_edge import InputError, PoseEstimator, Poses, read_contract  # noqa: E402
from probpose_edge.contract.metadata import DECODED_NAMES, ModelContract  # noqa: E402
from probpose_edge.exceptions import ConversionError  # noqa: E402
from probpose_edge.runtimes.base import Runtime  # noqa: E402
from probpose_edge.runtimes.open_runtime import open_runtime  # noqa: E402
from probpose_models.checkpoint import checkpoint_contract  # noqa: E402
from probpose_models.layers import conv_bn_relu  # noqa: E402
from probpose_models.outputs import PoseOutputs  # noqa: E402

LIBRARIES = {"onnx": ("onnx", "onnxruntime", "torchao"), "tflite": ("litert_torch",), "coreml": ("coremltools",)}
CELLS = 1e-2
"""How far a keypoint may be from the SDK's, in cells."""
NUMBERS = 1e-4
"""How far probabilities and expected OKS may be: float32 on both sides, of logits that fp16 may round differently."""


class Small(nn.Module):
    """A few convolutions over 24×32 pixels; subclasses say what they give."""

    input_wh, heatmap_wh, keypoints = (24, 32), (12, 16), 17

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn_relu(3, 8, 3), nn.MaxPool2d(2), conv_bn_relu(8, 16, 3))
        self.maps = nn.ModuleList(nn.Conv2d(16, 17, 1) for _ in range(2))
        self.scalars = nn.ModuleList(nn.Conv2d(16, 17, (16, 12)) for _ in range(3))


class OneMap(Small):
    name, temperature, window_ratio, presence_head = "small", 0.5, 1.0, True

    def forward(self, x: Tensor) -> PoseOutputs:
        features = self.stem(x)
        return PoseOutputs(self.maps[0](features), *(head(features).flatten(1) for head in self.scalars))


class TwoMaps(Small):
    name, temperature, window_ratio, presence_head = "small-dh", 0.5, 1.25, True

    def forward(self, x: Tensor) -> PoseOutputs:
        features = self.stem(x)
        large, expert = (head(features) for head in self.maps)
        return PoseOutputs(large, *(head(features).flatten(1) for head in self.scalars), expert_logits=expert)


class Heatmaps(Small):
    name, temperature, window_ratio, presence_head = "small-heatmap", 1.0, 1.0, None

    def forward(self, x: Tensor) -> PoseOutputs:
        return PoseOutputs(self.maps[0](self.stem(x)))


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    """(8, 32, 24, 3): blocks of colour."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 6, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def network(kind: type[Small]) -> tuple[Any, ModelContract]:
    """Random weights and a calibration that is not the identity."""
    torch.manual_seed(0)
    model: Any = kind().eval()
    rng = np.random.default_rng(1)
    scale, bias = tuple(rng.uniform(0.5, 2, 17).tolist()), tuple(rng.uniform(-1, 1, 17).tolist())
    contract = checkpoint_contract(model)
    return model, contract.replace(presence_scale=scale, presence_bias=bias, quality_scale=scale, quality_bias=bias)


def export(
    kind: type[Small], form: str, precision: str, crops: NDArray[np.uint8], folder: Path, *, decoded: bool
) -> ExportResult:
    for library in LIBRARIES[form]:
        pytest.importorskip(library, reason="needs the extra convert")
    model, contract = network(kind)
    config = ExportConfig(
        out=folder / f"{precision}-{decoded}{SUFFIXES[form]}",
        precision=precision.partition("-")[0],
        recipe=precision if "-" in precision else None,
        calibration_crops=crops,
        parity_crops=crops[:3],
        decoded=decoded,
    )
    return EXPORTERS[form](model, contract, config)


def opened(path: Path) -> Runtime:
    return MilRuntime(path) if path.suffix == ".mlpackage" else open_runtime(path, threads=1)


def poses_of(path: Path, crops: NDArray[np.uint8]) -> Poses:
    windows = np.tile(np.array([[11.5, 15.5, 23.0, 31.0]]), (len(crops), 1))
    return PoseEstimator(opened(path), read_contract(path)).predict_crops(crops, windows)


def assert_equal(inside: Poses, by_sdk: Poses) -> None:
    # 23 pixels are 11 cells, 31 are 15.
    shift = np.linalg.norm((inside.keypoints - by_sdk.keypoints) * [11 / 23, 15 / 31], axis=-1)
    assert shift.max() < CELLS
    for name in ("presence", "visibility", "quality", "expected_oks"):
        assert np.abs(getattr(inside, name) - getattr(by_sdk, name)).max() < NUMBERS, name
    np.testing.assert_array_equal(inside.windows, by_sdk.windows)


CASES = [
    (OneMap, "onnx", "fp32"),
    (OneMap, "tflite", "fp32"),
    (OneMap, "coreml", "fp32"),
    (OneMap, "coreml", "fp16"),
    (TwoMaps, "onnx", "fp32"),
    (Heatmaps, "onnx", "fp32"),
    (Heatmaps, "tflite", "fp32"),
    (OneMap, "onnx", "int8"),
    (OneMap, "tflite", "int8-static"),
]
SLOW = [
    (OneMap, "onnx", "fp16"),
    (OneMap, "onnx", "int8-weights"),
    (OneMap, "tflite", "fp16"),
    (OneMap, "tflite", "int8-dynamic"),
    (OneMap, "tflite", "int8-weights"),
    (OneMap, "coreml", "int8"),
    (OneMap, "coreml", "int8-weights"),
    (TwoMaps, "tflite", "fp32"),
    (TwoMaps, "coreml", "fp32"),
    (Heatmaps, "coreml", "fp32"),
]


@pytest.mark.parametrize(
    ("kind", "form", "precision"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_poses_are_those_of_the_sdk(
    kind: type[Small], form: str, precision: str, crops: NDArray[np.uint8], tmp_path: Path
) -> None:
    twin = export(kind, form, precision, crops, tmp_path, decoded=False)
    result = export(kind, form, precision, crops, tmp_path, decoded=True)
    assert_equal(poses_of(result.path, crops), poses_of(twin.path, crops))
    contract = read_contract(result.path)
    assert contract == result.contract
    assert contract.output_kind == "decoded"
    assert (contract.format, contract.recipe) == (twin.contract.format, twin.contract.recipe)
    runtime = opened(result.path)
    assert tuple(runtime.run(crops[:0]).named()) == DECODED_NAMES
    assert [values.shape for values in runtime.run(crops[:2]).named().values()] == [(2, 17, 2), *[(2, 17)] * 4]
    assert result.parity.map_overlap is None
    assert result.parity.keypoint_shift_cell == pytest.approx(twin.parity.keypoint_shift_cell, abs=CELLS)
    _assert_the_decode_is_float(result.path, precision)


def _assert_the_decode_is_float(path: Path, precision: str) -> None:
    if path.suffix == ".mlpackage":
        from probpose_convert.mil_reader import read_program

        program = read_program(path)
        own = ("reduce_sum", "reduce_max", "real_div", "exp", "log", "minimum", "maximum", "clip")
        after = [op for op in program.operations if op.type in own]
        assert after
        assert {value.dtype for op in after for value in op.outputs} <= {"fp32"}
        assert all(value.dtype == "fp32" for value in program.outputs.values())
    elif path.suffix == ".tflite":
        from probpose_convert.tflite_flatbuffer import operator_name, read_flatbuffer

        model = read_flatbuffer(path.read_bytes())
        (graph,) = model.subgraphs
        decode = [tensor for tensor in graph.tensors if tensor.name.startswith(b"decode/")]
        # float32, int32 and int64 (shapes and axes) by TFLite's numbers.
        assert {tensor.type for tensor in decode} <= {0, 2, 4}
        names = Counter(tensor.name for tensor in graph.tensors)
        assert [name for name, count in names.items() if count > 1 and not name.startswith(b"decode/")] == []
        assert "BATCH_MATMUL" in {operator_name(model, operator) for operator in graph.operators}


def test_the_operators_of_the_network_stay_as_they_are(crops: NDArray[np.uint8], tmp_path: Path) -> None:
    from probpose_convert.tflite_flatbuffer import read_flatbuffer

    twin = export(OneMap, "tflite", "int8-static", crops, tmp_path, decoded=False)
    result = export(OneMap, "tflite", "int8-static", crops, tmp_path, decoded=True)
    ours, theirs = (read_flatbuffer(r.path.read_bytes()).subgraphs[0] for r in (result, twin))
    assert len(ours.operators) > len(theirs.operators)
    for ours_op, theirs_op in zip(ours.operators, theirs.operators, strict=False):
        assert list(ours_op.inputs) == list(theirs_op.inputs)
        assert list(ours_op.outputs) == list(theirs_op.outputs)


def test_names_and_a_file_that_goes_wrong(
    crops: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="needs the extra convert")
    model, contract = network(OneMap)
    (result,) = convert_network(
        model, contract, [("onnx", "fp32")], tmp_path, calibration_crops=crops, parity_crops=crops, decoded=True
    )
    assert result.path.name == "small-fp32-decoded.onnx"
    with pytest.raises(InputError, match="Maps were asked for, but this model file decodes them inside"):
        PoseEstimator.open(result.path)(np.zeros((40, 40, 3), np.uint8), [[0, 0, 30, 40]], return_maps=True)
    # A decode that calibrates with other numbers than the contract's is found out.
    wrong = contract.replace(presence_bias=(9.0,) * 17)
    monkeypatch.setattr("probpose_convert.onnx_export.DecodedNetwork", _with(wrong))
    with pytest.raises(ConversionError, match=r"must follow the network .* probability_mean_abs"):
        convert_network(
            model, contract, [("onnx", "fp32")], tmp_path, calibration_crops=crops, parity_crops=crops, decoded=True
        )
    assert read_contract(result.path).output_kind == "decoded"


def _with(contract: ModelContract) -> Any:
    from probpose_models.decode_in_graph import DecodedNetwork

    return lambda network, _: DecodedNetwork(network, contract)
