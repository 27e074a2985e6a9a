from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probpose_edge import (
    InputError,
    ModelContract,
    ModelFileError,
    PoseEstimator,
    Poses,
    RawOutputs,
    calibrate_presence,
    calibrated_maps,
)
from probpose_edge.detectors.whole_image import person_box

IMAGE = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
BOXES = np.array([[20.0, 10, 60, 100], [80, 30, 140, 110], [-20, -20, 50, 90]])


def test_keypoints_are_the_peaks_in_the_pixels_of_the_image(
    contract: ModelContract, fake_runtime: Callable[..., Any]
) -> None:
    runtime = fake_runtime()
    poses = PoseEstimator(runtime, contract)(IMAGE, BOXES)
    assert len(poses) == 3
    window = np.array([40, 55, 84.375, 112.5])
    np.testing.assert_allclose(poses.windows[0], window)
    expected = runtime.cells / (11, 15) * window[2:] + window[:2] - window[2:] / 2
    np.testing.assert_allclose(poses.keypoints[0], expected, atol=1e-4)
    np.testing.assert_array_equal(poses.boxes, BOXES)
    np.testing.assert_allclose(poses.presence[1], [0.9, 0.8, 0.7, 0.6, 0.2], atol=1e-6)
    np.testing.assert_array_equal(poses.present[2], [True, True, True, True, False])
    np.testing.assert_allclose(poses.visibility[1], poses.presence[1] / 2, atol=1e-6)
    # The mean quality over the four present keypoints.
    np.testing.assert_allclose(poses.scores, [(0.9 + 0.8 + 0.7 + 0.6) / 4 / 4] * 3, atol=1e-6)
    assert poses.maps is None
    assert poses.keypoint_names == contract.keypoint_names
    assert poses.keypoint_index("left_foot") == 3


