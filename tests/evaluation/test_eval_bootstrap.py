"""Bootstrap intervals: resampling by weights is resampling by copying, and intervals behave."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probpose_edge.exceptions import InputError
from probpose_eval import (
    AnnotationSet,
    bootstrap,
    bootstrap_difference,
    evaluate,
    labelled_persons,
    mean_oks,
    parse_annotations,
)
from probpose_eval.evaluate import match_set
from probpose_eval.metrics.bootstrap import image_weights, resample, resampled_ap
from probpose_eval.metrics.oks import OksRule

RandomSet = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]


def copied(document: dict[str, Any], results: list[dict[str, Any]], weights: dict[int, int]) -> tuple[Any, Any]:
    """The set in which every image occurs as often as its weight says, as images of their own."""
    images, annotations, copies = [], [], []
    for image in document["images"]:
        for turn in range(weights[image["id"]]):
            new_id = image["id"] * 1000 + turn
            images.append({**image, "id": new_id})
            for annotation in document["annotations"]:
                if annotation["image_id"] == image["id"]:
                    annotations.append({**annotation, "id": 1 + len(annotations), "image_id": new_id})
            copies += [{**r, "image_id": new_id} for r in results if r["image_id"] == image["id"]]
    return parse_annotations({**document, "images": images, "annotations": annotations}), copies


@pytest.mark.parametrize("extended", [False, True])
def test_weights_are_copies(random_set: RandomSet, extended: bool) -> None:
    document, results = random_set(21, images=8, levels=(0, 1, 2, 3))
    rng = np.random.default_rng(0)
    for result in results:
        result["score"] = float(rng.random())  # without ties, whose order copying changes
    annotations = parse_annotations(document)
    weights = image_weights(8, samples=6, seed=3)
    sampled = resampled_ap(match_set(annotations, results, rule=OksRule(extended=extended)), weights)
    ids = sorted(annotations.images)
    for row, value in zip(weights, sampled, strict=True):
        again, copies = copied(document, results, dict(zip(ids, row.tolist(), strict=True)))
        name = "Ex-AP" if extended else "AP"
        assert value == pytest.approx(evaluate(again, copies, extended=extended)[name], abs=1e-12)


def test_every_image_once_is_the_metric(random_set: RandomSet) -> None:
    document, results = random_set(22)
    annotations = parse_annotations(document)
    ones = np.ones((1, len(annotations.images)), dtype=np.int64)
    assert resampled_ap(match_set(annotations, results), ones)[0] == pytest.approx(
        evaluate(annotations, results)["AP"], abs=1e-12
    )


def test_same_seed_same_interval_around_the_value(random_set: RandomSet) -> None:
    document, results = random_set(23)
    annotations = parse_annotations(document)
    one, two = (bootstrap(annotations, results, samples=200, seed=1) for _ in range(2))
    assert one == two
    assert one.value == pytest.approx(evaluate(annotations, results)["AP"], abs=1e-12)
    assert one.low < one.value < one.high
    assert one != bootstrap(annotations, results, samples=200, seed=2)


def own_results(annotations: AnnotationSet, shift: float) -> list[dict[str, Any]]:
    results = []
    for person in annotations.persons:
        if person.num_keypoints and not person.iscrowd:
            keypoints = person.keypoints + np.array([shift * math.sqrt(person.area) / 20, 0, 0])
            keypoints[:, 2] = 1
            values = keypoints.reshape(-1).tolist()
            results.append({"image_id": person.image_id, "annotation_id": person.id, "keypoints": values, "score": 1.0})
    return results


def test_mean_oks_interval_has_the_width_of_theory(random_set: RandomSet) -> None:
    """With one person per image the bootstrap of a mean is known: 2 x 1.96 standard errors wide."""
    rng = np.random.default_rng(5)
    annotations = parse_annotations(random_set(24, images=80)[0])
    first = {person.image_id: person for person in labelled_persons(annotations)}
    annotations = dataclasses.replace(
        annotations, persons=tuple(first.values()), images={i: annotations.images[i] for i in first}
    )
    results = own_results(annotations, 0)
    for result in results:
        shifted = np.reshape(result["keypoints"], (17, 3))
        shifted[:, 0] += rng.exponential(10)
        result["keypoints"] = shifted.reshape(-1).tolist()
    values = mean_oks(annotations, results).oks
    interval = bootstrap(annotations, results, metric="mean-OKS", samples=2000)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(len(values)), rel=0.1)


def test_differences_are_paired(random_set: RandomSet) -> None:
    annotations = parse_annotations(random_set(25, images=30)[0])
    good, worse = own_results(annotations, 1.0), own_results(annotations, 1.2)
    same = bootstrap_difference(annotations, good, good, metric="mean-OKS", samples=100)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    loss = bootstrap_difference(annotations, worse, good, metric="mean-OKS", samples=300)
    assert loss.high < 0
    alone = [bootstrap(annotations, results, metric="mean-OKS", samples=300) for results in (good, worse)]
    assert loss.high - loss.low < min(interval.high - interval.low for interval in alone)
    assert bootstrap_difference(annotations, good, worse, metric="AP", samples=50).value > 0


def test_nobody_to_find(document: dict[str, Any]) -> None:
    document["annotations"][0].update(num_keypoints=0)
    annotations = parse_annotations(document)
    interval = bootstrap(annotations, [], samples=10)
    assert interval.value == -1
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_extended_metrics_use_the_rule(random_set: RandomSet) -> None:
    document, results = random_set(26, levels=(1, 2, 3))
    annotations = parse_annotations(copy.deepcopy(document))
    for threshold in (0.2, 0.7):
        interval = bootstrap(annotations, results, metric="Ex-AP", presence_threshold=threshold, samples=20)
        expected = evaluate(annotations, results, extended=True, presence_threshold=threshold)["Ex-AP"]
        assert interval.value == pytest.approx(expected, abs=1e-12)
    own = own_results(annotations, 0.5)
    rule = OksRule(extended=True)
    assert resample(annotations, own, metric="mean-Ex-OKS", rule=OksRule(), samples=5).value == pytest.approx(
        mean_oks(annotations, own, rule=rule).mean
    )


def test_bad_settings_are_named(document: dict[str, Any]) -> None:
    annotations = parse_annotations(document)
    with pytest.raises(InputError, match=r"metric must be one of AP, Ex-AP, mean-OKS, mean-Ex-OKS, got 'PCK'"):
        bootstrap(annotations, [], metric="PCK")
    with pytest.raises(InputError, match=r"at least 2 samples, got 1\. Use for example 1000"):
        bootstrap(annotations, [], samples=1)
