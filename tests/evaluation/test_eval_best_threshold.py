"""The presence threshold with the largest Ex-AP."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from probpose_edge.exceptions import InputError
from probpose_eval import OksRule, evaluate, parse_annotations
from probpose_eval.metrics.best_threshold import THRESHOLDS, best_threshold
from probpose_eval.observations.observe import Observations, results_of
from probpose_eval.observations.observed_results import results_at, scores_at

RandomSet = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]
Observe = Callable[..., Observations]


def test_it_has_the_largest_ex_ap(random_set: RandomSet, random_observations: Observe) -> None:
    annotations = parse_annotations(random_set(71, images=20, levels=(1, 2, 3))[0])
    observations = random_observations(annotations)
    values = {}
    for threshold in THRESHOLDS:
        said = dataclasses.replace(observations, scores=scores_at(observations, threshold))
        values[threshold] = evaluate(
            annotations, results_of(said), extended=True, presence_threshold=threshold, definition="exococotools"
        )["Ex-AP"]
    rule = OksRule(definition="exococotools")
    found = best_threshold(annotations, partial(results_at, observations), rule=rule)
    assert values[found] == max(values.values()) > min(values.values())


def test_the_middle_of_equals(document: dict[str, Any], random_observations: Observe) -> None:
    document["annotations"][0]["keypoints"][:3] = [0, 0, 3]
    annotations = parse_annotations(document)
    truth = annotations.persons[0].keypoints
    presence = np.where(truth[None, :, 2] == 3, 0.32, 0.81)
    observations = dataclasses.replace(
        random_observations(annotations), keypoints=truth[None, :, :2], presence=presence
    )
    find = partial(best_threshold, annotations, partial(results_at, observations))
    assert find() == 0.6  # 0.35 to 0.8 separate them
    assert find(thresholds=[0.9, 0.5, 0.1]) == 0.5
    with pytest.raises(InputError, match=r"needs thresholds to choose from, got none\. Leave them out"):
        find(thresholds=[])
