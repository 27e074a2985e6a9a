"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from probpose_edge.contract.metadata import METADATA_KEY

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs, models and recorded reference values beside the checkout."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("needs the folder of reference data beside the checkout (../shared), which is not here")
    return SHARED


@pytest.fixture(scope="session")
def noisy_crops() -> Callable[..., NDArray[np.uint8]]:
    """Makes (count, 256, 192, 3) uint8 crops, or others of `cells` times `cell` pixels: smooth colours and noise."""

    def make(count: int, *, cells: tuple[int, int] = (16, 12), cell: int = 16) -> NDArray[np.uint8]:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (count, *cells, 3)).repeat(cell, axis=1).repeat(cell, axis=2)
        return np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def write_brightness_router() -> Callable[[Path, str, tuple[int, int]], None]:
    """Writes a .onnx router with this metadata for crops of (width, height) that scores them by their brightness."""
    onnx = pytest.importorskip("onnx", reason="needs onnx to write a tiny router")
    from onnx import TensorProto, helper

    def write(path: Path, metadata: str, input_wh: tuple[int, int]) -> None:
        constants = {"axes": np.array([1, 2, 3]), "one": np.array([1]), "white": np.float32(255)}
        nodes = [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
            helper.make_node("Div", ["mean", "white"], ["part"]),
            helper.make_node("Unsqueeze", ["part", "one"], ["score"]),
        ]
        graph = helper.make_graph(
            nodes,
            "brightness",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *input_wh[::-1], 3])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
            [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        helper.set_model_props(model, {METADATA_KEY: metadata})
        onnx.save(model, str(path))

    return write
