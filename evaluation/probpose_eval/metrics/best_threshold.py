"""The presence threshold that serves Ex-AP best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from probpose_edge.exceptions import InputError
from probpose_eval.annotations.coco import AnnotationSet
from probpose_eval.evaluate import average_precision, match_set
from probpose_eval.metrics.oks import OksRule
from probpose_eval.results import Result, ResultArrays

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""0.05, 0.1 … 0.95."""


def best_threshold(
    annotations: AnnotationSet,
    results_at: Callable[[float], ResultArrays | Sequence[Result]],
    *,
    rule: OksRule | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> float:
    """The presence threshold with the largest Ex-AP on this set; the middle one of equals.

    A threshold chosen on the set it is judged on is optimistic: say so beside its Ex-AP. results_at: the results at a
    threshold, for scores depend on it (see `probpose_eval.results_at`). rule: its threshold is not
    used. thresholds: add the one that is compared with, so that the best is never below it.

    Raises `InputError` without thresholds, `AnnotationError` for bad results.
    """
    if not thresholds:
        raise InputError("A best threshold needs thresholds to choose from, got none. Leave them out for a usual grid.")
    rising = sorted(set(thresholds))
    values = []
    for threshold in rising:
        own = dataclasses.replace(rule or OksRule(), extended=True, presence_threshold=threshold)
        values.append(average_precision(match_set(annotations, results_at(threshold), rule=own)))
    best = [threshold for threshold, value in zip(rising, values, strict=True) if value >= max(values) - 1e-9]
    return best[len(best) // 2]
