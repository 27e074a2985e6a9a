from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probpose_edge import COCO_17, InputError, ModelContract, PoseEstimator, Poses, Skeleton, poses_to_coco
from probpose_edge.poses import instance_scores

IMAGE = np.zeros((120, 160, 3), np.uint8)
BOXES = [[20.0, 10, 60, 100], [80, 30, 140, 110], [0, 0, 50, 90]]


@pytest.fixture
def poses(contract: ModelContract, fake_runtime: Callable[..., Any]) -> Poses:
    return PoseEstimator(fake_runtime(), contract)(IMAGE, BOXES, return_maps=True)


def test_persons_can_be_selected(poses: Poses) -> None:
    for persons in ([2, 0], slice(None, None, -2), np.array([2, 0])):
        chosen = poses.select(persons)
        assert len(chosen) == 2
        np.testing.assert_array_equal(chosen.boxes, [BOXES[2], BOXES[0]])
        assert chosen.maps is not None
        assert len(chosen.maps) == len(chosen.scores) == len(chosen.present) == 2
    assert len(poses.select(np.array([False, True, False]))) == 1
    assert len(poses.select([])) == 0
    assert len(poses.select(1)) == 1


def test_results_can_be_joined(poses: Poses) -> None:
    joined = Poses.concatenate([poses.select([0]), poses.select([1, 2])])
    for name in ("keypoints", "presence", "maps", "boxes", "windows", "scores"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(poses, name))
    with pytest.raises(InputError, match="needs at least one result"):
        Poses.concatenate([])


def test_unknown_keypoint_names_are_refused(poses: Poses) -> None:
    with pytest.raises(InputError, match=r"must be one of head, left_hand, .*, got 'tail'"):
        poses.keypoint_index("tail")


def test_scores_are_means_over_present_keypoints() -> None:
    quality = np.array([[0.2, 0.4, 0.9], [0.5, 0.5, 0.5]], np.float32)
    present = np.array([[True, True, False], [False, False, False]])
    np.testing.assert_allclose(instance_scores(quality, present), [0.3, 0])


def test_coco_results_are_plain_and_complete(poses: Poses) -> None:
    results = poses_to_coco(poses, 42, category_id=7)
    assert json.loads(json.dumps(results)) == results
    assert [r["image_id"] for r in results] == [42] * 3
    assert results[0]["category_id"] == 7
    triplets = np.array(results[1]["keypoints"]).reshape(-1, 3)
    np.testing.assert_allclose(triplets[:, :2], poses.keypoints[1])
    np.testing.assert_allclose(triplets[:, 2], poses.presence[1])
    assert results[1]["score"] == pytest.approx(poses.scores[1])
    assert results[1]["bbox"] == [80, 30, 60, 80]
    assert len(results[1]["visibility"]) == len(results[1]["quality"]) == len(results[1]["expected_oks"]) == 5


def test_pycocotools_accepts_the_results(poses: Poses) -> None:
    coco_module = pytest.importorskip("pycocotools.coco", reason="pycocotools is the reader")
    coco = coco_module.COCO()
    coco.dataset = {"images": [{"id": 3, "width": 160, "height": 120}], "annotations": [], "categories": [{"id": 1}]}
    coco.createIndex()
    loaded = coco.loadRes(poses_to_coco(poses, 3))
    assert len(loaded.anns) == 3


def test_no_persons_give_no_results(poses: Poses) -> None:
    assert poses_to_coco(poses.select([]), 1) == []


def test_coco_17_is_consistent() -> None:
    assert len(COCO_17.keypoint_names) == len(COCO_17.sigmas) == 17
    for left, right in COCO_17.flip_pairs:
        assert COCO_17.keypoint_names[left].replace("left", "right") == COCO_17.keypoint_names[right]
        assert COCO_17.sigmas[left] == COCO_17.sigmas[right]
    permutation = COCO_17.flip_permutation
    assert [permutation[i] for i in permutation] == list(range(17))
    edges = {frozenset(edge) for edge in COCO_17.edges}
    assert {frozenset((permutation[a], permutation[b])) for a, b in COCO_17.edges} == edges


def test_skeletons_are_checked() -> None:
    with pytest.raises(InputError, match="needs distinct keypoint names"):
        Skeleton(keypoint_names=("a", "a"), edges=(), flip_pairs=(), sigmas=(1, 1))
    with pytest.raises(InputError, match="of 2 keypoints needs 2 positive sigmas"):
        Skeleton(keypoint_names=("a", "b"), edges=(), flip_pairs=(), sigmas=(1,))
    with pytest.raises(InputError, match=r"must index its 2 keypoints, got \(0, 2\)"):
        Skeleton(keypoint_names=("a", "b"), edges=((0, 2),), flip_pairs=(), sigmas=(1, 1))
