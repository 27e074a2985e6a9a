"""Measure one model on one set from what it was observed to say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probpose_eval.annotations.coco import AnnotationSet, labelled_persons
from probpose_eval.evaluate import UNDEFINED, WHOLE, Way, named_metrics
from probpose_eval.metrics.binary_scores import binary_scores, defined
from probpose_eval.metrics.confidence_scores import confidence_scores
from probpose_eval.metrics.coverage import LEVELS, coverage, coverage_error
from probpose_eval.metrics.domain_areas import AREAS
from probpose_eval.metrics.model_scores import CoverageScores, ModelScores, PrecisionScores, SubsetScores
from probpose_eval.metrics.oks import OksRule
from probpose_eval.metrics.pck import pck, pck_lengths
from probpose_eval.metrics.precision_scores import precision_scores, score_gaps
from probpose_eval.observations.observe import Observations, map_standing
from probpose_eval.observations.observed_results import results_at
from probpose_eval.observations.observed_truth import ObservedTruth, observed_truth

VISIBILITY_THRESHOLD = 0.5


def score_observations(
    annotations: AnnotationSet,
    observations: Observations,
    *,
    rule: OksRule | None = None,
    subset_curves: bool = True,
) -> ModelScores:
    """All metrics of one model on one set.

    rule: definition and window of Ex-OKS, and the presence threshold at which everything that depends on one holds,
    instance scores included; ``rule.extended`` has no effect. subset_curves: with the reliability curves of every
    keypoint and area, beside those of the whole, which are always there.

    Raises `AnnotationError` if the observations are not of the labelled persons of this set, in its order.
    """
    rule = rule or OksRule()
    facts = observed_truth(annotations, observations, rule)
    results = results_at(observations, rule.presence_threshold)
    names = annotations.keypoint_names
    masks = {
        WHOLE: np.ones(facts.areas.shape, dtype=np.bool_),
        **{Way(only_keypoint=k): _column(facts.areas.shape, k) for k in range(len(names))},
        **{Way(only_domain=area): facts.areas == area for area in AREAS},
    }
    pck_rule, lengths = pck_lengths(annotations, labelled_persons(annotations))
    distances = np.linalg.norm(observations.keypoints - facts.truth.keypoints[..., :2], axis=2) / lengths[:, None]
    distances[~facts.placed] = np.nan
    subset = _Subsets(
        observations=observations,
        facts=facts,
        threshold=rule.presence_threshold,
        distances=distances,
        pck_thresholds=pck_rule.thresholds,
    )
    precisions = precision_scores(annotations, results, rule, list(masks))
    whole, *others = (
        subset.scores(mask, precision, curves=subset_curves or way == WHOLE)
        for (way, mask), precision in zip(masks.items(), precisions, strict=True)
    )
    person_oks, person_ex_oks = facts.person_oks, facts.person_ex_oks
    gap, ex_gap = score_gaps(annotations, results, rule, person_oks, person_ex_oks)
    return ModelScores(
        persons=len(observations),
        images=len(np.unique(observations.image_ids)),
        presence_threshold=rule.presence_threshold,
        metrics={
            name: None if value == UNDEFINED else value
            for extended in (False, True)
            for name, value in named_metrics(annotations, results, dataclasses.replace(rule, extended=extended)).items()
        },
        mean_oks=_mean(person_oks),
        mean_ex_oks=_mean(person_ex_oks),
        share_above_half=_mean(person_oks > 0.5),
        whole=whole,
        keypoints=dict(zip(names, others[: len(names)], strict=True)),
        areas=dict(zip(AREAS, others[len(names) :], strict=True)),
        instances=confidence_scores(results.scores, person_oks),
        score_gap=gap,
        ex_score_gap=ex_gap,
        pck=pck_rule,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Subsets:
    """What the scores of any subset are made from; distances: (P, K) in lengths of the person, NaN if not placed."""

    observations: Observations
    facts: ObservedTruth
    threshold: float
    distances: NDArray[np.float64]
    pck_thresholds: Sequence[float]

    def scores(self, mask: NDArray[np.bool_], precision: PrecisionScores, *, curves: bool) -> SubsetScores:
        """Over the keypoints of a (P, K) mask."""
        said, facts = self.observations, self.facts
        known, present = mask & (facts.present | facts.absent), mask & facts.present
        return SubsetScores(
            labelled=int((mask & facts.labelled).sum()),
            precision=precision,
            oks=_mean(facts.oks[mask & facts.placed]),
            ex_oks=_mean(facts.ex_oks[mask & facts.labelled]),
            pck=pck(self.distances[mask], self.pck_thresholds),
            presence=binary_scores(said.presence[known], facts.present[known], self.threshold, curve=curves),
            visibility=binary_scores(
                said.visibility[present], facts.visible[present], VISIBILITY_THRESHOLD, curve=curves
            ),
            quality=confidence_scores(said.quality[present], facts.oks[present], curve=curves),
            expected_oks=confidence_scores(said.expected_oks[present], facts.oks[present], curve=curves),
            coverage=_coverage(said, mask),
        )


def _coverage(observations: Observations, mask: NDArray[np.bool_]) -> CoverageScores | None:
    standing = map_standing(observations, mask)
    if not len(standing):
        return None
    shares = coverage(standing)
    return CoverageScores(
        count=len(standing),
        levels=tuple(LEVELS.tolist()),
        shares=tuple(shares.tolist()),
        error=coverage_error(shares),
    )


def _column(shape: tuple[int, ...], k: int) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=np.bool_)
    mask[:, k] = True
    return mask


def _mean(values: NDArray[np.float64 | np.bool_]) -> float | None:
    return defined(float(values.mean())) if values.size else None
