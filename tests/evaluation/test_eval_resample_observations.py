"""Bootstrap of observed metrics: values are the metrics, weights are copies, differences are paired."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probpose_edge.exceptions import InputError
from probpose_eval import AnnotationSet, OksRule, parse_annotations
from probpose_eval.metrics.bootstrap import image_weights, resample
from probpose_eval.metrics.model_scores import ModelScores
from probpose_eval.metrics.resample_observations import OBSERVED_METRICS, resample_observations
from probpose_eval.metrics.score_observations import score_observations
from probpose_eval.observations.observe import Observations, results_of

RandomSet = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]
Observe = Callable[..., Observations]
RULE = OksRule(presence_threshold=0.55)


@pytest.fixture
def observed(random_set: RandomSet, random_observations: Observe) -> tuple[AnnotationSet, Observations]:
    annotations = parse_annotations(random_set(61, images=14, levels=(0, 1, 2, 3))[0])
    return annotations, random_observations(annotations)


def figures(scores: ModelScores) -> dict[str, float | None]:
    """The figures of `OBSERVED_METRICS` in the scores of a model."""
    whole = scores.whole
    return {
        "AP": whole.precision.ap,
        "Ex-AP": whole.precision.ex_ap,
        "mean-OKS": scores.mean_oks,
        "mean-Ex-OKS": scores.mean_ex_oks,
        "presence-ece": whole.presence.ece,
        "presence-brier": whole.presence.brier,
        "presence-accuracy": whole.presence.accuracy,
        "presence-balanced-accuracy": whole.presence.balanced_accuracy,
        "visibility-ece": whole.visibility.ece,
        "visibility-brier": whole.visibility.brier,
        "quality-ece": whole.quality.ece,
        "quality-pearson": whole.quality.pearson,
        "coverage-error": None if whole.coverage is None else whole.coverage.error,
    }


def copied(
    annotations: AnnotationSet, said: Observations, weights: dict[int, int]
) -> tuple[AnnotationSet, Observations]:
    """The set, and what was said of it, in which every image occurs as often as its weight says."""
    images, persons, rows = {}, [], []
    row_of = {person_id: row for row, person_id in enumerate(said.annotation_ids.tolist())}
    for person in annotations.persons:
        for turn in range(weights[person.image_id]):
            new = dataclasses.replace(person, id=len(persons) + 1, image_id=1000 * person.image_id + turn)
            images[new.image_id] = dataclasses.replace(annotations.images[person.image_id], id=new.image_id)
            persons.append(new)
            if person.id in row_of:
                rows.append((row_of[person.id], new))
    index = np.array([row for row, _ in rows], dtype=np.intp)
    arrays = {
        field.name: getattr(said, field.name)[index]
        for field in dataclasses.fields(said)
        if isinstance(getattr(said, field.name), np.ndarray)
    }
    arrays["annotation_ids"] = np.array([person.id for _, person in rows], dtype=np.int64)
    arrays["image_ids"] = np.array([person.image_id for _, person in rows], dtype=np.int64)
    again = dataclasses.replace(annotations, images=images, persons=tuple(persons))
    return again, dataclasses.replace(said, **arrays)


def test_values_are_those_of_the_scores(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, observations = observed
    found = resample_observations(annotations, observations, rule=RULE, samples=30)
    expected = figures(score_observations(annotations, observations, rule=RULE))
    assert tuple(found) == OBSERVED_METRICS == tuple(expected)
    assert {name: each.value for name, each in found.items()} == pytest.approx(expected, abs=1e-12)
    for each in found.values():
        interval = each.interval()
        assert interval.low < interval.high
        assert len(each.samples) == 30


def test_weights_are_copies(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, observations = observed
    weights = image_weights(len(annotations.images), samples=4, seed=7)
    found = resample_observations(annotations, observations, rule=RULE, samples=4, seed=7)
    ids = sorted(annotations.images)
    for sample, row in enumerate(weights.tolist()):
        again, said = copied(annotations, observations, dict(zip(ids, row, strict=True)))
        expected = figures(score_observations(again, said, rule=RULE))
        assert {name: each.samples[sample] for name, each in found.items()} == pytest.approx(expected, abs=1e-9)


def test_ap_is_that_of_results(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, observations = observed
    found = resample_observations(annotations, observations, metrics=["Ex-AP", "mean-OKS"], samples=20, seed=3)
    results = results_of(observations, annotations.category_id)
    for metric, each in found.items():
        other = resample(annotations, results, metric=metric, rule=OksRule(), samples=20, seed=3)
        assert each.value == pytest.approx(other.value)
        assert each.samples == pytest.approx(other.samples)


def test_differences_are_paired(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, observations = observed
    surer = dataclasses.replace(observations, presence=np.clip(observations.presence + 0.1, 0, 1))
    metrics = ["presence-ece", "presence-brier"]
    one, other = (
        resample_observations(annotations, each, metrics=metrics, samples=200) for each in (observations, surer)
    )
    for metric in metrics:
        alone = one[metric].interval()
        paired = other[metric].minus(one[metric])
        assert paired.high - paired.low < alone.high - alone.low
        assert one[metric].minus(one[metric]).high == 0


def test_without_cases_there_is_no_number(document: dict[str, Any], random_observations: Observe) -> None:
    annotations = parse_annotations(document)
    observations = random_observations(annotations)
    unknown = np.full_like(observations.standing, np.nan)
    observations = dataclasses.replace(observations, standing=unknown, standing_own=unknown)
    found = resample_observations(
        annotations, observations, metrics=["coverage-error", "presence-balanced-accuracy", "presence-ece"], samples=3
    )
    assert math.isnan(found["coverage-error"].value)
    assert math.isnan(found["coverage-error"].interval().low)
    assert math.isnan(found["presence-balanced-accuracy"].value)
    assert found["presence-ece"].value > 0


def test_unknown_metrics_are_named(observed: tuple[AnnotationSet, Observations]) -> None:
    with pytest.raises(InputError, match=r"must be one of AP, Ex-AP, .*coverage-error, got 'presence-ECE'\. Choose"):
        resample_observations(*observed, metrics=["AP", "presence-ECE"])
    with pytest.raises(InputError, match=r"at least 2 samples, got 1"):
        resample_observations(*observed, samples=1)
