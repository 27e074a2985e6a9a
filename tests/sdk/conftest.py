"""Small models and fake runtimes for the tests of the SDK.

The tiny models have odd sizes (5 keypoints, input 48 x 64, maps 12 x 16), so that nothing passes that has the usual
numbers in the code.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import ModelContract, RawOutputs
from probpose_edge.contract.metadata import METADATA_KEY, TFLITE_METADATA_NAME

K, INPUT_WH, HEATMAP_WH = 5, (48, 64), (12, 16)


@pytest.fixture
def contract() -> ModelContract:
    return ModelContract(
        model="tiny",
        format="onnx",
        precision="fp32",
        recipe="fp32",
        keypoint_names=("head", "left_hand", "right_hand", "left_foot", "right_foot"),
        skeleton=((0, 1), (0, 2), (0, 3), (0, 4)),
        flip_pairs=((1, 2), (3, 4)),
        sigmas=(0.03, 0.06, 0.06, 0.1, 0.1),
        input_wh=INPUT_WH,
        heatmap_wh=HEATMAP_WH,
        padding=1.25,
        decode_kernel="published",
        temperature=0.5,
        presence_scale=(1.0,) * K,
        presence_bias=(0.0,) * K,
        presence_threshold=0.5,
        checkpoint_sha256="0" * 64,
        licence="Apache-2.0",
    )


@dataclass
class FakeRuntime:
    """Answers with logits peaked at one cell per keypoint and with constant scalars."""

    cells: np.ndarray[Any, Any]
    presence: np.ndarray[Any, Any]
    heatmap_wh: tuple[int, int] = HEATMAP_WH
    name: str = "fake"
    provenance: str = "simulated"
    batches: list[int] = field(default_factory=list)
    crops: list[np.ndarray[Any, Any]] = field(default_factory=list)
    closed: bool = False

    def run(self, crops: np.ndarray[Any, Any]) -> RawOutputs:
        self.batches.append(len(crops))
        self.crops.append(crops)
        n, k = len(crops), len(self.cells)
        y, x = np.mgrid[: self.heatmap_wh[1], : self.heatmap_wh[0]]
        distance = (x - self.cells[:, 0, None, None]) ** 2 + (y - self.cells[:, 1, None, None]) ** 2
        scalar = np.broadcast_to(self.presence.astype(np.float32), (n, k))
        return RawOutputs(
            logits=np.broadcast_to((-distance).astype(np.float32), (n, k, *y.shape)),
            presence=scalar,
            visibility=scalar * np.float32(0.5),
            quality=scalar * np.float32(0.25),
        )

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fake_runtime() -> Callable[..., FakeRuntime]:
    def make(presence: Any = (0.9, 0.8, 0.7, 0.6, 0.2), cells: Any = None) -> FakeRuntime:
        if cells is None:
            cells = [[6, 2], [2, 7], [9, 7], [4, 13], [8, 13]]
        return FakeRuntime(cells=np.array(cells, dtype=np.float64), presence=np.array(presence))

    return make


@pytest.fixture
def write_onnx(tmp_path: Path, contract: ModelContract) -> Callable[..., Path]:
    """Writes a tiny real .onnx file; `metadata` is the document put into it, None for none."""
    onnx = pytest.importorskip("onnx", reason="needs onnx to write a tiny model")
    from onnx import TensorProto, helper

    def make(
        name: str = "tiny.onnx",
        *,
        metadata: str | None = contract.to_json(),
        batch: int | str = "N",
        input_name: str = "image",
        scale: float = 1.0,
        names: tuple[str, ...] = ("logits", "presence", "visibility", "quality"),
    ) -> Path:
        gain = np.linspace(0.5, 1.0, K, dtype=np.float32).reshape(1, K, 1, 1) * np.float32(scale)
        constants = {
            "channel_axis": np.array([3]), "map_axes": np.array([2, 3]), "gain": gain / 16,
            "half": np.float32(0.5), "quarter": np.float32(0.25),
        }  # fmt: skip
        nodes = [
            helper.make_node("Cast", [input_name], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "channel_axis"], ["grey"], keepdims=1),
            helper.make_node("Transpose", ["grey"], ["nchw"], perm=[0, 3, 1, 2]),
            helper.make_node("AveragePool", ["nchw"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
            helper.make_node("Mul", ["pooled", "gain"], ["logits"]),
            helper.make_node("ReduceMean", ["logits", "map_axes"], ["mean"], keepdims=0),
            helper.make_node("Sigmoid", ["mean"], ["presence"]),
            helper.make_node("Mul", ["presence", "half"], ["visibility"]),
            helper.make_node("Mul", ["presence", "quarter"], ["quality"]),
            helper.make_node("Mul", ["logits", "half"], ["expert_logits"]),
        ]
        width, height = INPUT_WH
        outputs = [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT, [batch, K, *(HEATMAP_WH[::-1] if name.endswith("logits") else ())]
            )
            for name in names
        ]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(input_name, TensorProto.UINT8, [batch, height, width, 3])],
            outputs,
            [onnx.numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        if metadata is not None:
            helper.set_model_props(model, {"other": "thing", METADATA_KEY: metadata})
        path = tmp_path / name
        onnx.save(model, str(path))
        return path

    return make


def _tiny_tflite(names: list[str], *, signature: bool, order: list[int]) -> bytes:
    """A flatbuffer of the same network as in `write_onnx`, without the pooling (its input is 12 x 16).

    names: of the outputs logits, presence, visibility, quality, expert_logits, or of the first ones; order: their order
    in the list of outputs.
    """
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs ai-edge-litert")
    flatbuffers = pytest.importorskip("flatbuffers", reason="needs flatbuffers")
    width, height = HEATMAP_WH
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], []
    graph.tensors, graph.operators, graph.name = [], [], "main"

    def tensor(name: str, shape: tuple[int, ...], kind: int, data: np.ndarray[Any, Any] | None = None) -> int:
        item = schema.TensorT()
        item.name, item.shape, item.type, item.buffer = name, list(shape), kind, 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), dtype=np.uint8)
            model.buffers.append(buffer)
            item.buffer = len(model.buffers) - 1
        graph.tensors.append(item)
        return len(graph.tensors) - 1

    def operator(code: int, inputs: list[int], output: int, options_type: int = 0, options: Any = None) -> None:
        entry, item = schema.OperatorCodeT(), schema.OperatorT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.version = 1
        model.operatorCodes.append(entry)
        item.opcodeIndex, item.inputs, item.outputs = len(model.operatorCodes) - 1, inputs, [output]
        item.builtinOptionsType, item.builtinOptions = options_type, options
        graph.operators.append(item)

    op, float32, int32 = schema.BuiltinOperator, schema.TensorType.FLOAT32, schema.TensorType.INT32
    options = schema.BuiltinOptions
    keep, drop = schema.ReducerOptionsT(), schema.ReducerOptionsT()
    keep.keepDims, drop.keepDims = True, False
    gain = np.linspace(0.5, 1.0, K, dtype=np.float32).reshape(1, K, 1, 1) / np.float32(16)
    image = tensor("in", (1, height, width, 3), schema.TensorType.UINT8)
    floats = tensor("floats", (1, height, width, 3), float32)
    grey, nchw = tensor("grey", (1, height, width, 1), float32), tensor("nchw", (1, 1, height, width), float32)
    mean = tensor("mean", (1, K), float32)
    shapes = ((1, K, height, width), (1, K), (1, K), (1, K), (1, K, height, width))
    everything = [tensor(name, shape, float32) for name, shape in zip(names, shapes, strict=False)]
    logits, halves = everything[0], everything[4:]
    scalars = everything[1:4] or [tensor("presence", (1, K), float32)]
    operator(op.CAST, [image], floats, options.CastOptions, schema.CastOptionsT())
    axis3 = tensor("axis3", (1,), int32, np.array([3], dtype=np.int32))
    operator(op.MEAN, [floats, axis3], grey, options.ReducerOptions, keep)
    perm = tensor("perm", (4,), int32, np.array([0, 3, 1, 2], dtype=np.int32))
    operator(op.TRANSPOSE, [grey, perm], nchw, options.TransposeOptions, schema.TransposeOptionsT())
    factor = tensor("gain", gain.shape, float32, gain)
    operator(op.MUL, [nchw, factor], logits, options.MulOptions, schema.MulOptionsT())
    axes23 = tensor("axes23", (2,), int32, np.array([2, 3], dtype=np.int32))
    operator(op.MEAN, [logits, axes23], mean, options.ReducerOptions, drop)
    operator(op.LOGISTIC, [mean], scalars[0])
    scaled = [(scalars[0], output, factor) for output, factor in zip(scalars[1:], (0.5, 0.25), strict=False)]
    for source, output, factor in (*scaled, *((logits, output, 0.5) for output in halves)):
        value = tensor(f"factor{output}", (1,), float32, np.array([factor], dtype=np.float32))
        operator(op.MUL, [source, value], output, options.MulOptions, schema.MulOptionsT())
    graph.inputs, graph.outputs = [image], [everything[i] for i in order]
    if signature:
        definition = schema.SignatureDefT()
        definition.signatureKey, definition.subgraphIndex = "serving_default", 0
        definition.inputs, definition.outputs = [], []
        pairs = [("image", image, definition.inputs)]
        pairs += [(names[i], everything[i], definition.outputs) for i in order]
        for name, index, target in pairs:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            target.append(entry)
        model.signatureDefs = [definition]
        for item, name in zip((graph.tensors[i] for i in everything), "abcde", strict=False):
            item.name = f"hidden_{name}"
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture
def write_tflite(tmp_path: Path, contract: ModelContract) -> Callable[..., Path]:
    """Writes a tiny real .tflite file, batch 1, whose input has the size of the maps."""
    document = contract.replace(format="tflite", input_wh=HEATMAP_WH).to_json()

    def make(
        name: str = "tiny.tflite",
        *,
        metadata: str | None = document,
        names: tuple[str, ...] = ("logits", "presence", "visibility", "quality"),
        signature: bool = True,
        order: tuple[int, ...] = (2, 0, 3, 1),
    ) -> Path:
        path = tmp_path / name
        path.write_bytes(_tiny_tflite(list(names), signature=signature, order=list(order)))
        if metadata is not None:
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr(TFLITE_METADATA_NAME, metadata)
        return path

    return make
