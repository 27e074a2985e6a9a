"""Boxes of a detector: read and chosen as asked, every bad entry named, poses estimated in them, scores multiplied."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import PoseEstimator
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_eval import evaluate, predict_detections, predict_set, read_annotations, read_detections
from probpose_eval.annotations.coco import labelled_persons
from probpose_eval.detections import parse_detections

Make = Callable[..., PoseEstimator]


def box(image_id: int, score: float, **change: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "bbox": [10.0 * score, 5, 60, 80], "score": score, **change}


def test_boxes_are_chosen_by_category_score_and_number(photographed: tuple[Path, Path]) -> None:
    annotations = read_annotations(photographed[0])
    document = [box(4, 0.2), box(2, 0.5), box(2, 0.9), box(2, 0.1), box(2, 0.99, category_id=18), box(4, 0.8)]
    every = parse_detections(document, annotations)
    assert every.image_ids.tolist() == [2, 2, 2, 4, 4], "pictures in the order of the set"
    assert every.scores.tolist() == [0.9, 0.5, 0.1, 0.8, 0.2], "the best first"
    assert every.boxes_xyxy[0].tolist() == [9, 5, 69, 85]
    assert parse_detections(document, annotations, min_score=0.5).scores.tolist() == [0.9, 0.5, 0.8]
    assert parse_detections(document, annotations, most_per_image=1).scores.tolist() == [0.9, 0.8]
    few = parse_detections(document, annotations, min_score=0.15, most_per_image=2)
    assert (few.scores.tolist(), few.read, len(few)) == ([0.9, 0.5, 0.8, 0.2], 5, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 99}, r"detection 1 of the detections names the unknown image 99\. Use detections of the same"),
        ({"image_id": "2"}, r"'image_id' must be a whole number, but detection 1 of the detections has '2'"),
        ({"category_id": None}, r"'category_id' must be a whole number, but detection 1 .* has None"),
        ({"score": 1.5}, r"score of a detection must be a number in \[0, 1\], but detection 1 .* has 1\.5\. Scale"),
        ({"score": float("nan")}, r"score of a detection must be a number in \[0, 1\], but detection 1 .* has nan"),
        ({"score": None}, r"score of a detection must be a number in \[0, 1\], but detection 1 .* has None"),
        ({"bbox": [0, 0, 0, 9]}, r"must have a bbox .* with area, but detection 1 .* has \[0, 0, 0, 9\]"),
        ({"bbox": [0, 0, 9]}, r"must have a bbox .* with area, but detection 1 .* has \[0, 0, 9\]\. Correct"),
        ({"bbox": [0, float("nan"), 9, 9]}, r"must have a bbox .* with area, but detection 1"),
        ({"bbox": [500, 0, 9, 9]}, r"must lie on its picture, but detection 1 .*: Box 0 must overlap the 320 x 240"),
    ],
)
def test_bad_entries_are_named(photographed: tuple[Path, Path], change: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        parse_detections([box(2, 0.5), {**box(2, 0.5), **change}], read_annotations(photographed[0]))


def test_bad_files_and_settings(photographed: tuple[Path, Path], tmp_path: Path) -> None:
    annotations = read_annotations(photographed[0])
    path = tmp_path / "d.json"
    for content, message in (
        (None, r"d\.json cannot be read"),
        ("x", r"must be JSON, but .*d\.json is not"),
        ("{}", r"must hold a list of results, but .*d\.json does not"),
        ("[]", r"must hold boxes of persons \(category 1\) .* has none among its 0 entries\. Give the results of"),
        (json.dumps([box(2, 0.5, category_id=3)]), r"has none among its 1 entries"),
    ):
        if content is not None:
            path.write_text(content)
        with pytest.raises(AnnotationError, match=message):
            read_detections(path, annotations)
    with pytest.raises(AnnotationError, match=r"with a score of at least 0\.9, but .* or lower the least score"):
        parse_detections([box(2, 0.5)], annotations, min_score=0.9)
    for bad in ({"min_score": 2.0}, {"most_per_image": 0}):
        with pytest.raises(InputError, match=r"least score in \[0, 1\] and at least one box per image"):
            parse_detections([box(2, 0.5)], annotations, **bad)  # type: ignore[arg-type]


def test_true_boxes_given_as_detections_give_the_poses_of_the_true_boxes(
    photographed: tuple[Path, Path], template_estimator: Make
) -> None:
    annotations = read_annotations(photographed[0])
    persons = labelled_persons(annotations)
    document = []
    for index, person in enumerate(persons):
        x0, y0, x1, y1 = person.bbox_xyxy.tolist()
        document.append(box(person.image_id, 0.9 - 0.05 * index, bbox=[x0, y0, x1 - x0, y1 - y0]))
    detections = parse_detections(document, annotations)
    steps: list[tuple[int, int]] = []
    estimator = template_estimator()
    results = predict_detections(
        estimator, annotations, photographed[1], detections, progress=lambda *step: steps.append(step)
    )
    own = predict_set(estimator, annotations, photographed[1])
    assert [result["image_id"] for result in results] == [result["image_id"] for result in own]
    for result, same, scored in zip(results, own, document, strict=True):
        assert np.allclose(result["keypoints"], same["keypoints"])
        assert (result["box_score"], result["pose_score"]) == (scored["score"], same["score"])
        assert result["score"] == pytest.approx(scored["score"] * same["score"])
        assert "annotation_id" not in result
    assert steps[-1] == (len(persons), len(persons))
    assert evaluate(annotations, results)["AR"] == pytest.approx(evaluate(annotations, own)["AR"])
    other = template_estimator(keypoint_names=tuple(f"point{k}" for k in range(17)))
    with pytest.raises(AnnotationError, match="must have the keypoints of the set"):
        predict_detections(other, annotations, photographed[1], detections)
