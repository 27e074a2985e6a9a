"""The self-test: the same crops everywhere, records that are met, and files that give other answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import MetadataError, ModelContract, PoseEstimator, RawOutputs, shipped_model
from probpose_edge.contract.self_test import recorded_numbers, run_self_test, self_test_numbers
from probpose_edge.drawn_crops import drawn_crops

SHIPPED = {"onnx": "onnxruntime", "tflite": "ai_edge_litert"}


def test_the_crops_never_change() -> None:
    crops = drawn_crops((192, 256))
    assert crops.shape == (2, 256, 192, 3)
    assert crops.dtype == np.uint8
    # Recorded numbers belong to these very bytes: whoever changes the drawing records all files again.
    assert (
        hashlib.sha256(crops.tobytes()).hexdigest()
        == "fb0e51baa1df14488be0ecb2a172a6133a34a33bdbf256c80442eb27fe9632bd"
    )
    assert drawn_crops((48, 64)).shape == (2, 64, 48, 3)


@pytest.mark.parametrize("kind", SHIPPED)
def test_shipped_files_answer_as_recorded(kind: str, tmp_path: Path) -> None:
    pytest.importorskip(SHIPPED[kind], reason="the runtime is an extra")
    copy = tmp_path / f"renamed.{kind}"
    copy.write_bytes(shipped_model(kind).read_bytes())
    with PoseEstimator.open(shipped_model(kind), threads=1) as estimator:
        record = recorded_numbers(shipped_model(kind), estimator)
        assert record is not None
        assert recorded_numbers(copy, estimator) == record
        found = run_self_test(estimator, record)
    assert found.passed
    assert found.compared >= 20
    # The drawing is one the model is sure of, with the presence neither 0 nor 1 everywhere.
    assert np.array(record["expected_oks"])[0].max() > 0.6
    assert np.array(record["presence"]).min() < 0.9


def test_a_damaged_copy_of_a_shipped_file_is_noticed(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the runtime is an extra")
    damaged = tmp_path / "damaged.onnx"
    content = bytearray(shipped_model("onnx").read_bytes())
    content[2_000_000:2_030_000] = bytes(30_000)
    damaged.write_bytes(content)
    with PoseEstimator.open(damaged, threads=1) as estimator:
        assert run_self_test(estimator, recorded_numbers(damaged, estimator)).passed is False
        other = PoseEstimator(estimator.runtime, estimator.contract.replace(recipe="another"))
        assert recorded_numbers(damaged, other) is None


def test_other_colours_are_noticed() -> None:
    pytest.importorskip("onnxruntime", reason="the runtime is an extra")
    with PoseEstimator.open(shipped_model("onnx"), threads=1) as estimator:
        record = recorded_numbers(shipped_model("onnx"), estimator)
        straight = estimator.runtime.run
        estimator.runtime.run = lambda crops: straight(crops[..., ::-1])  # type: ignore[method-assign]
        assert run_self_test(estimator, record).passed is False


def test_a_record_of_its_own_is_met(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    estimator = PoseEstimator(fake_runtime(), contract)
    numbers = json.loads(json.dumps(self_test_numbers(estimator)))
    assert {name: np.shape(values) for name, values in numbers.items()} == {
        "keypoints": (2, 5, 2), "expected_oks": (2, 5), "presence": (2, 5), "visibility": (2, 5), "quality": (2, 5),
    }  # fmt: skip
    estimator = PoseEstimator(fake_runtime(), contract.replace(self_test=numbers))
    assert recorded_numbers(Path("none.onnx"), estimator) == numbers
    found = run_self_test(estimator, numbers)
    assert (found.passed, found.moved, found.compared) == (True, pytest.approx(0, abs=1e-5), 10)


def test_calibration_does_not_change_the_answers(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    calibrated = contract.replace(presence_scale=(2.0,) * 5, presence_bias=(1.0,) * 5, quality_bias=(1.0,) * 5)
    one, two = (self_test_numbers(PoseEstimator(fake_runtime(), each)) for each in (contract, calibrated))
    assert one == two


@pytest.mark.parametrize(
    ("changes", "moved", "shifted"),
    [
        ({"presence": (0.9, 0.8, 0.7, 0.6, 0.3)}, 0.0, 0.1),
        ({"cells": [[6, 2], [2, 7], [9, 7], [4, 13], [9, 13]]}, 1 / 15 * 63 / 64, 0.0),
    ],
)
def test_other_answers_fail(
    contract: ModelContract, fake_runtime: Callable[..., Any], changes: dict[str, Any], moved: float, shifted: float
) -> None:
    record = self_test_numbers(PoseEstimator(fake_runtime(), contract))
    found = run_self_test(PoseEstimator(fake_runtime(**changes), contract), record)
    assert found.passed is False
    assert found.shifted == pytest.approx(shifted, abs=1e-4)
    assert found.moved == pytest.approx(moved, abs=0.01)


def test_unsure_keypoints_may_move(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    record = self_test_numbers(PoseEstimator(fake_runtime(), contract))
    record["expected_oks"] = [[0.1] * 5] * 2
    moved = fake_runtime(cells=[[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]])
    found = run_self_test(PoseEstimator(moved, contract), record)
    assert (found.passed, found.compared) == (True, 0)


def test_without_a_record_the_file_only_runs(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    estimator = PoseEstimator(fake_runtime(), contract)
    assert recorded_numbers(Path("none.onnx"), estimator) is None
    found = run_self_test(estimator, None)
    assert (found.passed, found.moved, found.shifted, found.compared) == (None, None, None, 0)
    assert found.seconds > 0


def test_heatmap_models_have_places_only(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    runtime = fake_runtime()
    alone = runtime.run
    runtime.run = lambda crops: RawOutputs(logits=1 + alone(crops).logits)
    estimator = PoseEstimator(runtime, contract.replace(map_kind="heatmap", decode_kernel="argmax"))
    record = self_test_numbers(estimator)
    assert sorted(record) == ["expected_oks", "keypoints"]
    found = run_self_test(estimator, record)
    assert (found.passed, found.shifted) == (True, None)


@pytest.mark.parametrize(
    "change",
    [{"presence": [[0.5] * 4] * 2}, {"presence": "none"}, {"presence": [[float("nan")] * 5] * 2}, {"other": [1]}],
)
def test_damaged_records_are_refused(
    contract: ModelContract, fake_runtime: Callable[..., Any], change: dict[str, Any]
) -> None:
    estimator = PoseEstimator(fake_runtime(), contract)
    record = {**self_test_numbers(estimator), **change}
    with pytest.raises(
        MetadataError, match=r"The recorded self-test must have the arrays .* `probpose-edge doctor MODEL"
    ):
        run_self_test(estimator, record)


def test_the_contract_carries_the_record(contract: ModelContract) -> None:
    recorded = contract.replace(self_test={"keypoints": [[[1.5, 2.0]]]})
    assert ModelContract.from_json(recorded.to_json()).self_test == {"keypoints": [[[1.5, 2.0]]]}
    document = json.loads(contract.to_json())
    del document["self_test"]
    assert ModelContract.from_json(json.dumps(document)).self_test == {}
    with pytest.raises(MetadataError, match=r"'self_test' must map names to numbers, got \[1\]\. Record it again with"):
        contract.replace(self_test=[1])
