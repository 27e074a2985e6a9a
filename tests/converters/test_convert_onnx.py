"""probpose-m as .onnx files in every precision, and the small passes that make them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from probpose_convert import ExportConfig, ExportResult, export_onnx
from probpose_convert.onnx_deconvolution import replace_deconvolutions
from probpose_convert.onnx_network import HalfNetwork, OnnxNetwork
from probpose_edge import PoseEstimator
from probpose_edge.contract.metadata import METADATA_KEY, ModelContract
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.runtimes.onnx import OnnxRuntime
from probpose_eval.synth import draw_scene
from probpose_models.checkpoint import build_model, checkpoint_contract
from probpose_models.deploy import Deployable
from probpose_models.torch_runtime import TorchRuntime

onnx = pytest.importorskip("onnx", reason="needs the extra convert")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra convert")
pytest.importorskip("torchao", reason="needs the extra convert")

PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    """(8, 256, 192, 3) drawn people."""
    scene = draw_scene(np.random.default_rng(3), width=768, height=512)
    picture = scene.image[..., ::-1]
    return np.stack([picture[y : y + 256, x : x + 192] for y in (0, 256) for x in (0, 192, 384, 576)])


@pytest.fixture(scope="module")
def model(crops: NDArray[np.uint8]) -> nn.Module:
    """probpose-m with statistics of the crops and maps that differ from crop to crop."""
    torch.manual_seed(0)
    network = build_model("probpose-m")
    nn.init.normal_(network.map_head.final.weight, std=0.1)
    network.train()
    with torch.no_grad():
        for _ in range(10):
            Deployable(network)(torch.from_numpy(crops))
    return network.eval()


@pytest.fixture(scope="module")
def contract(model: Any) -> ModelContract:
    return checkpoint_contract(model).replace(checkpoint_sha256="ab" * 32)


@pytest.fixture(scope="module")
def results(
    model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ExportResult]:
    folder = tmp_path_factory.mktemp("onnx")
    return {
        precision: export_onnx(
            model,
            contract,
            ExportConfig(
                out=folder / f"{precision}.onnx", precision=precision, calibration_crops=crops, parity_crops=crops[:3]
            ),
        )
        for precision in PRECISIONS
    }


def relative_error(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)))


# fp32 differs in the order of sums, fp16 by 11 bits a layer, int8 by 8 bits a layer; random weights amplify both.
LOGITS_RELATIVE = {"fp32": 1e-4, "fp16": 0.02, "int8": 0.25}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_any_batch_follows_the_network(
    precision: str, batch: int, results: dict[str, ExportResult], model: nn.Module, crops: NDArray[np.uint8]
) -> None:
    expected = TorchRuntime(model).run(crops[:batch])
    got = OnnxRuntime(results[precision].path, threads=1).run(crops[:batch])
    assert got.logits.shape == (batch, 17, 64, 48)
    assert {getattr(got, name).dtype for name in ("logits", "presence", "visibility", "quality")} == {
        np.dtype("float32")
    }
    if batch:
        assert relative_error(got.logits, expected.logits) < LOGITS_RELATIVE[precision]
        for name in ("presence", "visibility", "quality"):
            assert np.abs(getattr(got, name) - getattr(expected, name)).mean() < LOGITS_RELATIVE[precision]


def test_sizes(results: dict[str, ExportResult]) -> None:
    sizes = {precision: result.size_bytes for precision, result in results.items()}
    assert sizes["int8"] <= 0.30 * sizes["fp32"]
    assert sizes["fp16"] <= 0.52 * sizes["fp32"]
    assert all(result.path.stat().st_size == result.size_bytes for result in results.values())
    # Single files: no weights beside them, nothing temporary.
    assert {path.name for path in results["fp32"].path.parent.iterdir()} == {f"{name}.onnx" for name in PRECISIONS}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_file_carries_its_contract(
    precision: str, results: dict[str, ExportResult], contract: ModelContract
) -> None:
    result = results[precision]
    recipe = {"fp32": "fp32", "fp16": "fp16", "int8": "int8-static"}[precision]
    expected = contract.replace(
        format="onnx",
        precision=precision,
        recipe=recipe,
        versions=result.contract.versions,
        calibration=result.contract.calibration,
    )
    assert read_contract(result.path) == expected == result.contract
    assert set(expected.calibration) == ({"int8_crops", "int8_sha256"} if precision == "int8" else set())
    assert (result.format, result.precision, result.recipe) == ("onnx", precision, recipe)
    libraries = {"torch", "onnx", "onnxscript"} | ({"torchao"} if precision == "int8" else set())
    assert set(result.contract.versions) == libraries
    proto = onnx.load(result.path)
    assert json.loads({p.key: p.value for p in proto.metadata_props}[METADATA_KEY])["model"] == "probpose-m"
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    onnx.checker.check_model(proto, full_check=True)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_estimator_opens_it(precision: str, results: dict[str, ExportResult]) -> None:
    estimator = PoseEstimator.open(results[precision].path, threads=1)
    poses = estimator(np.full((300, 200, 3), 90, np.uint8), [[20, 20, 120, 280]])
    assert poses.keypoints.shape == (1, 17, 2)
    assert np.isfinite(poses.keypoints).all()


def test_parity_was_measured_on_the_runtime(results: dict[str, ExportResult]) -> None:
    for result in results.values():
        assert result.provenance == "measured"
        assert "onnxruntime" in result.runtime
        assert result.parity.crops == 3
    errors = [results[precision].parity.logits_relative for precision in PRECISIONS]
    assert 0 < errors[0] < errors[1] < errors[2]


def optimised(path: Path, folder: Path) -> Counter[str]:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def test_onnxruntime_runs_int8_as_integers(results: dict[str, ExportResult], tmp_path: Path) -> None:
    operators = optimised(results["int8"].path, tmp_path)
    # All convolutions but the four that write the outputs; no padding, no activation, no pool in float.
    assert operators["QLinearConv"] == 70
    assert operators["Conv"] == 4
    assert operators["QLinearAdd"] == 13
    assert operators["Pad"] == operators["Clip"] == operators["Relu"] == operators["MaxPool"] == 0
    # In: the crop. Out: the input of the upsampled sums. Everything else stays on the integer grid.
    assert operators["QuantizeLinear"] == 4


def test_int8_weights_are_stored_as_int8(results: dict[str, ExportResult]) -> None:
    proto = onnx.load(results["int8"].path)
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    bytes_by_type: Counter[int] = Counter()
    for tensor in stored.values():
        bytes_by_type[tensor.data_type] += len(onnx.numpy_helper.to_array(tensor).tobytes())
    parameters = sum(bytes_by_type.values())
    assert bytes_by_type[onnx.TensorProto.INT8] > 0.9 * parameters
    activations = {stored[node.input[2]].data_type for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    assert activations == {onnx.TensorProto.UINT8}


@torch.no_grad()
def test_normalising_by_rows_changes_no_bit(model: nn.Module, crops: NDArray[np.uint8]) -> None:
    image = torch.from_numpy(crops[:2])
    assert torch.equal(OnnxNetwork(model, (192, 256)).normalise(image), Deployable(model).normalise(image))


@torch.no_grad()
def test_half_network_answers_in_float32(model: nn.Module, crops: NDArray[np.uint8]) -> None:
    network = HalfNetwork(model, (192, 256)).eval()
    assert {value.dtype for value in network.model.parameters()} == {torch.float16}
    assert {value.dtype for value in network(torch.from_numpy(crops[:1]))} == {torch.float32}
    assert {value.dtype for value in model.parameters()} == {torch.float32}


@torch.no_grad()
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_deconvolutions_equal_their_convolutions(relu: bool, bias: bool) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.ConvTranspose2d(5, 3, 4, stride=2, padding=1, bias=bias), nn.Identity()]
    network = nn.Sequential(*layers, *([nn.ReLU()] if relu else []), nn.Conv2d(3, 2, 1))
    x = torch.randn(2, 5, 6, 4)
    expected = network(x)
    replace_deconvolutions(network)
    assert not any(isinstance(module, nn.ConvTranspose2d) for module in network.modules())
    torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-6)


def test_other_deconvolutions_stay() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(5, 3, 3, stride=2, padding=1), nn.ReLU())
    replace_deconvolutions(network)
    assert isinstance(network[0], nn.ConvTranspose2d)


def quantized_padding(value: float, scale_after: float, pads: list[int]) -> Any:
    """DequantizeLinear → Pad → QuantizeLinear → DequantizeLinear → Conv, as an onnx_ir model."""
    import onnx_ir

    helper = onnx.helper
    rng = np.random.default_rng(0)
    constants = {
        "s": np.float32(0.1),
        "s2": np.float32(scale_after),
        "z": np.uint8(3),
        "pads": np.array(pads, np.int64),
        "value": np.float32(value),
        "w": rng.normal(size=(2, 3, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("Pad", ["a", "pads", "value"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", "s2", "z"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s2", "z"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["y"], strides=[2, 2], pads=[0, 0, 0, 0]),
    ]
    graph = helper.make_graph(
        nodes,
        "padding",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, [1, 3, 8, 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnx_ir.from_proto(proto)


def run_model(model: Any, x: NDArray[np.uint8]) -> NDArray[np.float32]:
    import onnx_ir

    session = onnxruntime.InferenceSession(
        onnx_ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x})[0])


RIGHT_AND_BOTTOM = [0, 0, 0, 0, 0, 0, 1, 1]


def test_paddings_become_part_of_the_convolution() -> None:
    from probpose_convert.onnx_graph import fold_pads

    x = np.random.default_rng(1).integers(0, 256, (1, 3, 8, 6)).astype(np.uint8)
    model = quantized_padding(0.0, 0.1, RIGHT_AND_BOTTOM)
    expected = run_model(model, x)
    assert fold_pads(model) == 1
    assert [node.op_type for node in model.graph] == ["DequantizeLinear", "Conv"]
    assert set(model.graph.initializers) == {"s", "z", "w"}
    np.testing.assert_array_equal(run_model(model, x), expected)


@pytest.mark.parametrize(
    ("value", "scale_after", "pads"),
    [(1.0, 0.1, RIGHT_AND_BOTTOM), (0.0, 0.2, RIGHT_AND_BOTTOM), (0.0, 0.1, [0, 1, 0, 0, 0, 0, 0, 0])],
    ids=["not zero", "another scale", "channels"],
)
def test_paddings_that_a_convolution_cannot_express_stay(value: float, scale_after: float, pads: list[int]) -> None:
    from probpose_convert.onnx_graph import fold_pads

    model = quantized_padding(value, scale_after, pads)
    assert fold_pads(model) == 0
    assert len(model.graph) == 5


def quantized_linear_layer(rows: int) -> Any:
    """MatMul(DequantizeLinear(x), Transpose(DequantizeLinear(weight))) + DequantizeLinear(bias)."""
    import onnx_ir

    helper = onnx.helper
    rng = np.random.default_rng(0)
    constants = {
        "s": np.float32(0.1),
        "z": np.uint8(3),
        "w": rng.integers(-127, 128, (5, 4)).astype(np.int8),
        "ws": rng.uniform(0.01, 0.02, rows).astype(np.float32),
        "b": rng.integers(-9999, 9999, 5).astype(np.int32),
        "bs": rng.uniform(0.001, 0.002, 5).astype(np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["wf"], axis=0 if rows == 5 else 1),
        helper.make_node("Transpose", ["wf"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["a", "wt"], ["p"]),
        helper.make_node("DequantizeLinear", ["b", "bs"], ["bf"], axis=0),
        helper.make_node("Add", ["p", "bf"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, [2, 3, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return onnx_ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))


@pytest.mark.parametrize("rows", [5, 4], ids=["scale per output", "scale per input"])
def test_linear_layers_take_stored_weights_as_they_are(rows: int) -> None:
    from probpose_convert.onnx_graph import store_linear_layers_for_integers

    x = np.random.default_rng(1).integers(0, 256, (2, 3, 4)).astype(np.uint8)
    model = quantized_linear_layer(rows)
    expected = run_model(model, x)
    assert store_linear_layers_for_integers(model) == 1
    assert sorted(node.op_type for node in model.graph) == ["Add", "DequantizeLinear", "DequantizeLinear", "MatMul"]
    assert set(model.graph.initializers) == {"s", "z", "ws", "w_transposed", "b_float"}
    # The integer kernel multiplies first and scales then.
    np.testing.assert_allclose(run_model(model, x), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_probpose_s_in_fp32_and_int8(tmp_path: Path, crops: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    network: Any = build_model("probpose-s").eval()
    sizes = {}
    for precision in ("fp32", "int8"):
        config = ExportConfig(
            out=tmp_path / f"s-{precision}.onnx",
            precision=precision,
            calibration_crops=crops[:2],
            parity_crops=crops[:1],
        )
        sizes[precision] = export_onnx(network, checkpoint_contract(network), config).size_bytes
    assert sizes["int8"] <= 0.30 * sizes["fp32"]
    operators = optimised(tmp_path / "s-int8.onnx", tmp_path)
    assert operators["ConvTranspose"] == 0
    assert operators["QLinearConv"] >= 10
    # 48 linear layers and 24 products of attention.
    assert operators["MatMulIntegerToFloat"] + operators["QLinearMatMul"] == 72
