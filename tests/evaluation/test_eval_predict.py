"""Predicting a set from its true boxes: the right persons, in order, by the SDK, from crops cut once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import PoseEstimator
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_eval import (
    iterate_crops,
    labelled_persons,
    mean_oks,
    predict_set,
    predict_set_with_all,
    presence_accuracy,
    read_annotations,
    read_picture,
    results_from_crops,
)

Make = Callable[..., PoseEstimator]


def test_one_result_per_labelled_person(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    annotations = read_annotations(photographed[0])
    steps: list[tuple[int, int]] = []
    estimator = template_estimator()
    results = predict_set(estimator, annotations, photographed[1], batch=3, progress=lambda *step: steps.append(step))
    persons = labelled_persons(annotations)
    assert [result["annotation_id"] for result in results] == [person.id for person in persons]
    assert [result["image_id"] for result in results] == [person.image_id for person in persons]
    assert steps[-1] == (len(persons), len(persons))
    assert max(estimator.runtime.calls) == 3  # type: ignore[attr-defined]
    for person, result in zip(persons, results, strict=True):
        picture = read_picture(photographed[1], annotations.images[person.image_id])
        poses = estimator(picture, person.bbox_xyxy[None])
        keypoints = np.reshape(result["keypoints"], (17, 3))
        assert np.array_equal(keypoints[:, :2], poses.keypoints[0])
        assert np.allclose(keypoints[:, 2], poses.presence[0])
    assert mean_oks(annotations, results).mean > 0.5
    json.dumps(results)


def test_batch_size_changes_nothing(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    annotations = read_annotations(photographed[0])
    one, many = (predict_set(template_estimator(), annotations, photographed[1], batch=b) for b in (1, 16))
    assert one == many


def test_several_estimators_share_the_crops(
    photographed: tuple[Path, Path], template_estimator: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = read_annotations(photographed[0])
    estimators = [template_estimator(), template_estimator(shift=4), template_estimator(padding=1.5)]
    alone = [predict_set(estimator, annotations, photographed[1]) for estimator in estimators]
    reads = []
    real = read_picture

    def counted(folder: Any, entry: Any) -> Any:
        reads.append(entry.id)
        return real(folder, entry)

    monkeypatch.setattr("probpose_eval.predict.read_picture", counted)
    together = predict_set_with_all(estimators, annotations, photographed[1])
    assert together == alone
    assert len(reads) == 2 * len(set(reads)), "once per way of cutting"
    assert together[0] != together[1] != together[2]


def test_crops_can_be_reused(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    annotations = read_annotations(photographed[0])
    batches = list(iterate_crops(annotations, photographed[1], batch=4))
    assert [len(batch.crops) for batch in batches][:-1] == [4] * (len(batches) - 1)
    assert batches[0].crops.shape == (4, 256, 192, 3)
    estimator = template_estimator()
    reused = [result for batch in batches for result in results_from_crops(estimator, batch)]
    assert reused == predict_set(estimator, annotations, photographed[1])


def test_bad_sets_are_named(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    document = json.loads(photographed[0].read_text())
    estimator = template_estimator()
    with pytest.raises(InputError, match=r"batch must be at least 1, got 0"):
        predict_set(estimator, read_annotations(photographed[0]), photographed[1], batch=0)
    names = tuple(f"point{k}" for k in range(17))
    with pytest.raises(AnnotationError, match=r"must have the keypoints of the set .* but template has point0"):
        predict_set(template_estimator(keypoint_names=names), read_annotations(photographed[0]), photographed[1])
    document["annotations"][0]["bbox"][2] = 0
    photographed[0].write_text(json.dumps(document))
    with pytest.raises(
        AnnotationError, match=r"must have a box with area, but annotation 50 has not: Box 0 has no area"
    ):
        predict_set(estimator, read_annotations(photographed[0]), photographed[1])
    (photographed[1] / "000001.png").unlink()
    with pytest.raises(AnnotationError, match=r"picture of image 1 must be at"):
        predict_set(estimator, read_annotations(photographed[0]), photographed[1])


def test_presence_accuracy_counts_known_keypoints(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    annotations = read_annotations(photographed[0])
    results = predict_set(template_estimator(), annotations, photographed[1])  # says 0.1 for noses, 0.9 for the rest
    persons = labelled_persons(annotations)
    absent = sum(int((person.keypoints[:, 2] == 3).sum()) for person in persons)
    known = sum(int((person.keypoints[:, 2] > 0).sum()) for person in persons)
    low, middle = presence_accuracy(annotations, results, thresholds=[0.05, 0.5])
    assert 0 < absent < len(persons)
    assert (middle.present, middle.absent) == (known - absent, absent)
    assert middle.absent_found == absent
    assert middle.present_found == known - len(persons)
    assert middle.accuracy == pytest.approx((known - len(persons) + absent) / known)
    assert middle.balanced_accuracy == pytest.approx((1 + (known - len(persons)) / (known - absent)) / 2)
    assert (low.present_found, low.absent_found) == (known - absent, 0)
    assert low.balanced_accuracy == 0.5


def test_presence_truth_of_labels_outside_the_window(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    annotations = read_annotations(photographed[0])
    results = predict_set(template_estimator(), annotations, photographed[1])
    document = json.loads(photographed[0].read_text())
    values = document["annotations"][0]["keypoints"]
    values[:3], values[3:6] = [315, 235, 2], [0, 0, 0]
    photographed[0].write_text(json.dumps(document))
    (before,) = presence_accuracy(annotations, results)
    (after,) = presence_accuracy(read_annotations(photographed[0]), results)
    assert (after.present, after.absent) == (before.present - 2, before.absent + 1)
    assert after.absent_found == before.absent_found + 1


def test_presence_without_ground(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    annotations = read_annotations(photographed[0])
    with pytest.raises(AnnotationError, match="Presence accuracy needs results made from the true boxes"):
        presence_accuracy(annotations, [])
    with pytest.raises(InputError, match=r"presence threshold must lie in \[0, 1\], got 2"):
        presence_accuracy(annotations, [], thresholds=[2])
