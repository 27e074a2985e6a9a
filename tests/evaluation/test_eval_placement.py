"""Which layers of the shipped files ran in the type and place that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probpose_edge import PoseEstimator, RawOutputs
from probpose_edge.weights import shipped_model
from probpose_eval.benchmark.placement import _outside_blocks, place_layers

CROP = np.zeros((1, 256, 192, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_a_quantized_file_names_what_stayed_in_full_precision(form: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "tflite": "ai_edge_litert"}[form])
    path = Path(shipped_model(form))
    with PoseEstimator.open(path, threads=1) as estimator:
        placed = place_layers(path, estimator.runtime, "int8", CROP, threads=1)
        as_full = place_layers(path, estimator.runtime, "fp32", CROP, threads=1)
    assert placed is not None
    assert as_full is not None
    assert placed.multiplying == 74
    assert placed.layers > placed.multiplying
    # The last layers of the four heads keep their precision.
    assert placed.other_type == {"fp32": 4}
    assert sum(as_full.other_type.values()) == 70
    assert sum(placed.other_place.values()) <= 2


def test_other_runtimes_tell_nothing() -> None:
    class Other:
        name, provenance = "other", "measured"

        def run(self, crops: np.ndarray) -> RawOutputs:
            pytest.fail("the runtime was run")

        def close(self) -> None:
            pass

    assert place_layers(Path("x.onnx"), Other(), "fp32", CROP) is None


def test_operations_that_a_block_took_are_not_outside() -> None:
    def operation(index: int, name: str, inputs: list[int], outputs: list[int]) -> dict[str, object]:
        return {"index": index, "op_name": name, "inputs": inputs, "outputs": outputs}

    # 0 → CAST → 1 → [CONV → 2 → CONV → 3] → RESHAPE → 4, the convolutions in one block.
    operations = [
        operation(0, "CAST", [0], [1]),
        operation(1, "CONV_2D", [1], [2]),
        operation(2, "CONV_2D", [2], [3]),
        operation(3, "RESHAPE", [3], [4]),
    ]
    assert sorted(_outside_blocks(operations, [4])) == ["CAST", "CONV_2D", "CONV_2D", "RESHAPE"]
    block = operation(4, "DELEGATE", [1], [3])
    assert sorted(_outside_blocks([*operations, block], [4])) == ["CAST", "RESHAPE"]
