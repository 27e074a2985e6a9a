"""Observing a set: what `predict_set` gives, and maps against the truth and against the reference's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probpose_edge import PoseEstimator, RawOutputs, calibrated_maps, image_to_cells
from probpose_edge.exceptions import AnnotationError, InputError, ModelFileError
from probpose_eval import labelled_persons, predict_set, read_annotations
from probpose_eval.metrics.coverage import coverage
from probpose_eval.observations.observe import compare_maps, map_standing, observe_set, results_of

Make = Callable[..., PoseEstimator]
CALIBRATED = {"calibration": {"coverage_temperature": 4.0, "lost_share": 0.05}}


class HeatmapRuntime:
    """Gives the first map of a template, between 0 and 1, as the heatmap of a plain network, in a buffer of its own."""

    name, provenance = "heatmaps", "measured"

    def __init__(self, runtime: Any) -> None:
        self._runtime, self._buffer = runtime, np.zeros((64, 17, 64, 48), dtype=np.float32)

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        self._buffer[: len(crops)] = self._runtime.run(crops).logits / 20
        return RawOutputs(logits=self._buffer[: len(crops)])

    def close(self) -> None:
        pass


def test_results_are_those_of_predict_set(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    document = json.loads(photographed[0].read_text())
    document["annotations"] = document["annotations"][::-1]  # not in the order of the images
    photographed[0].write_text(json.dumps(document))
    annotations = read_annotations(photographed[0])
    estimators = [template_estimator(), template_estimator(shift=4), template_estimator(padding=1.5, presence=0.7)]
    steps: list[tuple[int, int]] = []
    observed = observe_set(estimators, annotations, photographed[1], batch=3, progress=lambda *step: steps.append(step))
    persons = labelled_persons(annotations)
    assert steps[-1] == (2 * len(persons), 2 * len(persons)), "once per way of cutting"
    for estimator, (observations, drift) in zip(estimators, observed, strict=True):
        assert drift is None
        assert results_of(observations) == predict_set(estimator, annotations, photographed[1])
        assert observations.annotation_ids.tolist() == [person.id for person in persons]
        assert observations.keypoints.shape == (len(observations), 17, 2)
        assert observations.presence.dtype == observations.scores.dtype == np.float64
        assert np.isnan(observations.standing).all(), "not calibrated"
    json.dumps(results_of(observed[0][0]))


def test_standing_is_the_mass_of_the_region_that_reaches_the_truth(
    photographed: tuple[Path, Path], template_estimator: Make
) -> None:
    annotations = read_annotations(photographed[0])
    estimator = template_estimator(**CALIBRATED)
    ((observations, _),) = observe_set([estimator], annotations, photographed[1])
    raw = estimator.runtime.run(np.zeros((1, 256, 192, 3), dtype=np.uint8))
    maps = calibrated_maps(raw.logits, estimator.contract)[0].astype(np.float64)
    for row, person in enumerate(labelled_persons(annotations)):
        cells = image_to_cells(person.keypoints[None, :, :2], observations.windows[row : row + 1], (48, 64))[0]
        for k, (x, y) in enumerate(np.rint(cells).astype(int)):
            if person.keypoints[k, 2] not in (1, 2):
                assert np.isnan(observations.standing[row, k])
                continue
            expected = maps[k][maps[k] >= maps[k, y, x]].sum()
            assert observations.standing[row, k] == pytest.approx(expected, abs=1e-5)
    known = np.isfinite(observations.standing)
    assert 0 < (~known).sum() < known.size
    curve = coverage(map_standing(observations))
    assert np.all(np.diff(curve) >= 0)
    only = np.zeros_like(known)
    only[:, 3] = True
    assert len(map_standing(observations, only)) == known[:, 3].sum()


def test_a_label_outside_the_window_has_no_standing(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    document = json.loads(photographed[0].read_text())
    document["annotations"][0]["keypoints"][3:6] = [315, 235, 2]
    photographed[0].write_text(json.dumps(document))
    ((observations, _),) = observe_set(
        [template_estimator(**CALIBRATED)], read_annotations(photographed[0]), photographed[1]
    )
    assert np.isnan(observations.standing[0, 1])
    assert np.isfinite(observations.standing[0, 2])


def test_map_drift_against_the_reference(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    annotations = read_annotations(photographed[0])
    estimators = [
        template_estimator(shift=2, **CALIBRATED),
        template_estimator(**CALIBRATED),
        template_estimator(**CALIBRATED),
        template_estimator(padding=1.5, **CALIBRATED),
        template_estimator(),
    ]
    drifts = [drift for _, drift in observe_set(estimators, annotations, photographed[1], reference=1, batch=4)]
    moved, itself, same, other_crops, uncalibrated = drifts
    assert itself is None
    assert other_crops is None
    assert moved is not None
    assert same is not None
    assert uncalibrated is not None
    assert same.kl.max() < 1e-6
    assert same.overlap.min() > 1 - 1e-5
    assert uncalibrated.kl.max() < 1e-6, "both as softmax at one temperature"
    n = len(labelled_persons(annotations))
    assert moved.kl.shape == (n, 17)
    assert moved.kl.min() > 0.01
    raw = [e.runtime.run(np.zeros((1, 256, 192, 3), dtype=np.uint8)).logits for e in estimators[:2]]
    q, p = (calibrated_maps(logits, estimators[0].contract)[0, 5].astype(np.float64) for logits in raw)
    assert moved.kl[0, 5] == pytest.approx((p * np.log(p / q)).sum(), rel=1e-4)
    assert moved.overlap[0, 5] == pytest.approx(np.minimum(p, q).sum(), rel=1e-4)


def test_plain_heatmaps_are_compared_by_their_shares(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    annotations = read_annotations(photographed[0])
    fields = {"map_kind": "heatmap", "decode_kernel": "argmax"}
    plain = [template_estimator(shift=shift, **fields) for shift in (0, 3, 0)]
    estimators = [PoseEstimator(HeatmapRuntime(each.runtime), each.contract) for each in plain]
    estimators.append(template_estimator())
    (observations, _), (_, moved), (_, same), (_, of_another_kind) = observe_set(
        estimators, annotations, photographed[1], reference=0
    )
    assert np.isnan(observations.standing).all()
    assert moved is not None
    assert same is not None
    assert np.isfinite(moved.kl).all()
    assert moved.overlap.max() < 0.1
    assert same.overlap.min() > 0.999
    assert of_another_kind is None


def test_maps_without_common_cells_have_a_finite_divergence() -> None:
    p, q = np.zeros((1, 2, 8), dtype=np.float32), np.zeros((1, 2, 8), dtype=np.float32)
    p[..., 1], q[0, 0, 1], q[0, 1, 5] = 1, 1, 1
    drift = compare_maps(p, q)
    assert drift.kl[0, 0] == 0
    assert 80 < drift.kl[0, 1] < 100
    assert drift.overlap.tolist() == [[1, 0]]


def test_bad_requests_are_named(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    annotations = read_annotations(photographed[0])
    with pytest.raises(InputError, match=r"reference must be the index of one of the 1 models, got 1\. Count from 0"):
        observe_set([template_estimator()], annotations, photographed[1], reference=1)
    with pytest.raises(InputError, match=r"batch must be at least 1, got 0"):
        observe_set([template_estimator()], annotations, photographed[1], batch=0)
    other = template_estimator(keypoint_names=tuple(f"point{k}" for k in range(17)))
    with pytest.raises(AnnotationError, match=r"must have the keypoints of the set .* but template has point0"):
        observe_set([template_estimator(), other], annotations, photographed[1])


def test_outputs_unlike_the_metadata_are_named(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    annotations = read_annotations(photographed[0])
    wrong = template_estimator(heatmap_wh=(24, 32), **CALIBRATED)
    with pytest.raises(ModelFileError, match=r"output 'logits' must have shape \(10, 17, 32, 24\) by its metadata"):
        observe_set([template_estimator(**CALIBRATED), wrong], annotations, photographed[1], reference=0)


def test_a_set_without_labelled_persons_is_empty(photographed: tuple[Path, Path], template_estimator: Make) -> None:
    document = json.loads(photographed[0].read_text())
    document["annotations"] = document["annotations"][2:3]  # a crowd
    photographed[0].write_text(json.dumps(document))
    ((observations, _),) = observe_set([template_estimator()], read_annotations(photographed[0]), photographed[1])
    assert len(observations) == 0
    assert observations.keypoints.shape == (0, 17, 2)
    assert results_of(observations) == []


def test_outputs_decoded_apart_are_the_poses(template_estimator: Make) -> None:
    estimator = template_estimator()
    crops, windows = np.zeros((2, 256, 192, 3), dtype=np.uint8), np.array([[50.0, 60, 75, 100], [80, 60, 150, 200]])
    whole = estimator.predict_crops(crops, windows)
    apart = estimator.decode_outputs(estimator.runtime.run(crops), windows)
    assert np.array_equal(apart.keypoints, whole.keypoints)
    assert np.array_equal(apart.boxes, whole.boxes)
    with pytest.raises(InputError, match=r"one window per crop, \(2, 4\), got \(1, 4\)"):
        estimator.decode_outputs(estimator.runtime.run(crops), windows[:1])
