"""Bootstrap confidence intervals over images, for metrics and for the difference between two result sets.

Images are drawn with replacement (Efron 1979), as many as the set has; the matches of each image are made once and
only counted again. The same seed draws the same images, so differences between two result sets are paired.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_eval.annotations.coco import AnnotationSet
from probpose_eval.evaluate import InstanceOks, average_precision, match_set, mean_oks
from probpose_eval.metrics.average_precision import OKS_THRESHOLDS, RECALL_POINTS, Matches
from probpose_eval.metrics.oks import OksRule
from probpose_eval.results import Result

METRICS = ("AP", "Ex-AP", "mean-OKS", "mean-Ex-OKS")
_VALUES_AT_ONCE = 4_000_000
"""Bounds the memory of resampled curves."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value and the range that holds it with a probability of `level`."""

    value: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """A metric and its B values on resampled images."""

    value: float
    samples: NDArray[np.float64]

    def interval(self, level: float = 0.95) -> Interval:
        """Percentile interval; NaN without a single defined sample."""
        return _interval(self.value, self.samples, level)

    def minus(self, other: Resampled, level: float = 0.95) -> Interval:
        """Interval of the difference to another result set resampled with the same seed."""
        return _interval(self.value - other.value, self.samples - other.samples, level)


def bootstrap(
    annotations: AnnotationSet,
    results: Sequence[Result],
    *,
    metric: str = "AP",
    definition: str = "paper",
    presence_threshold: float = 0.5,
    padding: float = 1.25,
    input_wh: tuple[int, int] = (192, 256),
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """95 % interval of a metric of `METRICS`; settings as `evaluate`.

    Raises `InputError` for an unknown metric or fewer than 2 samples, `AnnotationError` as `evaluate` and `mean_oks`.
    """
    rule = _rule(metric, definition, presence_threshold, padding, input_wh)
    return resample(annotations, results, metric=metric, rule=rule, samples=samples, seed=seed).interval()


def bootstrap_difference(
    annotations: AnnotationSet,
    results: Sequence[Result],
    baseline_results: Sequence[Result],
    *,
    metric: str = "AP",
    definition: str = "paper",
    presence_threshold: float = 0.5,
    padding: float = 1.25,
    input_wh: tuple[int, int] = (192, 256),
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Paired 95 % interval of (metric of `results` - metric of `baseline_results`); otherwise as `bootstrap`."""
    rule = _rule(metric, definition, presence_threshold, padding, input_wh)
    ours = resample(annotations, results, metric=metric, rule=rule, samples=samples, seed=seed)
    return ours.minus(resample(annotations, baseline_results, metric=metric, rule=rule, samples=samples, seed=seed))


def resample(
    annotations: AnnotationSet,
    results: Sequence[Result],
    *,
    metric: str,
    rule: OksRule,
    samples: int = 1000,
    seed: int = 0,
) -> Resampled:
    """A metric and its values on resampled images, for intervals and paired differences; it sets `rule.extended`."""
    _check_metric(metric)
    weights = image_weights(len(annotations.images), samples=samples, seed=seed)
    rule = dataclasses.replace(rule, extended="Ex-" in metric)
    if metric in ("AP", "Ex-AP"):
        matches = match_set(annotations, results, rule=rule)
        return Resampled(value=average_precision(matches), samples=resampled_ap(matches, weights))
    persons = mean_oks(annotations, results, rule=rule)
    image_ids = np.array(sorted(annotations.images), dtype=np.int64)
    return Resampled(value=persons.mean, samples=_resampled_mean(persons, image_ids, weights))


def image_weights(image_count: int, *, samples: int, seed: int) -> NDArray[np.int64]:
    """(B, I) how often each image is drawn in each of B samples."""
    if samples < 2:
        raise InputError(f"A bootstrap needs at least 2 samples, got {samples}. Use for example 1000.")
    rng = np.random.default_rng(seed)
    return rng.multinomial(image_count, np.full(image_count, 1 / max(image_count, 1)), size=samples)


def resampled_ap(matches: Matches, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """(B,) AP of the first column of matches, once per row of (B, I) image weights; NaN where nobody is to be found.

    Precision only matters where a person is found: elsewhere its envelope is that of the next find.
    """
    positives = weights @ matches.positives[0]
    total = np.zeros(len(weights))
    at_once = max(1, _VALUES_AT_ONCE // max(len(matches.image_index), 1))
    for start in range(0, len(weights), at_once):
        rows = slice(start, start + at_once)
        drawn = weights[rows].astype(np.int32)[:, matches.image_index]  # (B, N)
        for matched, ignored in zip(matches.matched[0], matches.ignored[0], strict=True):
            finds = np.flatnonzero(matched & ~ignored)
            if finds.size == 0:
                continue
            seen = np.cumsum(drawn * ~ignored, axis=1, dtype=np.int32)[:, finds]
            found = np.cumsum(drawn[:, finds], axis=1, dtype=np.int32)
            precision = found / (seen + np.spacing(1))
            envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            recall = found / np.maximum(positives[rows], 1)[:, None]
            for index, (reached, best) in enumerate(zip(recall, envelope, strict=True), start=start):
                at = np.searchsorted(reached, RECALL_POINTS, side="left")
                total[index] += best[at[at < finds.size]].sum()
    ap = total / (len(OKS_THRESHOLDS) * len(RECALL_POINTS))
    return np.where(positives > 0, ap, np.nan)


def _resampled_mean(
    persons: InstanceOks, image_ids: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    where = np.searchsorted(image_ids, persons.image_ids)
    sums = np.bincount(where, weights=persons.oks, minlength=len(image_ids))
    counts = weights @ np.bincount(where, minlength=len(image_ids))
    means = np.full(len(weights), np.nan)
    np.divide(weights @ sums, counts, out=means, where=counts > 0)
    return means


def _interval(value: float, samples: NDArray[np.float64], level: float) -> Interval:
    if not 0 < level < 1:
        raise InputError(f"The level of an interval must lie between 0 and 1, got {level}. Use for example 0.95.")
    defined = samples[np.isfinite(samples)]
    if defined.size == 0:
        return Interval(value=value, low=float("nan"), high=float("nan"), level=level)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), level=level)


def _rule(
    metric: str, definition: str, presence_threshold: float, padding: float, input_wh: tuple[int, int]
) -> OksRule:
    _check_metric(metric)
    return OksRule(
        extended="Ex-" in metric,
        definition=definition,
        presence_threshold=presence_threshold,
        padding=padding,
        input_wh=input_wh,
    )


def _check_metric(metric: str) -> None:
    if metric not in METRICS:
        raise InputError(f"The metric must be one of {', '.join(METRICS)}, got {metric!r}. Choose one of them.")
