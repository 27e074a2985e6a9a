"""AP and AR over some of the keypoints, and with other scores, against pycocotools on what is left of the set."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probpose_eval import evaluate, parse_annotations
from probpose_eval.evaluate import WHOLE, Way
from probpose_eval.metrics.domain_areas import areas_of_keypoints
from probpose_eval.metrics.oks import OksRule
from probpose_eval.metrics.precision_scores import precision_scores, score_gaps
from probpose_eval.results import result_arrays

TOLERANCE = 1e-9
"""Rounding of sums in another order; measured differences are 0."""
NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
PyCocoTools = Callable[[dict[str, Any], list[dict[str, Any]]], dict[str, float]]
RandomSet = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]


def reduced(document: dict[str, Any], kept: dict[int, np.ndarray]) -> dict[str, Any]:
    """The document in which only the keypoints of the masks (K,), by annotation id, are labelled."""
    only = copy.deepcopy(document)
    for annotation in only["annotations"]:
        v = np.where(kept[annotation["id"]], annotation["keypoints"][2::3], 0)
        annotation["keypoints"][2::3] = v.tolist()
        annotation["num_keypoints"] = 0 if annotation["num_keypoints"] == 0 else int((v > 0).sum())
    return only


@pytest.mark.parametrize("keypoint", [0, 9, 16])
def test_one_keypoint_is_the_set_with_only_that_one_labelled(
    random_set: RandomSet, keypoint: int, with_pycocotools: PyCocoTools
) -> None:
    document, results = random_set(31, levels=(0, 1, 2, 3))
    annotations = parse_annotations(document)
    ways = [WHOLE, Way(only_keypoint=keypoint)]
    for definition in ("paper", "exococotools"):
        rule = OksRule(definition=definition)
        _, ours = precision_scores(annotations, result_arrays(results, annotations), rule, ways)
        kept = {person.id: np.arange(17) == keypoint for person in annotations.persons}
        only = reduced(document, kept)
        extended = evaluate(parse_annotations(only), results, extended=True, definition=definition)
        assert (ours.ex_ap, ours.ex_ar) == pytest.approx((extended["Ex-AP"], extended["Ex-AR"]), abs=TOLERANCE)
    for annotation in only["annotations"]:
        annotation["keypoints"][2::3] = [v % 3 for v in annotation["keypoints"][2::3]]
        annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])
    # exococotools leaves out images in which everybody is ignored, COCO does not.
    _, ours = precision_scores(annotations, result_arrays(results, annotations), OksRule(), ways)
    theirs = with_pycocotools(only, results)
    assert 0 < theirs["AP"] < 1
    assert (ours.ap, ours.ar) == pytest.approx((theirs["AP"], theirs["AR"]), abs=TOLERANCE)


@pytest.mark.parametrize("area", ["A", "B", "D", "E"])
def test_one_area_is_the_set_with_only_its_keypoints_labelled(
    random_set: RandomSet, area: str, with_pycocotools: PyCocoTools
) -> None:
    document, results = random_set(32, images=40)
    for annotation in document["annotations"]:  # some keypoints leave the picture, some also the window
        annotation["keypoints"][0::3] = [
            x - (150 if k % 2 else 500) if k % 5 == 0 else x + (0 if k % 3 else 60)
            for k, x in enumerate(annotation["keypoints"][0::3])
        ]
    annotations = parse_annotations(document)
    areas = areas_of_keypoints(annotations, annotations.persons)
    rows = dict(zip((person.id for person in annotations.persons), areas == area, strict=True))
    assert 5 < (areas == area).sum() < (areas != "").sum()
    theirs = with_pycocotools(reduced(document, rows), results)
    (ours,) = precision_scores(annotations, result_arrays(results, annotations), OksRule(), [Way(only_domain=area)])
    assert (ours.ap, ours.ar) == pytest.approx((theirs["AP"], theirs["AR"]), abs=TOLERANCE)


def test_a_keypoint_nobody_has_is_none(random_set: RandomSet) -> None:
    document, results = random_set(33)
    for annotation in document["annotations"]:
        annotation["keypoints"][2] = 0
    annotations = parse_annotations(document)
    (ours,) = precision_scores(annotations, result_arrays(results, annotations), OksRule(), [Way(only_keypoint=0)])
    assert (ours.ap, ours.ar, ours.ex_ap, ours.ex_ar) == (None, None, None, None)


@pytest.mark.parametrize("seed", range(3))
def test_equal_scores_and_equal_results_are_ranked_as_coco_ranks_them(
    random_set: RandomSet, seed: int, with_pycocotools: PyCocoTools
) -> None:
    document, results = random_set(40 + seed)
    for index, result in enumerate(results):
        result["score"] = 0.5 if index % 3 else 0.25
        if index % 4 == 0 and results[index - 1]["image_id"] == result["image_id"]:
            result["keypoints"] = results[index - 1]["keypoints"]
    annotations = parse_annotations(document)
    theirs = with_pycocotools(document, results)
    assert {name: evaluate(annotations, results)[name] for name in NAMES} == pytest.approx(theirs, abs=TOLERANCE)


def test_what_other_scores_would_bring(random_set: RandomSet, with_pycocotools: PyCocoTools) -> None:
    document, results = random_set(34)
    annotations = parse_annotations(document)
    arrays = result_arrays(results, annotations)
    rng = np.random.default_rng(1)
    oks, ex_oks = rng.random(len(results)), rng.random(len(results))
    gap, ex_gap = score_gaps(annotations, arrays, OksRule(presence_threshold=0.3), oks, ex_oks)

    def rescored(scores: np.ndarray) -> list[dict[str, Any]]:
        return [{**result, "score": float(score)} for result, score in zip(results, scores, strict=True)]

    for value, scores in ((gap.as_said, arrays.scores), (gap.constant, np.ones(len(oks))), (gap.true_oks, oks)):
        assert value == pytest.approx(with_pycocotools(document, rescored(scores))["AP"], abs=TOLERANCE)
    for value, scores in ((ex_gap.as_said, arrays.scores), (ex_gap.true_oks, ex_oks)):
        theirs = evaluate(annotations, rescored(scores), extended=True, presence_threshold=0.3)
        assert value == pytest.approx(theirs["Ex-AP"], abs=TOLERANCE)
    assert len({gap.as_said, gap.constant, gap.true_oks, *dataclasses.astuple(ex_gap)}) == 6
