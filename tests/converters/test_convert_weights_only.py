"""Files whose weights alone are small: int8 in ONNX, and 6-bit places in a table in CoreML."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probpose_convert import ExportConfig, ExportResult, export_coreml, export_onnx
from probpose_convert.mil_executor import MilRuntime
from probpose_convert.mil_palette import nearest_values
from probpose_convert.mil_profile import profile_package
from probpose_convert.mil_reader import read_program
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.runtimes.onnx import OnnxRuntime
from probpose_eval.benchmark.operator_profile import profile_operators
from probpose_models.checkpoint import checkpoint_contract
from probpose_models.layers import conv_bn_relu
from probpose_models.outputs import PoseOutputs
from probpose_models.torch_runtime import TorchRuntime

onnx = pytest.importorskip("onnx", reason="needs the extra convert")
pytest.importorskip("coremltools", reason="needs the extra convert")
pytest.importorskip("torchao", reason="needs the extra convert")

CROPS = np.random.default_rng(0).integers(0, 256, (9, 4, 3, 3)).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)


class Wide(nn.Module):
    """A layer worth a table, a depthwise one and a small one."""

    name, input_wh, heatmap_wh, temperature, keypoints = "wide", (24, 32), (12, 16), 0.5, 17
    window_ratio, presence_head = 1.0, True

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 32, 3)
        self.wide = conv_bn_relu(32, 64, 3)
        self.pool = nn.MaxPool2d(2)
        self.depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.final = nn.Conv2d(64, 17, 1)

    def forward(self, x: Tensor) -> PoseOutputs:
        logits = self.final(self.depthwise(self.pool(self.wide(self.stem(x)))))
        return PoseOutputs(logits, *(logits.amax((2, 3)),) * 3)


MACS = 32 * 24 * (3 * 32 * 9 + 32 * 64 * 9) + 16 * 12 * (64 * 9 + 64 * 17)


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    return Wide().eval()


@pytest.fixture(scope="module")
def files(network: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportResult]:
    folder = tmp_path_factory.mktemp("weights")
    made = {}
    for export, name, recipe in (
        (export_onnx, "int8-weights.onnx", "int8-weights"),
        (export_coreml, "palette6.mlpackage", "palette6"),
        (export_coreml, "int8.mlpackage", "int8-static"),
    ):
        config = ExportConfig(
            out=folder / name, precision="int8", recipe=recipe, calibration_crops=CROPS, parity_crops=CROPS[:2]
        )
        made[name] = export(network, checkpoint_contract(network), config)
    return made


@pytest.mark.parametrize(("name", "bound"), [("int8-weights.onnx", 0.02), ("palette6.mlpackage", 0.05)])
def test_it_follows_the_network_and_says_what_it_is(
    name: str, bound: float, files: dict[str, ExportResult], network: Any
) -> None:
    result = files[name]
    assert result.parity.logits_relative is not None
    assert result.parity.logits_relative < bound
    contract = read_contract(result.path)
    assert (contract.precision, contract.recipe) == ("int8", name.partition(".")[0])
    # Nothing was calibrated, and torchao made nothing of it.
    assert "int8_sha256" not in contract.calibration
    assert "torchao" not in contract.versions
    runtime = (OnnxRuntime if name.endswith(".onnx") else MilRuntime)(result.path)
    expected, got = TorchRuntime(network).run(CROPS), runtime.run(CROPS)
    assert np.abs(got.presence - expected.presence).max() < bound


def test_onnx_stores_every_large_weight_as_int8(files: dict[str, ExportResult]) -> None:
    graph = onnx.load(files["int8-weights.onnx"].path).graph
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    weights = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    assert sum(name in dequantized for name in weights) == len(weights) == 4
    stored = {tensor.name: tensor for tensor in graph.initializer}
    integers = [t for t in stored.values() if t.data_type == onnx.TensorProto.INT8]
    assert sum(int(np.prod(t.dims)) for t in integers) == 3 * 32 * 9 + 32 * 64 * 9 + 64 * 9 + 64 * 17
    for tensor in integers:
        # The largest weight of every channel is a whole 127.
        values = np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).reshape(tensor.dims[0], -1)
        assert (values.max(1) == 127).all()


def test_coreml_has_a_table_for_the_wide_layer_alone(files: dict[str, ExportResult]) -> None:
    program = read_program(files["palette6.mlpackage"].path)
    (looked_up,) = [operation for operation in program.operations if operation.type == "constexpr_lut_to_dense"]
    assert looked_up.outputs[0].shape == (64, 32, 3, 3)
    table, places = (program.constants[looked_up.arguments[name]] for name in ("lut", "indices"))  # type: ignore[index]
    assert isinstance(table, np.ndarray)
    assert isinstance(places, np.ndarray)
    assert (table.shape, table.dtype) == ((64,), np.float16)
    assert places.nbytes == 64 * 32 * 9 * 6 // 8
    floats = [v for v in program.constants.values() if isinstance(v, np.ndarray) and v.ndim == 4]
    assert {value.dtype for value in floats} == {np.dtype("float16")}


def test_what_computes_in_which_type(files: dict[str, ExportResult]) -> None:
    palette, integer = (profile_package(files[name].path) for name in ("palette6.mlpackage", "int8.mlpackage"))
    assert (palette.int8_macs, palette.float_macs) == (0, MACS)
    assert palette.float_products == {"conv": (4, MACS)}
    assert (integer.int8_macs, integer.float_macs) == (MACS, 0)
    weights = profile_operators(files["int8-weights.onnx"].path, (24, 32), threads=1)
    assert weights is not None
    assert (weights.int8_macs, weights.float_macs) == (0, MACS)


def test_a_table_of_values() -> None:
    """Exact where there are few values, and nearer to many than even steps are."""
    few = np.array([-3.0, 0.25, 0.5, 7.0]).repeat(50)
    assert set(few) <= set(np.round(nearest_values(few, 8), 12))
    many = np.random.default_rng(0).standard_t(4, 20_000)
    for count in (4, 64):
        table = nearest_values(many, count)
        even = np.linspace(many.min(), many.max(), count)
        error, even_error = (np.abs(many[:, None] - side).min(1) ** 2 for side in (table, even))
        assert error.mean() < 0.5 * even_error.mean()
        assert (np.diff(table) >= 0).all()
    assert nearest_values(np.full(5, 2.0), 64) == pytest.approx(np.full(64, 2.0))
