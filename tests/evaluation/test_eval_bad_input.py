"""Results and sets that break a rule: each is refused by its own sentence, or counted as COCO counts it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import PoseEstimator
from probpose_edge.exceptions import AnnotationError
from probpose_eval import evaluate, mean_oks, parse_annotations, predict_set_with_all, read_annotations, read_results
from probpose_eval.observations.observe import observe_set

GOOD = {"image_id": 3, "category_id": 1, "keypoints": [1.0, 2.0, 0.5] * 17, "score": 0.5}
Make = Callable[..., PoseEstimator]


def with_persons(document: dict[str, Any], *changes: dict[str, Any]) -> dict[str, Any]:
    """The document with one more person per change, a copy of its first."""
    document = copy.deepcopy(document)
    first = document["annotations"][0]
    document["annotations"] += [{**first, "id": 100 + index, **change} for index, change in enumerate(changes)]
    return document


def test_no_results_are_no_zero(document: dict[str, Any], tmp_path: Path) -> None:
    annotations = parse_annotations(document)
    message = r"must be results to evaluate, but there is none for the 1 labelled persons: every figure would be 0"
    for extended in (False, True):
        with pytest.raises(AnnotationError, match=message):
            evaluate(annotations, [], extended=extended)
    with pytest.raises(AnnotationError, match=message):
        mean_oks(annotations, [])
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(AnnotationError, match=r"must hold results, but .*r\.json is an empty list\. Run the model"):
        read_results(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 4}, r"result 1 names the unknown image 4\. Use results for the same set"),
        ({"image_id": "3"}, r"result 1 names the unknown image '3'"),
        ({"image_id": [3]}, r"result 1 names the unknown image \[3\]"),
        ({"score": float("nan")}, r"must be finite, but result 1 has NaN or infinity\. Remove the result"),
        ({"score": "0.5"}, r"score of a result must be a number, but result 1 has '0\.5'\. Give every result"),
        ({"score": True}, r"score of a result must be a number, but result 1 has True"),
        ({"keypoints": ["1"] * 51}, r"keypoints of a result must be numbers, but of result 1: "),
        ({"keypoints": [[1, 2, 0.5]] * 17}, r"must have 51 keypoint numbers .* result 1 has 17\. Use results for"),
        ({"keypoints": [1.0, 2.0, 0.5] * 14}, r"must have 51 keypoint numbers .* result 1 has 42\. Use results for"),
        ({"keypoints": [1.0, float("inf"), 0.5] * 17}, r"must be finite, but result 1 has NaN or infinity"),
        ({"annotation_id": 8}, r"result 1 names 8, who is not in image 3\. Use results for the same set"),
        ({"annotation_id": "7"}, r"result 1 names '7', who is not in image 3"),
    ],
)
def test_a_bad_result_is_named(document: dict[str, Any], change: dict[str, Any], message: str) -> None:
    annotations = parse_annotations(document)
    evaluate(annotations, [GOOD, {**GOOD, "annotation_id": 7}])
    with pytest.raises(AnnotationError, match=message):
        evaluate(annotations, [GOOD, {**GOOD, **change}])


def test_boxes_of_results_are_numbers(document: dict[str, Any]) -> None:
    boxes = ([0, 0, 1, 1], [0, 0, "1", 1])
    with pytest.raises(AnnotationError, match=r"bbox .* or none, but result 1 has \[0, 0, '1', 1\]"):
        evaluate(parse_annotations(document), [{**GOOD, "bbox": box} for box in boxes])


@pytest.mark.parametrize("value", [2.0, -0.1])
def test_extended_metrics_need_probabilities(document: dict[str, Any], value: float) -> None:
    annotations = parse_annotations(document)
    results = [GOOD, {**GOOD, "keypoints": [1.0, 2.0, 0.5] * 4 + [1.0, 2.0, value] * 13}]
    evaluate(annotations, results)  # COCO's own metric does not look at the third value
    with pytest.raises(
        AnnotationError, match=rf"presence probability in \[0, 1\], but result 1 has {value:g} at keypoint 4\."
    ):
        evaluate(annotations, results, extended=True)
    rounded = {**GOOD, "keypoints": [1.0, 2.0, 1 + 1e-7] * 17}
    assert evaluate(annotations, [rounded], extended=True)["Ex-AP"] >= 0


def test_ids_are_unique(document: dict[str, Any]) -> None:
    with pytest.raises(AnnotationError, match=r"Annotation ids must be unique, but .* has id 7 twice\. Renumber"):
        parse_annotations(with_persons(document, {"id": 7}))
    twice = copy.deepcopy(document)
    twice["images"] *= 2
    with pytest.raises(AnnotationError, match=r"Image ids must be unique, but .* has id 3 twice\. Renumber"):
        parse_annotations(twice)
    with pytest.raises(AnnotationError, match=r"one result per labelled person, but annotation 7 has several\."):
        mean_oks(parse_annotations(document), [{**GOOD, "annotation_id": 7}] * 2)


def test_a_result_given_twice_counts_once_as_found_and_once_as_wrong(document: dict[str, Any]) -> None:
    annotations = parse_annotations(document)
    keypoints = annotations.persons[0].keypoints.copy()
    keypoints[:, 2] = 1
    right = {**GOOD, "keypoints": keypoints.reshape(-1).tolist()}
    assert evaluate(annotations, [right])["AP"] == pytest.approx(1)
    assert evaluate(annotations, [right, right])["AP"] == pytest.approx(1), "the wrong one comes after the recall"
    other = {**right, "keypoints": (keypoints + 500).reshape(-1).tolist(), "score": 0.9}
    assert evaluate(annotations, [{**other, "keypoints": [9e3, 9e3, 1] * 17}, right])["AP"] == pytest.approx(0.5)


def test_crowds_and_unlabelled_persons_are_neither_found_nor_missed(document: dict[str, Any]) -> None:
    keypoints = np.reshape(document["annotations"][0]["keypoints"], (17, 3)).astype(float)
    right = {**GOOD, "keypoints": (keypoints * (1, 1, 0) + (0, 0, 1)).reshape(-1).tolist()}
    alone = evaluate(parse_annotations(document), [right])
    unlabelled = {"keypoints": [0] * 51, "num_keypoints": 0, "bbox": [110, 20, 60, 120]}
    company = with_persons(document, {"iscrowd": 1, "bbox": [100, 10, 80, 140]}, unlabelled)
    annotations = parse_annotations(company)
    assert evaluate(annotations, [right]) == alone
    # A second result in the region of the unlabelled person is left out, not wrong, even ranked first.
    inside = {**right, "keypoints": (keypoints * (1, 1, 0) + (70, 0, 1)).reshape(-1).tolist(), "score": 0.9}
    assert evaluate(annotations, [inside, right])["AP"] == alone["AP"] == pytest.approx(1)
    assert evaluate(parse_annotations(document), [inside, right])["AP"] == pytest.approx(0.5)


def test_nobody_to_find_is_undefined_and_no_zero(document: dict[str, Any]) -> None:
    document["annotations"][0]["iscrowd"] = 1
    annotations = parse_annotations(document)
    for results in ([], [GOOD]):
        assert set(evaluate(annotations, results, extended=True).values()) == {-1.0}
    assert np.isnan(mean_oks(annotations, []).mean)


def test_models_with_different_skeletons_are_refused_together(
    photographed: tuple[Path, Path], template_estimator: Make
) -> None:
    annotations = read_annotations(photographed[0])
    models = [template_estimator(), template_estimator(keypoint_names=tuple(f"point{k}" for k in range(17)))]
    for run in (predict_set_with_all, observe_set):
        with pytest.raises(AnnotationError, match=r"must have the keypoints of the set \(nose, .* has point0, point1"):
            run(models, annotations, photographed[1])
    assert models[0].runtime.calls == [], "before any model runs"  # type: ignore[attr-defined]


def test_numbers_beyond_float64_are_refused(document: dict[str, Any]) -> None:
    huge = json.loads("1" + "0" * 400)
    with pytest.raises(AnnotationError, match=r"keypoints of a result must be numbers, but of result 0: "):
        evaluate(parse_annotations(document), [{**GOOD, "keypoints": [huge] * 51}])
    with pytest.raises(AnnotationError, match=r"The score of a result must be a number"):
        evaluate(parse_annotations(document), [{**GOOD, "score": huge}])
