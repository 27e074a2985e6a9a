from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import (
    InputError,
    MetadataError,
    ModelContract,
    ModelFileError,
    PoseEstimator,
    Poses,
    PoseTracker,
    RawOutputs,
    RoutedEstimator,
    Router,
    TrackerSettings,
    flip_test,
    read_contract,
)
from probpose_edge.routing.resize_crops import resize_crops, resize_maps
from probpose_edge.routing.router_contract import RouterContract
from probpose_edge.window import box_to_window, crop_windows

IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
BOXES = np.array([[20.0, 10, 60, 110], [70, 20, 110, 100], [100, 5, 150, 115], [5, 5, 50, 60], [60, 50, 120, 119]])
HALF_WH = (24, 32)


def brightness(crops: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return crops.mean(axis=(1, 2, 3)) / 255


@dataclasses.dataclass
class HandRouter:
    """Scores crops by their brightness, or as it is told."""

    contract: RouterContract
    score: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = brightness
    asked: int = 0
    closed: bool = False

    def __call__(self, crops: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.asked += len(crops)
        return self.score(crops)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def choice(contract: ModelContract) -> RouterContract:
    return RouterContract(
        model="tiny-router",
        format="onnx",
        precision="fp32",
        recipe="fp32",
        input_wh=contract.input_wh,
        padding=contract.padding,
        small="tiny",
        large="tiny",
        keypoint_names=contract.keypoint_names,
        score_quantiles=(0.4, 0.5, 0.6),
        checkpoint_sha256="0" * 64,
        licence="Apache-2.0",
    )


@pytest.fixture
def members(contract: ModelContract, fake_runtime: Callable[..., Any]) -> tuple[PoseEstimator, PoseEstimator]:
    """A small model of half the input size that puts every keypoint in one corner, and a large one."""
    small = contract.replace(model="tiny-half", input_wh=HALF_WH, presence_threshold=0.75)
    return (
        PoseEstimator(fake_runtime(cells=[[1, 1]] * 5), small),
        PoseEstimator(fake_runtime(), contract),
    )


def broken(crops: np.ndarray[Any, Any]) -> Any:
    raise OSError("the accelerator is gone.")


class TestRouting:
    def test_each_person_gets_the_pose_of_the_model_chosen(self, members: Any, choice: RouterContract) -> None:
        small, large = members
        estimator = RoutedEstimator(HandRouter(choice), small, large, share=0.5)
        poses = estimator(IMAGE, BOXES)
        routing = estimator.last_routing
        assert routing is not None
        assert 0 < routing.large.sum() < 5
        same = PoseEstimator(small.runtime, small.contract, presence_threshold=0.5)
        for person, is_large in enumerate(routing.large):
            alone = (large if is_large else same)(IMAGE, BOXES[person])
            for name in ("keypoints", "presence", "scores", "windows", "boxes"):
                np.testing.assert_array_equal(getattr(alone, name)[0], getattr(poses, name)[person])
        crops = crop_windows(IMAGE, box_to_window(BOXES, (48, 64), 1.25), (48, 64))
        np.testing.assert_allclose(routing.scores, brightness(crops))
        assert poses.presence_threshold == 0.5
        assert routing.failures == ()

    def test_models_run_in_batches_and_only_on_their_persons(self, members: Any, choice: RouterContract) -> None:
        small, large = members
        estimator = RoutedEstimator(HandRouter(choice), small, large, share=0.25)
        estimator(IMAGE, np.tile(BOXES, (8, 1)))
        assert estimator.last_routing is not None
        count = int(estimator.last_routing.large.sum())
        assert len(large.runtime.batches) <= 3
        assert len(small.runtime.batches) <= 3
        assert (sum(small.runtime.batches), sum(large.runtime.batches)) == (40 - count, count)
        assert {crops.shape[1:] for crops in small.runtime.crops} == {(32, 24, 3)}

    @pytest.mark.parametrize("share", [0, 1])
    def test_shares_0_and_1_ask_the_router_nothing(self, members: Any, choice: RouterContract, share: int) -> None:
        router = HandRouter(choice)
        estimator = RoutedEstimator(router, *members, share=share)
        estimator(IMAGE, BOXES)
        assert estimator.last_routing is not None
        assert router.asked == 0
        assert estimator.last_routing.large.tolist() == [bool(share)] * 5
        assert members[not share].runtime.batches == []

    def test_it_stands_in_for_an_estimator(self, members: Any, choice: RouterContract) -> None:
        estimator = RoutedEstimator(HandRouter(choice), *members)
        nobody = estimator(IMAGE, [], return_maps=True)
        assert (len(nobody), nobody.maps.shape) == (0, (0, 5, 16, 12))
        assert isinstance(estimator(IMAGE), Poses)
        alike = RoutedEstimator(HandRouter(choice), members[1], members[1])
        assert len(PoseTracker(alike, settings=TrackerSettings(start_score=0, min_score=0))(IMAGE).poses) == 1
        windows = box_to_window(BOXES, (48, 64), 1.25)
        crops = crop_windows(IMAGE, windows, (48, 64))
        poses = estimator.predict_crops(crops, windows, boxes_xyxy=BOXES)
        np.testing.assert_array_equal(poses.boxes, BOXES)
        with pytest.raises(InputError, match="Crops must have shape"):
            estimator.predict_crops(crops[:, :32], windows)
        with pytest.raises(InputError, match="Box 0 is reversed"):
            estimator(IMAGE, [50, 0, 20, 90])
        with pytest.raises(InputError, match="Calibrated maps need a calibrated model"):
            estimator(IMAGE, BOXES, return_maps="calibrated")

    def test_maps_of_both_have_the_cells_of_the_large_one(
        self, contract: ModelContract, choice: RouterContract, fake_runtime: Callable[..., Any]
    ) -> None:
        half = fake_runtime(cells=[[2, 3]] * 5)
        half.heatmap_wh = (6, 8)
        small = PoseEstimator(half, contract.replace(heatmap_wh=(6, 8), input_wh=HALF_WH))
        poses = RoutedEstimator(HandRouter(choice), small, PoseEstimator(fake_runtime(), contract), share=0)(
            IMAGE, BOXES, return_maps=True
        )
        assert poses.maps is not None
        assert poses.maps.shape == (5, 5, 16, 12)
        np.testing.assert_allclose(poses.maps.sum((2, 3)), 1, atol=1e-5)

    def test_closing_closes_all(self, members: Any, choice: RouterContract) -> None:
        router = HandRouter(choice)
        with RoutedEstimator(router, *members) as estimator:
            pass
        assert router.closed
        assert all(member.runtime.closed for member in members)
        with pytest.raises(InputError, match="This model was closed"):
            estimator(IMAGE, BOXES)


class TestFailures:
    def test_the_small_model_answers_for_a_large_one_that_fails(self, members: Any, choice: RouterContract) -> None:
        small, large = members
        large.runtime.run = broken
        estimator = RoutedEstimator(HandRouter(choice), small, large, share=0.5)
        with pytest.warns(RuntimeWarning, match="large model .* failed .OSError.: the accelerator is gone"):
            poses = estimator(IMAGE, BOXES)
        assert estimator.last_routing is not None
        assert not estimator.last_routing.large.any()
        assert "the small model answered in its place" in estimator.last_routing.failures[0]
        alone = RoutedEstimator(HandRouter(choice), small, large, share=0)(IMAGE, BOXES)
        np.testing.assert_array_equal(poses.keypoints, alone.keypoints)

    def test_the_large_model_answers_for_a_small_one_that_fails(self, members: Any, choice: RouterContract) -> None:
        small, large = members
        small.runtime.run = lambda crops: RawOutputs(logits=np.zeros((len(crops), 1, 1, 1), np.float32))
        estimator = RoutedEstimator(HandRouter(choice), small, large, share=0.5)
        with pytest.warns(RuntimeWarning, match="small model .* failed .ModelFileError"):
            poses = estimator(IMAGE, BOXES)
        np.testing.assert_array_equal(poses.keypoints, large(IMAGE, BOXES).keypoints)
        assert estimator.last_routing is not None
        assert estimator.last_routing.large.all()

    @pytest.mark.parametrize("score", [broken, lambda crops: np.full(len(crops), np.nan)])
    def test_a_router_that_fails_sends_all_to_the_small_model(
        self, members: Any, choice: RouterContract, score: Any
    ) -> None:
        estimator = RoutedEstimator(HandRouter(choice, score), *members, share=0.5)
        with pytest.warns(RuntimeWarning, match="router .* failed .* the small model answered for all") as said:
            estimator(IMAGE, BOXES)
        assert [warning.filename for warning in said] == [__file__]
        assert estimator.last_routing is not None
        assert not estimator.last_routing.large.any()
        assert np.isnan(estimator.last_routing.scores).all()

    def test_two_that_fail_are_an_error(self, members: Any, choice: RouterContract) -> None:
        for member in members:
            member.runtime.run = broken
        with pytest.raises(OSError, match="the accelerator is gone"):
            RoutedEstimator(HandRouter(choice), *members, share=0)(IMAGE, BOXES)


class TestBadMembers:
    @pytest.mark.parametrize("share", [-0.1, 1.5, math.nan, "half", None, True])
    def test_a_share_beyond_0_and_1(self, members: Any, choice: RouterContract, share: Any) -> None:
        with pytest.raises(InputError, match=r"share must be a number in \[0, 1\], got"):
            RoutedEstimator(HandRouter(choice), *members, share=share)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"keypoint_names": tuple("abcde")}, "same skeleton, but .* 5 keypoints .a, b, c"),
            ({"input_wh": (48, 48)}, "same window of a person, but .* 48x48 pixels .* one aspect"),
            ({"padding": 1.5}, "same window .* padding 1.5"),
            ({"window_ratio": 1.2}, "same window .* looks for keypoints in 1.5"),
            ({"map_kind": "heatmap", "decode_kernel": "argmax"}, "of one kind, but .* heatmap maps"),
        ],
    )
    def test_models_of_another_skeleton_or_window(
        self, members: Any, contract: ModelContract, choice: RouterContract, changes: Any, message: str
    ) -> None:
        small, large = members
        other = PoseEstimator(large.runtime, contract.replace(**changes))
        for pair in ((small, other), (other, small)):
            with pytest.raises(InputError, match=message):
                RoutedEstimator(HandRouter(choice), *pair)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"input_wh": (96, 128)}, "of the size of one of its models, but tiny-router takes 96x128 and they take"),
            ({"padding": 1.5}, "must see the window of its models, but .* padding 1.5"),
            ({"keypoint_names": ("a",)}, "made for the keypoints of its models"),
        ],
    )
    def test_a_router_of_other_crops(self, members: Any, choice: RouterContract, changes: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            RoutedEstimator(HandRouter(choice.replace(**changes)), *members)

    def test_a_model_in_the_place_of_the_router_and_the_other_way_round(
        self, members: Any, choice: RouterContract
    ) -> None:
        with pytest.raises(InputError, match="router of a RoutedEstimator must be an open router, got PoseEstimator"):
            RoutedEstimator(members[0], *members)
        with pytest.raises(InputError, match="small model of a RoutedEstimator must be a PoseEstimator, got HandRou"):
            RoutedEstimator(HandRouter(choice), HandRouter(choice), members[1])


class TestFiles:
    def test_a_router_file_gives_scores(
        self, write_onnx: Callable[..., Path], write_score_onnx: Callable[..., Path], choice: RouterContract
    ) -> None:
        path = write_score_onnx(choice.to_json())
        crops = np.stack([np.full((64, 48, 3), value, np.uint8) for value in (0, 51, 255)])
        with Router.open(path, threads=1) as router:
            np.testing.assert_allclose(router(crops), [0, 0.2, 1], atol=1e-6)
            assert router(crops[:0]).shape == (0,)
            assert router.contract == choice
        pose = write_onnx()
        with RoutedEstimator.open(path, pose, share=0.4, threads=1) as estimator:
            assert len(estimator(IMAGE, BOXES)) == 5
        with RoutedEstimator.open(path, pose, pose, share=0.4, threads=1) as estimator:
            assert len(estimator(IMAGE, BOXES)) == 5

    def test_files_in_each_others_place(
        self, write_onnx: Callable[..., Path], write_score_onnx: Callable[..., Path], choice: RouterContract
    ) -> None:
        pose, router = write_onnx(), write_score_onnx(choice.to_json())
        with pytest.raises(MetadataError, match="A router was asked for, but this file is a pose model"):
            RoutedEstimator.open(pose, pose, pose)
        for open_as_pose in (PoseEstimator.open, read_contract, lambda path: RoutedEstimator.open(router, path, pose)):
            with pytest.raises(MetadataError, match="A pose model was asked for, but this file is a router"):
                open_as_pose(router)

    def test_a_router_without_scores_is_an_error(
        self, choice: RouterContract, fake_runtime: Callable[..., Any]
    ) -> None:
        with pytest.raises(ModelFileError, match="one finite score per crop, but tiny-router gave none"):
            Router(fake_runtime(), choice)(np.zeros((1, 64, 48, 3), np.uint8))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"schema_version": 9}, "router metadata of schema 1; the file has schema 9"),
            ({"score_quantiles": [0.5, 0.2]}, "numbers in .0, 1. that do not fall"),
            ({"score_quantiles": 3}, "wrong type"),
            ({"theta": 2}, "'theta' must lie in"),
            ({"padding": 0}, "positive padding"),
            ({"format": "caffe"}, "'format' must be one of onnx"),
            ({"keypoint_names": []}, "must name the keypoints"),
            ({"colour": 1}, "unknown fields .'colour'"),
            ({"kind": "pose"}, "A router was asked for"),
        ],
    )
    def test_metadata_that_are_wrong(self, choice: RouterContract, changes: Any, message: str) -> None:
        document = {**json.loads(choice.to_json()), **changes}
        with pytest.raises(MetadataError, match=message):
            RouterContract.from_json(json.dumps(document))

    def test_metadata_keep_their_values(self, choice: RouterContract) -> None:
        other = choice.replace(theta=0.5, versions={"torch": "2"}, accuracy={"gain": 0.1})
        assert RouterContract.from_json(other.to_json()) == other
        with pytest.raises(MetadataError, match="must be a JSON document"):
            RouterContract.from_json(b"\xff")
        with pytest.raises(MetadataError, match=r"lacks the fields \['small'"):
            RouterContract.from_json(other.to_json().replace('"small": "tiny", ', ""))


