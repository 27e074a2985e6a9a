"""Everything about every file on one set: scores, thresholds, intervals, and drift from the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from probpose_edge import PoseEstimator
from probpose_eval.annotations.coco import AnnotationSet
from probpose_eval.evaluate import UNDEFINED, average_precision, match_set
from probpose_eval.evaluation_set import EvaluationSet
from probpose_eval.metrics.best_threshold import THRESHOLDS, best_threshold
from probpose_eval.metrics.bootstrap import Resampled
from probpose_eval.metrics.oks import OksRule
from probpose_eval.metrics.resample_observations import resample_observations
from probpose_eval.metrics.score_observations import score_observations
from probpose_eval.observations.drift import measure_drift
from probpose_eval.observations.observe import MapDrift, Observations, observe_set
from probpose_eval.observations.observed_results import results_at
from probpose_eval.report.report import INTERVALS, SetScores, ThresholdScore

Stage = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredFiles:
    """Scores of every file on one set, and what they were made from."""

    scores: tuple[SetScores, ...]
    observations: tuple[Observations, ...]


def score_files(
    estimators: Sequence[PoseEstimator],
    data: EvaluationSet,
    *,
    reference: int,
    elsewhere: Mapping[int, tuple[Observations, MapDrift | None]],
    rule: OksRule,
    samples: int,
    seed: int,
    batch: int,
    tell: Stage,
) -> ScoredFiles:
    """Scores of every estimator on a set.

    reference: the index of the reference. elsewhere: index → what another machine observed; these are not run here.
    rule: with the frozen threshold.
    """
    here = [index for index in range(len(estimators)) if index not in elsewhere]
    observed_here = observe_set(
        [estimators[index] for index in here],
        data.annotations,
        data.images_dir,
        reference=here.index(reference),
        batch=batch,
        progress=lambda done, total: tell("predicting", done, total),
    )
    by_index = {**dict(zip(here, observed_here, strict=True)), **elsewhere}
    observed = [by_index[index] for index in range(len(estimators))]
    base = observed[reference][0]
    scored: list[tuple[SetScores, dict[str, Resampled]]] = []
    for index, (observations, maps) in enumerate(observed):
        tell("scoring", index, len(observed))
        resampled = resample_observations(
            data.annotations, observations, rule=rule, metrics=INTERVALS, samples=samples, seed=seed
        )
        scores = SetScores(
            scores=score_observations(data.annotations, observations, rule=rule, subset_curves=False),
            own=_ex_ap_at(observations.presence_threshold, data.annotations, observations, rule),
            retuned=_retuned(data.annotations, observations, rule),
            intervals={name: each.interval() for name, each in resampled.items()},
            differences={},
            drift=None if index == reference else measure_drift(data.annotations, base, observations, maps),
        )
        scored.append((scores, resampled))
    tell("scoring", len(observed), len(observed))
    of_reference = scored[reference][1]
    compared = [
        scores
        if index == reference
        else dataclasses.replace(
            scores, differences={name: each.minus(of_reference[name]) for name, each in resampled.items()}
        )
        for index, (scores, resampled) in enumerate(scored)
    ]
    return ScoredFiles(scores=tuple(compared), observations=tuple(each for each, _ in observed))


def _retuned(annotations: AnnotationSet, observations: Observations, rule: OksRule) -> ThresholdScore:
    thresholds = {*THRESHOLDS, rule.presence_threshold, observations.presence_threshold}
    best = best_threshold(annotations, partial(results_at, observations), rule=rule, thresholds=sorted(thresholds))
    return _ex_ap_at(best, annotations, observations, rule)


def _ex_ap_at(
    threshold: float, annotations: AnnotationSet, observations: Observations, rule: OksRule
) -> ThresholdScore:
    own = dataclasses.replace(rule, extended=True, presence_threshold=threshold)
    value = average_precision(match_set(annotations, results_at(observations, threshold), rule=own))
    return ThresholdScore(threshold=threshold, ex_ap=None if value == UNDEFINED else value)
