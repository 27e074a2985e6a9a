"""Calibration of a whole model: what is collected, what is fitted, what held-out pictures show, what is stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from probpose_edge import COCO_17, InputError, PoseEstimator, RawOutputs, image_to_cells
from probpose_edge.exceptions import AnnotationError
from probpose_edge.probabilities.calibrated_maps import calibrated_maps
from probpose_edge.window import scale_windows
from probpose_eval import labelled_persons, read_annotations
from probpose_eval.annotations.windows import person_windows
from probpose_eval.calibration.calibrate import calibrate
from probpose_eval.calibration.calibration_samples import CalibrationSamples, PicturedSet, collect_samples
from probpose_eval.calibration.fit_coverage import MapSamples
from probpose_eval.calibration.quality_samples import QualitySamples
from probpose_eval.metrics.coverage import coverage, coverage_error, standing
from probpose_eval.metrics.oks import oks
from probpose_eval.metrics.presence_reliability import PresenceSamples
from probpose_eval.predict import predict_set

Make = Callable[..., PoseEstimator]


@pytest.fixture
def pictured(photographed: tuple[Path, Path]) -> PicturedSet:
    return PicturedSet(annotations=read_annotations(photographed[0]), images_dir=photographed[1])


def test_every_known_keypoint_is_collected(template_estimator: Make, pictured: PicturedSet) -> None:
    steps: list[tuple[int, int]] = []
    found = collect_samples(
        template_estimator(), [pictured, pictured], batch=4, progress=lambda done, total: steps.append((done, total))
    )
    persons = labelled_persons(pictured.annotations)
    v = np.stack([person.keypoints[:, 2] for person in persons])
    assert found.persons == steps[-1][0] == steps[-1][1] == 2 * len(persons)
    assert found.pictures == 6
    assert len(found.presence) == 2 * (v > 0).sum()
    assert int((~found.presence.present).sum()) == 2 * (v == 3).sum()
    assert len(found.maps) == 2 * (v < 3).sum()
    # The nose, keypoint 0, is answered with 0.1 and every other keypoint with 0.9.
    assert found.presence.probability == pytest.approx(np.where(found.presence.keypoint == 0, 0.1, 0.9))
    # The template's peak is within some cells of every keypoint, which was moved by 3 % of the height.
    peak = found.maps.logits.argmax(axis=1)
    away = np.hypot(peak % 48 - found.maps.cells % 48, peak // 48 - found.maps.cells // 48)
    assert away.max() < 12
    assert np.median(away) < 3
    assert len(found.quality) == len(found.maps)
    assert (found.quality.said == 0.5).all()


def test_the_true_oks_is_that_of_the_decoded_keypoint(template_estimator: Make, pictured: PicturedSet) -> None:
    estimator = template_estimator(quality_bias=(3.0,) * 17)  # what is said counts before calibration
    found = collect_samples(estimator, [pictured]).quality
    persons = labelled_persons(pictured.annotations)
    results = predict_set(estimator, pictured.annotations, pictured.images_dir)
    expected = []
    for person, result in zip(persons, results, strict=True):
        for k in np.flatnonzero(person.keypoints[:, 2] < 3):
            only = person.keypoints.copy()
            only[np.arange(17) != k, 2] = 0
            said = np.reshape(result["keypoints"], (1, 17, 3))
            area = np.array([person.area])
            expected.append(oks(only[None], person.bbox_xyxy[None], area, said, COCO_17.sigmas)[0])
    assert found.oks == pytest.approx(np.array(expected))
    assert (found.said == 0.5).all()
    assert found.pictures[:17].tolist() == [persons[0].image_id] * 17


def with_expert_map(raw: RawOutputs) -> RawOutputs:
    return dataclasses.replace(raw, expert_logits=raw.logits)


def test_keypoints_are_placed_in_the_activation_window(
    template_estimator: Make, pictured: PicturedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = template_estimator(window_ratio=1.25)
    alone = estimator.runtime.run
    monkeypatch.setattr(estimator.runtime, "run", lambda crops: with_expert_map(alone(crops)))
    found = collect_samples(estimator, [pictured])
    person = labelled_persons(pictured.annotations)[0]
    window = scale_windows(person_windows(person.bbox_xyxy), 1.25)
    cells = np.rint(image_to_cells(person.keypoints[None, :, :2], window, (48, 64)))[0].astype(int)
    assert found.maps.cells[:17].tolist() == (cells[:, 1] * 48 + cells[:, 0]).tolist()


def test_a_large_set_is_sampled_alike_every_time(
    template_estimator: Make, pictured: PicturedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probpose_eval.calibration.calibration_samples.LARGEST_MAP_SAMPLE", 40)
    one, two = (collect_samples(template_estimator(), [pictured]) for _ in range(2))
    assert len(one.maps) == 40
    assert one.maps.cells.tolist() == two.maps.cells.tolist()
    assert len(one.presence) > 100


def test_other_models_and_sets_are_refused(template_estimator: Make, pictured: PicturedSet) -> None:
    plain = template_estimator(map_kind="heatmap", decode_kernel="argmax")
    with pytest.raises(InputError, match=r"needs probability maps and presence, but template is a plain heatmap"):
        collect_samples(plain, [pictured])
    renamed = template_estimator(keypoint_names=tuple(name + "x" for name in COCO_17.keypoint_names))
    with pytest.raises(AnnotationError, match=r"A model must have the keypoints of the set \(nose, "):
        collect_samples(renamed, [pictured])
    nobody = dataclasses.replace(pictured.annotations, persons=())
    with pytest.raises(AnnotationError, match=r"Calibration needs labelled persons, but the set has none\. Give"):
        collect_samples(template_estimator(), [PicturedSet(annotations=nobody, images_dir=pictured.images_dir)])


def simulated_quality(
    rng: np.random.Generator, keypoint: NDArray[np.intp], picture: NDArray[np.int64]
) -> QualitySamples:
    """The network's logit is half of the right one, and 1 more."""
    logit = rng.normal(0.5, 1.5, len(keypoint))
    share = 1 / (1 + np.exp(-logit))
    reached = np.clip(share + rng.normal(0, 0.05, len(keypoint)), 0, 1)
    return QualitySamples(said=1 / (1 + np.exp(-(0.5 * logit + 1))), oks=reached, keypoint=keypoint, pictures=picture)