@pytest.fixture
def write_score_onnx(
    tmp_path: Path, write_brightness_router: Callable[[Path, str, tuple[int, int]], None]
) -> Callable[[str], Path]:
    """Writes a router whose score is the brightness of the crop."""

    def write(metadata: str) -> Path:
        path = tmp_path / "router.onnx"
        write_brightness_router(path, metadata, (48, 64))
        return path

    return write


class TestFlipTest:
    def test_a_mirrored_crop_gives_the_mirrored_pose(
        self, contract: ModelContract, write_onnx: Callable[..., Path]
    ) -> None:
        windows = np.array([[80.0, 60, 48, 64]])
        crops = crop_windows(IMAGE, windows, (48, 64))
        with PoseEstimator.open(write_onnx(scale=1.3), threads=1) as alone:
            estimator = flip_test(alone)
            poses, mirrored = (estimator.predict_crops(each, windows) for each in (crops, crops[:, :, ::-1].copy()))
            assert not np.allclose(poses.keypoints, alone.predict_crops(crops, windows).keypoints)
        swapped = [0, 2, 1, 4, 3]
        np.testing.assert_allclose(mirrored.keypoints[:, swapped, 0], 160 - poses.keypoints[..., 0], atol=1e-3)
        np.testing.assert_allclose(mirrored.keypoints[:, swapped, 1], poses.keypoints[..., 1], atol=1e-3)
        np.testing.assert_allclose(mirrored.presence[:, swapped], poses.presence, atol=1e-6)
        assert "flip test" in estimator.runtime.name

    def test_decoded_files_are_refused(self, contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
        decoded = PoseEstimator(fake_runtime(), contract.replace(output_kind="decoded"))
        with pytest.raises(InputError, match="A flip test needs maps"):
            flip_test(decoded)


def test_resized_crops_and_maps_keep_their_corners() -> None:
    ramp = np.broadcast_to(np.linspace(0, 250, 26, dtype=np.uint8)[None, None, :, None], (2, 11, 26, 3)).copy()
    resized = resize_crops(ramp, (51, 6))
    assert resized.shape == (2, 6, 51, 3)
    np.testing.assert_allclose(resized[0, 3, :, 1], np.linspace(0, 250, 51), atol=1)
    assert resize_crops(ramp, (26, 11)) is ramp
    maps = np.zeros((1, 1, 5, 3), np.float32)
    maps[0, 0, 4, 2] = 0.7
    larger = resize_maps(maps, (5, 9))
    assert larger[0, 0].argmax() == 44
    assert larger.sum() == pytest.approx(0.7)
    assert resize_maps(maps * 0, (5, 9)).sum() == 0
