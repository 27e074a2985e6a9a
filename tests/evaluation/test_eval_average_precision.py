"""AP and AR against pycocotools on random sets, and against recorded values of exococotools."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge.exceptions import AnnotationError
from probpose_eval import evaluate, mean_oks, oks, parse_annotations, read_annotations, read_results
from probpose_eval.annotations.coco import AnnotationSet, sigmas_of

TOLERANCE = 1e-9
"""Rounding of sums in another order; measured differences are 0."""
NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
BY_LEVEL = ("AP-v1", "AP-v2", "AP-v3", "AR-v1", "AR-v2", "AR-v3")
PyCocoTools = Callable[[dict[str, Any], list[dict[str, Any]]], dict[str, float]]
RandomSet = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]


@pytest.mark.parametrize("result_boxes", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools(
    random_set: RandomSet, seed: int, result_boxes: bool, with_pycocotools: PyCocoTools
) -> None:
    document, results = random_set(seed, result_boxes=result_boxes)
    ours = evaluate(parse_annotations(document), results)
    theirs = with_pycocotools(document, results)
    assert 0 < theirs["AP"] < 1
    assert {name: ours[name] for name in NAMES} == pytest.approx(theirs, abs=TOLERANCE)


def test_equals_pycocotools_on_absent_keypoints_made_unlabelled(
    random_set: RandomSet, with_pycocotools: PyCocoTools
) -> None:
    document, results = random_set(11, levels=(0, 1, 2, 3))
    ours = evaluate(parse_annotations(document), results)
    for annotation in document["annotations"]:
        annotation["keypoints"] = [
            0 if value == 3 and i % 3 == 2 else value for i, value in enumerate(annotation["keypoints"])
        ]
    assert {name: ours[name] for name in NAMES} == pytest.approx(with_pycocotools(document, results), abs=TOLERANCE)


def test_one_visibility_level_is_pycocotools_on_that_level(
    random_set: RandomSet, with_pycocotools: PyCocoTools
) -> None:
    document, results = random_set(12)
    ours = evaluate(parse_annotations(document), results)
    for level in (1, 2):
        only = copy.deepcopy(document)
        for annotation in only["annotations"]:
            v = [value if value == level else 0 for value in annotation["keypoints"][2::3]]
            annotation["keypoints"][2::3] = v
            annotation["num_keypoints"] = 0 if annotation["num_keypoints"] == 0 else sum(value > 0 for value in v)
        theirs = with_pycocotools(only, results)
        assert ours[f"AP-v{level}"] == pytest.approx(theirs["AP"], abs=TOLERANCE)
        assert ours[f"AR-v{level}"] == pytest.approx(theirs["AR"], abs=TOLERANCE)


def test_without_results_or_persons(document: dict[str, Any]) -> None:
    annotations = parse_annotations(document)
    with pytest.raises(AnnotationError, match=r"must be results to evaluate, but there is none for the 1 labelled"):
        evaluate(annotations, [])
    document["annotations"][0]["num_keypoints"] = 0
    assert set(evaluate(parse_annotations(document), []).values()) == {-1.0}


def test_perfect_results_with_presence(document: dict[str, Any]) -> None:
    document["annotations"][0]["keypoints"][:3] = [0, 0, 3]
    annotations = parse_annotations(document)
    keypoints = annotations.persons[0].keypoints.copy()
    keypoints[:, 2] = 0.9
    result = {"image_id": 3, "keypoints": keypoints.reshape(-1).tolist(), "score": 0.5}
    keypoints[0, 2] = 0.1
    honest = {"image_id": 3, "keypoints": keypoints.reshape(-1).tolist(), "score": 0.5}
    assert evaluate(annotations, [result])["AP"] == pytest.approx(1, abs=TOLERANCE)
    extended = evaluate(annotations, [honest], extended=True)
    assert set(extended) == {f"Ex-{name}" for name in (*NAMES, *BY_LEVEL)}
    assert extended["Ex-AP"] == extended["Ex-AP-v3"] == pytest.approx(1, abs=TOLERANCE)
    document["annotations"][0]["keypoints"][:3] = [90, 100, 1]  # far inside the window, so missing it costs
    assert evaluate(parse_annotations(document), [honest], extended=True)["Ex-AP"] < 1


def test_presence_threshold_and_definition_reach_the_metric(random_set: RandomSet) -> None:
    document, results = random_set(3, levels=(0, 1, 2, 3))
    annotations = parse_annotations(document)
    values = {
        (definition, threshold): evaluate(
            annotations, results, extended=True, definition=definition, presence_threshold=threshold
        )["Ex-AP"]
        for definition in ("paper", "exococotools")
        for threshold in (0.2, 0.8)
    }
    assert len(set(values.values())) == 4


# --- mean OKS -----------------------------------------------------------------------------------------------------


def own_results(annotations: AnnotationSet, shift: float) -> list[dict[str, Any]]:
    results = []
    for person in annotations.persons:
        if person.num_keypoints and not person.iscrowd:
            keypoints = person.keypoints + np.array([shift, 0, 0])
            keypoints[:, 2] = 1
            values = keypoints.reshape(-1).tolist()
            results.append({"image_id": person.image_id, "annotation_id": person.id, "keypoints": values, "score": 1.0})
    return results


def test_mean_oks_pairs_persons_with_their_own_results(random_set: RandomSet) -> None:
    annotations = parse_annotations(random_set(5)[0])
    results = own_results(annotations, 3.0)
    by_id = mean_oks(annotations, results[::-1])
    unnamed = [{key: value for key, value in result.items() if key != "annotation_id"} for result in results]
    by_order = mean_oks(annotations, unnamed)
    assert by_id.oks.tolist() == by_order.oks.tolist()
    persons = {person.id: person for person in annotations.persons}
    for person_id, value in zip(by_id.person_ids, by_id.oks, strict=True):
        person = persons[person_id]
        alone = oks(
            person.keypoints[None],
            person.bbox_xyxy[None],
            np.array([person.area]),
            person.keypoints[None] + np.array([3.0, 0, 0]),
            sigmas_of(annotations),
        )
        assert value == pytest.approx(alone[0], abs=1e-12)
    assert by_id.mean == pytest.approx(by_id.oks.mean())
    assert by_id.share_above_half == pytest.approx((by_id.oks > 0.5).mean())
    assert mean_oks(annotations, own_results(annotations, 0)).mean == 1


def test_mean_oks_needs_one_result_per_person(random_set: RandomSet) -> None:
    annotations = parse_annotations(random_set(5)[0])
    results = own_results(annotations, 0)
    with pytest.raises(AnnotationError, match="Mean OKS needs one result per labelled person"):
        mean_oks(annotations, results[1:])
    with pytest.raises(AnnotationError, match=rf"annotation {results[0]['annotation_id']} has several\. Keep the one"):
        mean_oks(annotations, [results[0], *results])


# --- bad results --------------------------------------------------------------------------------------------------

GOOD = {"image_id": 3, "category_id": 1, "keypoints": [1.0] * 51, "score": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 4}, r"result 1 names the unknown image 4\. Use results for the same set"),
        ({"category_id": 2}, r"must have the person category 1, but result 1 has 2"),
        ({"keypoints": [1.0] * 50}, r"must have 51 keypoint numbers .* result 1 has 50\. Use results"),
        ({"keypoints": None}, r"must have 51 keypoint numbers .* result 1 has None"),
        ({"keypoints": ["a"] * 51}, r"keypoints of a result must be numbers, but of result 1: "),
        ({"keypoints": [float("nan")] * 51}, r"must be finite, but result 1 has NaN or infinity"),
        ({"score": None}, r"score of a result must be a number, but result 1 has None"),
        ({"score": float("inf")}, r"must be finite, but result 1"),
    ],
)
def test_bad_results_are_named(document: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        evaluate(parse_annotations(document), [GOOD, {**GOOD, **change}])


def test_results_have_boxes_all_or_none(document: dict[str, Any]) -> None:
    with pytest.raises(AnnotationError, match=r"Either all results have a bbox .* but result 1 has None"):
        evaluate(parse_annotations(document), [{**GOOD, "bbox": [0, 0, 1, 1]}, GOOD])
    incomplete = {name: value for name, value in GOOD.items() if name != "score"}
    with pytest.raises(AnnotationError, match=r"must have image_id, keypoints and score, but result 0 lacks one"):
        evaluate(parse_annotations(document), [incomplete])


def test_result_files(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps([GOOD]))
    assert read_results(tmp_path / "r.json") == [GOOD]
    (tmp_path / "r.json").write_text(json.dumps({"images": []}))
    with pytest.raises(AnnotationError, match=r"must hold a list of results, but .*r\.json does not"):
        read_results(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("x")
    with pytest.raises(AnnotationError, match="must be JSON"):
        read_results(tmp_path / "r.json")
    with pytest.raises(AnnotationError, match=r"none\.json cannot be read"):
        read_results(tmp_path / "none.json")


# --- recorded values of exococotools ------------------------------------------------------------------------------


def metric_name(row: str, mode: str) -> str:
    """The name here of a row of exococotools' summary."""
    name = "AP" if "(AP)" in row else "AR"
    name += {"0.50 ": "50", "0.75 ": "75"}.get(row.split("IoU=")[1][:5], "")
    name += {"medium": "m", " large": "l"}.get(row.split("area=")[1][:6], "")
    level = re.search(r"vis= \[(\d)\]", row)
    name += f"-v{level[1]}" if level else ""
    return f"Ex-{name}" if mode == "extended" else name


@pytest.mark.shared
@pytest.mark.parametrize("mode", ["standard", "extended"])
@pytest.mark.parametrize("case", ["example_coco", "example_cropcoco", "random@0.3", "random@0.5"])
def test_equals_exococotools(shared: Path, case: str, mode: str) -> None:
    folder = shared / "reference" / "ex_oks"
    expected = json.loads((folder / "expected.json").read_text())[case]
    name = case.split("@")[0]
    ours = evaluate(
        read_annotations(folder / f"{name}_gt.json"),
        read_results(folder / f"{name}_dt.json"),
        extended=mode == "extended",
        definition="exococotools",
        presence_threshold=expected["confidence_thr"],
        padding=expected["padding"],
    )
    theirs = {metric_name(row["row"], mode): row["value"] for row in expected[mode]}
    assert len(theirs) == len(expected[mode]) >= 12
    assert {key: ours[key] for key in theirs} == pytest.approx(theirs, abs=TOLERANCE)