def simulated(seed: int, *, pictures: int = 40) -> tuple[CalibrationSamples, NDArray[np.bool_]]:
    """Keypoints drawn from known maps and known presence probabilities, 30 per picture."""
    rng = np.random.default_rng(seed)
    n, k = 30 * pictures, np.tile(np.arange(17), 2 * pictures)[: 30 * pictures]
    picture = np.repeat(np.arange(pictures), 30)
    y, x = np.divmod(np.arange(64 * 48), 48)
    cx, cy, spread = rng.uniform(8, 40, (n, 1)), rng.uniform(8, 56, (n, 1)), rng.uniform(2, 7, (n, 1))
    bump = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * spread**2))
    logits = (0.3 * bump).astype(np.float32)
    mass = np.exp(logits / 0.05)
    mass = 0.9 * mass / mass.sum(axis=1, keepdims=True) + 0.1 / mass.shape[1]
    cells = (mass.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    logit = rng.normal(3, 2, n)
    present = rng.random(n) < 1 / (1 + np.exp(-logit))
    samples = CalibrationSamples(
        maps=MapSamples(logits=logits, cells=cells, pictures=picture),
        presence=PresenceSamples(
            probability=1 / (1 + np.exp(-(0.5 * logit + 2))), present=present, keypoint=k, pictures=picture
        ),
        quality=simulated_quality(rng, k, picture),
        persons=2 * pictures,
        pictures=pictures,
    )
    return samples, present


def test_what_is_wrong_is_repaired_on_held_out_pictures(template_estimator: Make) -> None:
    before = template_estimator().contract
    samples, present = simulated(0)
    found = calibrate(before, samples, threshold="balanced")
    assert coverage_error(found.coverage_before) > 0.05
    assert coverage_error(found.coverage_held_out) < 0.03
    held_out = found.presence_held_out["balanced"]
    assert held_out.ece < 0.03 < found.presence_before.ece
    assert held_out.balanced_accuracy > found.presence_before.balanced_accuracy + 0.05
    assert found.presence_held_out["accuracy"].accuracy >= held_out.accuracy
    assert (found.present, found.absent) == (present.sum(), (~present).sum())
    assert found.quality_held_out.ece is not None
    assert found.quality_before.ece is not None
    assert found.quality_held_out.ece < 0.02 < 0.1 < found.quality_before.ece
    after = found.contract(before, {"data": "here"})
    assert after.quality_scale == pytest.approx((2,) * 17, abs=0.3)
    assert after.quality_bias == pytest.approx((-2,) * 17, abs=0.4)
    assert after.calibration["quality_ece_held_out"] == round(found.quality_held_out.ece, 5)
    assert after.presence_threshold == found.thresholds["balanced"] != before.presence_threshold
    assert after.temperature == before.temperature
    assert after.calibration["data"] == "here"
    assert after.calibration["presence_threshold_kind"] == "balanced"
    assert after.calibration["coverage_error_held_out"] == round(coverage_error(found.coverage_held_out), 5)
    assert type(after).from_json(after.to_json()) == after

    # What is stored calibrates pictures that the fit never saw, through the function of the SDK.
    fresh, _ = simulated(1)
    maps = calibrated_maps(fresh.maps.logits.reshape(-1, 1, 64, 48), after).reshape(len(fresh.maps), -1)
    assert coverage_error(coverage(standing(maps, fresh.maps.cells))) < 0.03


def test_a_calibrated_model_starts_from_its_own_numbers(template_estimator: Make) -> None:
    before = template_estimator().contract
    samples, _ = simulated(0, pictures=15)
    once = calibrate(before, samples, threshold="accuracy")
    again = calibrate(once.contract(before, {}), samples, threshold="accuracy")
    assert again.coverage_fit == once.coverage_fit
    assert again.presence_fit == once.presence_fit
    assert again.quality_fit == once.quality_fit
    assert again.quality_before.ece == pytest.approx(once.quality_fitted.ece, abs=1e-4)
    assert coverage_error(again.coverage_before) == pytest.approx(coverage_error(once.coverage_fitted), abs=1e-4)
    assert again.presence_before.ece == pytest.approx(once.presence_fitted["accuracy"].ece, abs=1e-4)


def test_the_quality_can_be_left_alone(template_estimator: Make) -> None:
    before = template_estimator(quality_bias=(0.5,) * 17).contract
    found = calibrate(before, simulated(0, pictures=15)[0], with_quality=False)
    after = found.contract(before, {})
    assert (after.quality_scale, after.quality_bias) == (before.quality_scale, before.quality_bias)
    assert found.quality_held_out == found.quality_before
    assert found.quality_fitted.ece == found.quality_before.ece
    assert after.presence_scale != before.presence_scale


def test_a_fit_without_ground_is_refused(template_estimator: Make) -> None:
    contract = template_estimator().contract
    samples, _ = simulated(0, pictures=4)
    with pytest.raises(
        InputError, match=r"threshold must be one of balanced, accuracy, or a number between 0 and 1, got 'best'"
    ):
        calibrate(contract, samples, threshold="best")
    everywhere = dataclasses.replace(samples.presence, present=np.ones(len(samples.presence), dtype=np.bool_))
    with pytest.raises(InputError, match=r"keypoints inside and outside the activation window, but of 120 120 are"):
        calibrate(contract, dataclasses.replace(samples, presence=everywhere))
    with pytest.raises(InputError, match=r"held-out pictures and needs at least 2, got 1\. Give a larger set"):
        calibrate(contract, dataclasses.replace(samples, pictures=1))
