"""Drift between two models: every number against a change that was made by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import COCO_17, PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_eval import AnnotationSet, labelled_persons, read_annotations
from probpose_eval.observations.drift import Drift, measure_drift
from probpose_eval.observations.observe import MapDrift, Observations, observe_set

Make = Callable[..., PoseEstimator]


@pytest.fixture
def observed(photographed: tuple[Path, Path], template_estimator: Make) -> tuple[AnnotationSet, Observations]:
    """The noses are absent for the template (0.1), the other keypoints are present (0.9)."""
    annotations = read_annotations(photographed[0])
    ((observations, _),) = observe_set([template_estimator()], annotations, photographed[1])
    return annotations, observations


def changed(observations: Observations, **shifts: Any) -> Observations:
    """Observations with a number or an array added to some fields."""
    return dataclasses.replace(observations, **{name: getattr(observations, name) + by for name, by in shifts.items()})


def test_nothing_drifts_from_itself(observed: tuple[AnnotationSet, Observations]) -> None:
    drift = measure_drift(*observed, observed[1], None)
    overall = drift.overall
    assert (overall.moved_px, overall.moved_share_p95, overall.oks, overall.oks_p05) == (0, 0, 1, 1)
    assert overall.presence.flipped == overall.visibility.flipped == 0
    assert overall.quality.flipped is None
    assert (overall.kl, overall.overlap) == (None, None)
    assert drift.worst_pictures == ()
    n = len(observed[1])
    assert (overall.keypoints, overall.present) == (17 * n, 16 * n)
    nose = drift.per_keypoint["nose"]
    assert (nose.keypoints, nose.present, nose.moved_px, nose.quality.mean) == (n, 0, None, None)
    assert nose.presence.mean == 0
    assert "nose" not in drift.worst_keypoints


def test_moved_keypoints(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, reference = observed
    shift = np.zeros(reference.keypoints.shape)
    shift[:, 0] = 1000  # noses, which are absent
    shift[2, 5] = (3, 4)
    drift = measure_drift(annotations, reference, changed(reference, keypoints=shift), None, worst=2)
    person = labelled_persons(annotations)[2]
    oks = math.exp(-25 / (2 * person.area * (2 * COCO_17.sigmas[5]) ** 2))
    n, longer = len(reference), person.bbox_xyxy[3] - person.bbox_xyxy[1]
    shoulder = drift.per_keypoint["left_shoulder"]
    assert shoulder.moved_px == pytest.approx(5 / n)
    assert shoulder.moved_share == pytest.approx(5 / longer / n)
    assert shoulder.oks == pytest.approx((n - 1 + oks) / n)
    assert drift.overall.moved_px == pytest.approx(5 / (16 * n))
    assert drift.overall.moved_px_p95 == 0
    assert drift.worst_keypoints[0] == "left_shoulder"
    assert len(drift.worst_keypoints) == 2
    (picture,) = drift.worst_pictures
    assert (picture.image_id, picture.annotation_id) == (person.image_id, person.id)
    assert (picture.keypoint, picture.moved_px, picture.presence_flipped) == ("left_shoulder", pytest.approx(5), 0)
    assert picture.agreement == pytest.approx((16 + oks) / 17)


def test_shifted_heads(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, reference = observed
    n = len(reference)
    presence, visibility = np.full((n, 17), -0.1), np.zeros((n, 17))
    presence[0, 3], presence[1, 4] = -0.6, 0.05
    visibility[:, 7] = -0.2
    file = changed(reference, presence=presence, visibility=visibility, quality=0.25, expected_oks=-0.125)
    drift = measure_drift(annotations, reference, file, None)
    overall = drift.overall
    assert overall.presence.mean == pytest.approx((0.1 * (17 * n - 2) + 0.65) / (17 * n))
    assert overall.presence.p95 == pytest.approx(0.1)
    assert overall.presence.signed == pytest.approx((-0.1 * (17 * n - 2) - 0.55) / (17 * n))
    assert overall.presence.flipped == pytest.approx(1 / (17 * n))
    assert drift.per_keypoint["left_ear"].presence.flipped == pytest.approx(1 / n)
    assert drift.per_keypoint["left_elbow"].visibility.flipped == 1
    assert drift.per_keypoint["left_elbow"].visibility.mean == pytest.approx(0.2)
    assert drift.per_keypoint["left_hip"].visibility.flipped == 0
    assert (overall.quality.mean, overall.quality.signed) == (pytest.approx(0.25), pytest.approx(0.25))
    assert overall.expected_oks.signed == pytest.approx(-0.125)
    (picture,) = drift.worst_pictures
    assert (picture.annotation_id, picture.presence_flipped) == (int(reference.annotation_ids[0]), 1)
    assert picture.agreement == pytest.approx(16 / 17)


def test_decisions_are_read_at_the_threshold_of_the_reference(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, reference = observed
    strict = dataclasses.replace(reference, presence_threshold=0.95)
    file = changed(reference, presence=0.06)
    drift = measure_drift(annotations, strict, file, None)
    assert drift.presence_threshold == 0.95
    assert drift.overall.present == 0
    assert drift.overall.oks is None
    assert drift.overall.presence.flipped == pytest.approx(16 / 17)
    assert measure_drift(annotations, reference, file, None).overall.presence.flipped == 0
    assert drift.worst_pictures[0].keypoint is None


def test_map_drift_is_averaged_over_present_keypoints(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, reference = observed
    kl, overlap = np.zeros((len(reference), 17)), np.ones((len(reference), 17))
    kl[:, 0], overlap[:, 0] = 50, 0  # absent
    kl[:, 9], overlap[:, 9] = 1.6, 0.2
    drift = measure_drift(annotations, reference, reference, MapDrift(kl=kl, overlap=overlap))
    assert drift.overall.kl == pytest.approx(0.1)
    assert drift.overall.overlap == pytest.approx(0.95)
    assert drift.per_keypoint["left_wrist"].kl == pytest.approx(1.6)
    assert drift.per_keypoint["nose"].kl is None


def test_a_picture_is_named_once_by_its_worst_person(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, reference = observed
    rows = np.flatnonzero(reference.image_ids == 5)
    assert len(rows) > 1
    shift = np.zeros(reference.keypoints.shape)
    shift[rows[0]], shift[rows[1]] = 2, 30
    (picture,) = measure_drift(annotations, reference, changed(reference, keypoints=shift), None).worst_pictures
    assert (picture.image_id, picture.annotation_id) == (5, int(reference.annotation_ids[rows[1]]))


def test_drift_is_ready_for_json(observed: tuple[AnnotationSet, Observations]) -> None:
    drift = measure_drift(*observed, changed(observed[1], keypoints=1.0), None)
    document = json.loads(json.dumps(dataclasses.asdict(drift), allow_nan=False))
    assert document["overall"]["moved_px"] == pytest.approx(math.sqrt(2))
    assert isinstance(drift, Drift)


def test_other_persons_are_refused(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, reference = observed
    other = dataclasses.replace(reference, annotation_ids=reference.annotation_ids[::-1])
    with pytest.raises(InputError, match=r"of the 10 labelled persons .* or of others\. Observe the same set"):
        measure_drift(annotations, reference, other, None)
    with pytest.raises(InputError, match=r"number of worst ones must be at least 0, got -1"):
        measure_drift(annotations, reference, reference, None, worst=-1)


def test_a_set_without_persons_has_no_numbers(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    document = json.loads(photographed[0].read_text())
    document["annotations"] = []
    photographed[0].write_text(json.dumps(document))
    annotations = read_annotations(photographed[0])
    ((observations, _),) = observe_set([template_estimator()], annotations, photographed[1])
    drift = measure_drift(annotations, observations, observations, None)
    assert (drift.overall.keypoints, drift.overall.moved_px, drift.overall.presence.mean) == (0, None, None)
    assert drift.worst_keypoints == ()
