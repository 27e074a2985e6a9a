"""Poses in the forms of other libraries, and through pickle and copy."""

from __future__ import annotations

import copy
import dataclasses
import json
import multiprocessing
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probpose_edge import (
    InputError,
    MissingExtraError,
    ModelContract,
    PoseEstimator,
    Poses,
    RuntimeUnavailableError,
    poses_to_coco,
)

IMAGE = np.zeros((120, 160, 3), np.uint8)
BOXES = [[20.0, 10, 60, 100], [80, 30, 140, 110], [0, 0, 50, 90]]


@pytest.fixture
def poses(contract: ModelContract, fake_runtime: Callable[..., Any]) -> Poses:
    return PoseEstimator(fake_runtime(), contract)(IMAGE, BOXES, return_maps=True)


def assert_alike(one: Poses, two: Poses) -> None:
    for field in dataclasses.fields(Poses):
        first, second = getattr(one, field.name), getattr(two, field.name)
        if isinstance(first, np.ndarray):
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second)
        else:
            assert first == second


def test_coco_results_are_those_of_the_function(poses: Poses) -> None:
    assert poses.to_coco(7, category_id=2) == poses_to_coco(poses, 7, 2)
    back = json.loads(json.dumps(poses.to_coco(7)))
    triplets = np.array([result["keypoints"] for result in back]).reshape(3, 5, 3)
    np.testing.assert_array_equal(triplets[..., :2], poses.keypoints)
    np.testing.assert_array_equal(triplets[..., 2].astype(np.float32), poses.presence)


def test_records_hold_every_keypoint(poses: Poses) -> None:
    rows = poses.to_records()
    assert len(rows) == 15
    assert rows == json.loads(json.dumps(rows))
    assert [row["person"] for row in rows] == [0] * 5 + [1] * 5 + [2] * 5
    assert [row["keypoint"] for row in rows[5:10]] == list(poses.keypoint_names)
    back = {name: np.array([row[name] for row in rows]).reshape(3, 5) for name in rows[0]}
    np.testing.assert_array_equal(np.stack([back["x"], back["y"]], axis=2), poses.keypoints)
    for name in ("presence", "visibility", "quality", "expected_oks"):
        np.testing.assert_array_equal(back[name].astype(np.float32), getattr(poses, name))
    np.testing.assert_array_equal(back["present"], poses.present)
    np.testing.assert_array_equal(back["score"][:, 0].astype(np.float32), poses.scores)
    assert poses.select([]).to_records() == []
    nameless = dataclasses.replace(poses, keypoint_names=())
    assert [row["keypoint"] for row in nameless.to_records()[:5]] == [0, 1, 2, 3, 4]


def test_pandas_takes_the_records(poses: Poses) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is the reader")
    table = pandas.DataFrame(poses.to_records())
    assert table.shape == (15, 10)
    assert table["present"].dtype == bool
    np.testing.assert_array_equal(
        table.pivot(index="person", columns="keypoint", values="x")["head"], poses.keypoints[:, 0, 0]
    )


def test_huggingface_dictionaries(poses: Poses) -> None:
    people = poses.to_huggingface()
    assert [sorted(person) for person in people] == [["bbox", "keypoints", "labels", "scores"]] * 3
    np.testing.assert_allclose(people[1]["keypoints"], poses.keypoints[1], rtol=1e-6)
    np.testing.assert_array_equal(people[1]["scores"], poses.presence[1])
    assert people[1]["labels"].tolist() == [0, 1, 2, 3, 4]
    assert people[1]["bbox"].tolist() == BOXES[1]
    people[0]["scores"][:] = 0
    assert poses.presence[0].min() > 0
    assert poses.select([]).to_huggingface() == []


def test_huggingface_tensors(poses: Poses, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="tensors are torch's")
    person = poses.to_huggingface(tensors=True)[2]
    assert {name: (value.dtype, tuple(value.shape)) for name, value in person.items()} == {
        "keypoints": (torch.float32, (5, 2)),
        "scores": (torch.float32, (5,)),
        "labels": (torch.int64, (5,)),
        "bbox": (torch.float32, (4,)),
    }
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        MissingExtraError, match=r'to_huggingface\(tensors=True\) needs .* install "probpose-edge\[train'
    ):
        poses.to_huggingface(tensors=True)


def test_supervision_key_points(poses: Poses) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is the reader")
    found = poses.to_supervision()
    assert isinstance(found, supervision.KeyPoints)
    np.testing.assert_allclose(found.xy, poses.keypoints, rtol=1e-6)
    np.testing.assert_array_equal(found.keypoint_confidence, poses.presence)
    np.testing.assert_array_equal(found.detection_confidence, poses.scores)
    np.testing.assert_array_equal(found.visible, poses.present)
    for name in ("presence", "visibility", "quality", "expected_oks"):
        np.testing.assert_array_equal(found.data[name], getattr(poses, name))
    np.testing.assert_array_equal(found[1:].data["xyxy"], poses.boxes[1:])
    drawn = supervision.VertexAnnotator(radius=2).annotate(IMAGE.copy(), found)
    assert drawn.any()
    assert poses.select([]).to_supervision() == supervision.KeyPoints.empty()


def test_supervision_is_an_extra(poses: Poses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(
        MissingExtraError, match=r'Poses\.to_supervision needs .*Install it with: pip install "probpose-edge\[superv'
    ):
        poses.to_supervision()
    old = types.SimpleNamespace(KeyPoints=type("KeyPoints", (), {}), __version__="0.20.0")
    monkeypatch.setitem(sys.modules, "supervision", old)
    with pytest.raises(
        RuntimeUnavailableError, match=r"needs supervision 0\.29 or newer, but 0\.20\.0 is installed\. Up"
    ):
        poses.to_supervision()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_poses_go_through_pickle(poses: Poses, protocol: int) -> None:
    assert_alike(pickle.loads(pickle.dumps(poses, protocol)), poses)
    assert_alike(pickle.loads(pickle.dumps(poses.select([]), protocol)), poses.select([]))


def test_poses_can_be_copied(poses: Poses) -> None:
    assert copy.copy(poses).keypoints is poses.keypoints
    deep = copy.deepcopy(poses)
    assert_alike(deep, poses)
    deep.keypoints[:] = 0
    assert poses.keypoints.any()


def test_poses_come_back_from_another_process(poses: Poses) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        back = pool.apply(Poses.select, (poses, [2, 0]))
    assert_alike(back, poses.select([2, 0]))


def test_an_estimator_says_that_it_cannot_be_sent(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    estimator = PoseEstimator(fake_runtime(), contract)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(
            InputError, match=r"can be neither pickled nor copied\. Send the path .* PoseEstimator\.open"
        ):
            attempt(estimator)