def test_arrays_have_the_documented_types(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    poses = PoseEstimator(fake_runtime(), contract)(IMAGE, BOXES, return_maps=True)
    for name in ("presence", "visibility", "quality", "expected_oks", "scores", "maps"):
        assert getattr(poses, name).dtype == np.float32, name
    for name in ("keypoints", "boxes", "windows"):
        assert getattr(poses, name).dtype == np.float64, name
    assert poses.maps is not None
    assert poses.maps.shape == (3, 5, 16, 12)
    np.testing.assert_allclose(poses.maps.sum((2, 3)), 1, atol=1e-6)


def test_calibrated_maps_can_be_kept_instead(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    runtime = fake_runtime()
    measured = contract.replace(calibration={"coverage_temperature": 0.7, "lost_share": 0.1})
    poses = PoseEstimator(runtime, measured)(IMAGE, BOXES, return_maps="calibrated")
    logits = runtime.run(runtime.crops[0]).logits
    np.testing.assert_array_equal(poses.maps, calibrated_maps(logits, measured))
    with pytest.raises(InputError, match="Calibrated maps need a calibrated model"):
        PoseEstimator(runtime, contract)(IMAGE, BOXES, return_maps="calibrated")


def test_absent_keypoints_keep_their_place(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    seen = PoseEstimator(fake_runtime(presence=[0.9] * 5), contract)(IMAGE, BOXES)
    absent = PoseEstimator(fake_runtime(presence=[0.1] * 5), contract)(IMAGE, BOXES)
    np.testing.assert_array_equal(seen.keypoints, absent.keypoints)
    assert not absent.present.any()
    np.testing.assert_array_equal(absent.scores, 0)


def test_no_boxes_give_no_poses_and_run_nothing(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    runtime = fake_runtime()
    for empty in ([], np.zeros((0, 4))):
        poses = PoseEstimator(runtime, contract)(IMAGE, empty, return_maps=True)
        assert len(poses) == 0
        assert poses.keypoints.shape == (0, 5, 2)
        assert poses.present.shape == (0, 5)
        assert poses.maps is not None
        assert poses.maps.shape == (0, 5, 16, 12)
    assert runtime.batches == []


def test_many_persons_are_taken_in_parts_and_do_not_depend_on_them(
    contract: ModelContract, fake_runtime: Callable[..., Any]
) -> None:
    boxes = np.tile(BOXES, (12, 1)) + np.arange(36)[:, None] / 10
    runtime = fake_runtime()
    estimator = PoseEstimator(runtime, contract)
    together = estimator(IMAGE, boxes)
    assert runtime.batches == [16, 16, 4]
    for person in (0, 15, 16, 35):
        alone = estimator(IMAGE, boxes[person])
        np.testing.assert_array_equal(alone.keypoints[0], together.keypoints[person])
        np.testing.assert_array_equal(alone.expected_oks[0], together.expected_oks[person])


def test_grey_alpha_and_16_bit_images_are_seen_as_their_colour_versions(
    contract: ModelContract, fake_runtime: Callable[..., Any]
) -> None:
    grey = IMAGE[..., 0]
    pairs = [
        (grey, np.dstack([grey] * 3)),
        (np.dstack([IMAGE, grey]), IMAGE),
        (IMAGE.astype(np.uint16) * 257, IMAGE),
    ]
    for odd, plain in pairs:
        runtime = fake_runtime()
        estimator = PoseEstimator(runtime, contract)
        estimator(odd, BOXES)
        estimator(plain, BOXES)
        np.testing.assert_array_equal(runtime.crops[0], runtime.crops[1])


def test_a_picture_of_one_pixel_works(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    estimator = PoseEstimator(fake_runtime(), contract)
    dot = np.full((1, 1, 3), 200, np.uint8)
    assert len(estimator(dot)) == 1
    assert np.isfinite(estimator(dot, [0, 0, 1, 1]).keypoints).all()


def test_inputs_are_left_alone(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    image, boxes = IMAGE.copy(), BOXES.copy()
    poses = PoseEstimator(fake_runtime(), contract)(image, boxes)
    poses.boxes[0] = 0
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(boxes, BOXES)


class TestWithoutBoxes:
    def test_the_second_pass_looks_at_the_person_found(
        self, contract: ModelContract, fake_runtime: Callable[..., Any]
    ) -> None:
        runtime = fake_runtime()
        estimator = PoseEstimator(runtime, contract)
        poses = estimator(IMAGE)
        assert runtime.batches == [1, 1]
        first = estimator(IMAGE, [0, 0, 160, 120])
        box = person_box(first.keypoints[0], first.present[0], (160, 120))
        assert box is not None
        np.testing.assert_array_equal(poses.boxes, box[None])
        np.testing.assert_array_equal(poses.keypoints, estimator(IMAGE, box).keypoints)

    def test_too_few_present_keypoints_leave_the_first_pass(
        self, contract: ModelContract, fake_runtime: Callable[..., Any]
    ) -> None:
        runtime = fake_runtime(presence=[0.9, 0.9, 0.1, 0.1, 0.1])
        poses = PoseEstimator(runtime, contract)(IMAGE)
        assert runtime.batches == [1]
        np.testing.assert_array_equal(poses.boxes, [[0, 0, 160, 120]])

    def test_the_box_reaches_beyond_the_keypoints_and_not_beyond_the_picture(self) -> None:
        keypoints = np.array([[40.0, 20], [60, 20], [50, 120], [1000, 1000]])
        present = np.array([True, True, True, False])
        box = person_box(keypoints, present, (160, 400))
        np.testing.assert_allclose(box, [40 - 8, 20 - 14, 60 + 8, 120 + 10])
        np.testing.assert_allclose(person_box(keypoints, present, (64, 100)), [32, 6, 64, 100])

    def test_keypoints_on_one_spot_or_off_the_picture_say_nothing(self) -> None:
        present = np.ones(4, dtype=bool)
        assert person_box(np.full((4, 2), 7.0), present, (100, 100)) is None
        off = np.array([[-50.0, 1], [-40, 2], [-45, 90], [-60, 4]])
        assert person_box(off, present, (100, 100)) is None


class TestPredictCrops:
    def test_it_is_the_core_of_the_call(self, contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
        runtime = fake_runtime()
        estimator = PoseEstimator(runtime, contract)
        called = estimator(IMAGE, BOXES)
        direct = estimator.predict_crops(runtime.crops[0], called.windows, return_maps=True)
        np.testing.assert_array_equal(direct.keypoints, called.keypoints)
        np.testing.assert_allclose(direct.boxes[0], [-2.1875, -1.25, 82.1875, 111.25])
        assert direct.maps is not None

    def test_other_shapes_are_refused(self, contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
        estimator = PoseEstimator(fake_runtime(), contract)
        with pytest.raises(InputError, match=r"Crops must have shape \(N, 64, 48, 3\) .* got \(2, 48, 64, 3\)"):
            estimator.predict_crops(np.zeros((2, 48, 64, 3), np.uint8), np.ones((2, 4)))
        with pytest.raises(InputError, match=r"and windows \(N, 4\), got .* and \(1, 4\)"):
            estimator.predict_crops(np.zeros((2, 64, 48, 3), np.uint8), np.ones((1, 4)))
        with pytest.raises(InputError, match=r"There must be one box per crop, \(2, 4\), got \(3, 4\)"):
            estimator.predict_crops(np.zeros((2, 64, 48, 3), np.uint8), np.ones((2, 4)), boxes_xyxy=np.ones((3, 4)))

    def test_no_crops(self, contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
        poses = PoseEstimator(fake_runtime(), contract).predict_crops(
            np.zeros((0, 64, 48, 3), np.uint8), np.zeros((0, 4))
        )
        assert len(poses) == 0


class TestPresence:
    def test_calibration_comes_from_the_contract(
        self, contract: ModelContract, fake_runtime: Callable[..., Any]
    ) -> None:
        calibrated = contract.replace(presence_scale=(2.0,) * 5, presence_bias=(-1.0, 0, 0, 0, 1.0))
        poses = PoseEstimator(fake_runtime(presence=[0.6] * 5), calibrated)(IMAGE, BOXES[:1])
        logit = 2 * np.log(0.6 / 0.4) + np.array([-1.0, 0, 0, 0, 1.0])
        np.testing.assert_allclose(poses.presence[0], 1 / (1 + np.exp(-logit)), atol=1e-6)
        np.testing.assert_array_equal(poses.present[0], [False, True, True, True, True])

    def test_ones_and_zeros_change_nothing(self) -> None:
        p = np.linspace(0, 1, 101, dtype=np.float32)[None]
        np.testing.assert_allclose(calibrate_presence(p, [1.0] * 101, [0.0] * 101), p, atol=1e-6)

    def test_certain_answers_stay_finite(self) -> None:
        extreme = calibrate_presence(np.array([[0.0, 1.0]]), [5.0, 5.0], [0.0, 0.0])
        assert extreme[0, 0] < 1e-6
        assert extreme[0, 1] > 1 - 1e-6

    def test_threshold_of_the_caller_goes_before_the_contract(
        self, contract: ModelContract, fake_runtime: Callable[..., Any]
    ) -> None:
        poses = PoseEstimator(fake_runtime(), contract, presence_threshold=0.75)(IMAGE, BOXES[:1])
        np.testing.assert_array_equal(poses.present[0], [True, True, False, False, False])
        assert poses.presence_threshold == 0.75

    @pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
    def test_thresholds_are_probabilities(
        self, contract: ModelContract, fake_runtime: Callable[..., Any], threshold: float
    ) -> None:
        with pytest.raises(InputError, match=r"presence_threshold must lie in \[0, 1\], got"):
            PoseEstimator(fake_runtime(), contract, presence_threshold=threshold)


class TestQuality:
    def test_calibration_comes_from_the_contract(
        self, contract: ModelContract, fake_runtime: Callable[..., Any]
    ) -> None:
        plain = PoseEstimator(fake_runtime(), contract)(IMAGE, BOXES[:1])
        changed = contract.replace(quality_scale=(1.0, 2.0, 1.0, 1.0, 1.0), quality_bias=(0.0, 0.0, -1.0, 0.0, 0.0))
        poses = PoseEstimator(fake_runtime(), changed)(IMAGE, BOXES[:1])
        said = plain.quality[0].astype(np.float64)
        logit = np.log(said / (1 - said)) * changed.quality_scale + changed.quality_bias
        np.testing.assert_allclose(poses.quality[0], 1 / (1 + np.exp(-logit)), atol=1e-6)
        assert poses.quality.dtype == np.float32
        assert poses.scores[0] == pytest.approx(poses.quality[0, poses.present[0]].mean())
        assert poses.scores[0] != plain.scores[0]

    def test_ones_and_zeros_leave_every_bit(self, contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
        runtime = fake_runtime()
        poses = PoseEstimator(runtime, contract)(IMAGE, BOXES[:1])
        np.testing.assert_array_equal(poses.quality, runtime.run(runtime.crops[0]).quality)


class TestBadModels:
    def test_outputs_that_contradict_the_metadata(
        self, contract: ModelContract, fake_runtime: Callable[..., Any]
    ) -> None:
        runtime = fake_runtime(presence=[0.5] * 3, cells=[[1, 1], [2, 2], [3, 3]])
        with pytest.raises(ModelFileError, match=r"'logits' must have shape \(3, 5, 16, 12\) .* got \(3, 3, 16, 12\)"):
            PoseEstimator(runtime, contract)(IMAGE, BOXES)

    def test_outputs_that_are_not_numbers(self, contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
        with pytest.raises(ModelFileError, match="output 'presence' must be finite"):
            PoseEstimator(fake_runtime(presence=[np.nan] * 5), contract)(IMAGE, BOXES)

    def test_logits_that_are_not_numbers(self, contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
        with pytest.raises(InputError, match="Logits must be finite"):
            PoseEstimator(fake_runtime(cells=[[np.nan, 0]] * 5), contract)(IMAGE, BOXES)


def test_a_context_manager_closes_the_runtime(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    runtime = fake_runtime()
    with PoseEstimator(runtime, contract) as estimator:
        assert not runtime.closed
        assert estimator.runtime is runtime
    assert runtime.closed


def test_bad_boxes_and_images_name_the_rule(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    estimator = PoseEstimator(fake_runtime(), contract)
    with pytest.raises(InputError, match="Box 1 must overlap the 160 x 120 picture"):
        estimator(IMAGE, [[0, 0, 5, 5], [500, 500, 600, 600]])
    with pytest.raises(InputError, match="Box 0 is reversed"):
        estimator(IMAGE, [50, 50, 10, 10])
    with pytest.raises(InputError, match="An image must have pixels"):
        estimator(np.zeros((0, 0, 3), np.uint8))


def test_raw_outputs_of_a_runtime_are_not_shared_with_the_next_call(contract: ModelContract) -> None:
    class Reusing:
        name, provenance = "reusing", "simulated"

        def __init__(self) -> None:
            self.scalar = np.zeros((1, 5), np.float32)

        def run(self, crops: np.ndarray) -> RawOutputs:
            self.scalar += 0.25
            return RawOutputs(
                logits=np.zeros((1, 5, 16, 12), np.float32),
                presence=self.scalar,
                visibility=self.scalar,
                quality=self.scalar,
            )

        def close(self) -> None:
            pass

    estimator = PoseEstimator(Reusing(), contract)
    first = estimator(IMAGE, BOXES[0])
    estimator(IMAGE, BOXES[0])
    np.testing.assert_array_equal(first.quality, 0.25)
    assert isinstance(first, Poses)
