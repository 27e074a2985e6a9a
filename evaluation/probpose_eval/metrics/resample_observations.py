"""Bootstrap over images of what is measured of a model, for intervals and for paired differences.

Images are drawn as in `bootstrap`: the same seed draws the same ones for every metric and every model.
Everything but AP is a function of sums over images, so a sample costs one weighted sum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_eval.annotations.coco import AnnotationSet
from probpose_eval.evaluate import match_set
from probpose_eval.metrics.bootstrap import Resampled, image_weights, resampled_ap
from probpose_eval.metrics.coverage import LEVELS, region_shares
from probpose_eval.metrics.oks import OksRule
from probpose_eval.metrics.presence_reliability import BINS, reliability_bins
from probpose_eval.observations.observe import Observations, map_standing
from probpose_eval.observations.observed_results import results_at
from probpose_eval.observations.observed_truth import ObservedTruth, observed_truth

OBSERVED_METRICS = (
    "AP",
    "Ex-AP",
    "mean-OKS",
    "mean-Ex-OKS",
    "presence-ece",
    "presence-brier",
    "presence-accuracy",
    "presence-balanced-accuracy",
    "visibility-ece",
    "visibility-brier",
    "quality-ece",
    "quality-pearson",
    "coverage-error",
)
"""Metrics that can be resampled, each as in `ModelScores`: those with a dash and a head over all its keypoints."""


def resample_observations(
    annotations: AnnotationSet,
    observations: Observations,
    *,
    rule: OksRule | None = None,
    metrics: Sequence[str] = OBSERVED_METRICS,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Resampled]:
    """Each metric and its values on resampled images; NaN where a sample, or the set, has no cases.

    rule: as `score_observations`. Calibration errors are a little larger on resampled images than on the set, because
    drawing images again adds noise to every bin, so their intervals lie high; paired differences are hardly affected.

    Raises `InputError` for an unknown metric or fewer than 2 samples, `AnnotationError` as `score_observations`.
    """
    unknown = [metric for metric in metrics if metric not in OBSERVED_METRICS]
    if unknown:
        raise InputError(f"The metric must be one of {', '.join(OBSERVED_METRICS)}, got {unknown[0]!r}. Choose those.")
    rule = rule or OksRule()
    facts = observed_truth(annotations, observations, rule)
    count = len(annotations.images)
    weights = image_weights(count, samples=samples, seed=seed)
    every = np.concatenate([np.ones((1, count), dtype=np.int64), weights])
    resampled = {}
    for metric in metrics:
        if metric in ("AP", "Ex-AP"):
            own = dataclasses.replace(rule, extended=metric == "Ex-AP")
            matches = match_set(annotations, results_at(observations, rule.presence_threshold), rule=own)
            values = resampled_ap(matches, every)
        else:
            values = _from_sums(metric, observations, facts, rule, every)
        resampled[metric] = Resampled(value=float(values[0]), samples=values[1:])
    return resampled


def _from_sums(
    metric: str, observations: Observations, facts: ObservedTruth, rule: OksRule, weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(B,) values of a metric, once per row of (B, I) image weights."""
    if metric in ("mean-OKS", "mean-Ex-OKS"):
        persons = facts.person_oks if metric == "mean-OKS" else facts.person_ex_oks
        return _ratio(*_sums(persons[:, None], facts.image_index, weights))
    image_of = np.broadcast_to(facts.image_index[:, None], facts.present.shape)
    if metric == "coverage-error":
        standing = map_standing(observations)
        cases, images = region_shares(standing), image_of[np.isfinite(observations.standing)]
        sums, number = _sums(cases, images, weights)
        shares = np.full(sums.shape, np.nan)
        np.divide(sums, number[:, None], out=shares, where=number[:, None] > 0)
        return np.asarray(np.abs(shares - LEVELS).mean(axis=1))
    head, _, figure = metric.partition("-")
    known = (facts.present | facts.absent) if head == "presence" else facts.present
    answers = {"presence": facts.present, "visibility": facts.visible, "quality": facts.oks}[head][known]
    said: NDArray[np.float64] = getattr(observations, head)[known]
    truth, images = answers.astype(np.float64), image_of[known]
    if figure == "ece":
        gaps = np.zeros((len(said), BINS))
        gaps[np.arange(len(said)), reliability_bins(said)] = said - truth
        sums, number = _sums(gaps, images, weights)
        return _ratio(np.abs(sums).sum(axis=1, keepdims=True), number)
    if figure == "pearson":
        return _pearson(said, truth, images, weights)
    right = (said >= rule.presence_threshold) == (truth > 0.5)
    if figure == "balanced-accuracy":
        found, refused = (_ratio(*_sums(right[of, None], images[of], weights)) for of in (truth > 0.5, truth < 0.5))
        return np.asarray((found + refused) / 2)
    cases = right if figure == "accuracy" else (said - truth) ** 2
    return _ratio(*_sums(cases[:, None], images, weights))


def _sums(
    cases: NDArray[np.float64] | NDArray[np.bool_], images: NDArray[np.intp], weights: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(B, S) sums over the drawn images of the (M, S) cases, and the (B,) number of cases drawn."""
    count = weights.shape[1]
    per_image = np.stack(
        [np.bincount(images, weights=column, minlength=count) for column in cases.T.astype(np.float64)], axis=1
    )
    drawn = weights.astype(np.float64)
    return drawn @ per_image, drawn @ np.bincount(images, minlength=count).astype(np.float64)


def _ratio(sums: NDArray[np.float64], number: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) of (B, 1) sums over (B,) numbers of cases."""
    values = np.full(len(number), np.nan)
    np.divide(sums[:, 0], number, out=values, where=number > 0)
    return values


def _pearson(
    one: NDArray[np.float64], other: NDArray[np.float64], images: NDArray[np.intp], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    # Centered first, or the differences of large sums below would lose digits.
    x, y = (values - values.mean() if values.size else values for values in (one, other))
    sums, number = _sums(np.stack([x, y, x * x, y * y, x * y], axis=1), images, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        mx, my, xx, yy, xy = (sums / number[:, None]).T
        variances = (xx - mx**2) * (yy - my**2)
        return np.where(variances > 1e-24, (xy - mx * my) / np.sqrt(variances), np.nan)
