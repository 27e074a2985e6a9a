"""Calibrate a model: its maps for credible regions, its presence and presence threshold, its quality.

Every figure is also given for held-out pictures: the pictures are split into five parts, and each part is judged with
numbers fitted on the other four. A picture and its cropped version are always in the same part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge import ModelContract
from probpose_edge.exceptions import InputError
from probpose_edge.probabilities.calibrated_maps import LOST_SHARE_KEY, TEMPERATURE_KEY, coverage_numbers
from probpose_edge.probabilities.presence_rates import PRESENCE_RATES_KEY
from probpose_eval.calibration.calibration_samples import CalibrationSamples
from probpose_eval.calibration.fit_coverage import (
    CoverageFit,
    MapSamples,
    fit_coverage,
    softmax_standing,
    softmax_standings,
    sparsemax_standing,
)
from probpose_eval.calibration.fit_logit import LogitFit, fit_logit
from probpose_eval.calibration.measure_presence_rates import measure_presence_rates
from probpose_eval.calibration.picture_hashes import PICTURE_HASHES_KEY
from probpose_eval.calibration.quality_samples import QualitySamples
from probpose_eval.metrics.confidence_scores import confidence_scores
from probpose_eval.metrics.coverage import Standing, coverage, coverage_error
from probpose_eval.metrics.model_scores import ConfidenceScores
from probpose_eval.metrics.presence_reliability import (
    PresenceQuality,
    PresenceSamples,
    best_thresholds,
    presence_quality,
    reliability,
)

THRESHOLDS = ("balanced", "accuracy")
FOLDS = 5
Curve = NDArray[np.float64]
Reliability = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """What calibration found; "before" is what the file said when it came, "held out" see the module.

    Attributes
    ----------
    coverage_fit, presence_fit, quality_fit: the numbers, fitted on all pictures.
    thresholds: the best presence thresholds by kind, see `best_thresholds`, and the one that was "given", if one was;
        `chosen` is the kind that is stored.
    coverage_before, coverage_fitted, coverage_held_out: (19,) shares, see `probpose_eval.metrics.coverage.coverage`.
    presence_before: at the file's threshold. presence_fitted, presence_held_out: by kind of threshold.
    reliability_before, reliability_held_out: see `probpose_eval.metrics.presence_reliability.reliability`.
    quality_before, quality_fitted, quality_held_out: how the expected OKS foretells the true one.
    presence_rates: both rates of error of the held-out presence by threshold, see `measure_presence_rates`.
    persons, pictures, map_keypoints, present, absent: what it was fitted on.
    """

    coverage_fit: CoverageFit
    presence_fit: LogitFit
    quality_fit: LogitFit
    thresholds: dict[str, float]
    chosen: str
    coverage_before: Curve
    coverage_fitted: Curve
    coverage_held_out: Curve
    presence_before: PresenceQuality
    presence_fitted: dict[str, PresenceQuality]
    presence_held_out: dict[str, PresenceQuality]
    reliability_before: Reliability
    reliability_held_out: Reliability
    quality_before: ConfidenceScores
    quality_fitted: ConfidenceScores
    quality_held_out: ConfidenceScores
    presence_rates: str
    persons: int
    pictures: int
    map_keypoints: int
    present: int
    absent: int

    def contract(self, before: ModelContract, record: dict[str, float | str]) -> ModelContract:
        """The contract with the fitted numbers and, in ``calibration``, these and `record` (data, hashes)."""
        after, held_out = self.presence_fitted[self.chosen], self.presence_held_out[self.chosen]
        was = self.presence_before
        lasting = ("int8_", "scores_") if before.confidence_head else ("int8_",)
        calibration: dict[str, float | str] = {
            TEMPERATURE_KEY: self.coverage_fit.temperature,
            LOST_SHARE_KEY: self.coverage_fit.lost_share,
            "coverage_error_before": _rounded(coverage_error(self.coverage_before)),
            "coverage_error": _rounded(coverage_error(self.coverage_fitted)),
            "coverage_error_held_out": _rounded(coverage_error(self.coverage_held_out)),
            "presence_threshold_kind": self.chosen,
            **{f"presence_threshold_{kind}": value for kind, value in self.thresholds.items()},
            **{
                f"presence_{name}{when}": _rounded(getattr(quality, name))
                for when, quality in (("_before", was), ("", after), ("_held_out", held_out))
                for name in ("ece", "brier", "auroc", "accuracy", "balanced_accuracy", "present_found", "absent_found")
            },
            **{
                f"quality_{name}{when}": _rounded(getattr(scores, name))
                for when, scores in (
                    ("_before", self.quality_before),
                    ("", self.quality_fitted),
                    ("_held_out", self.quality_held_out),
                )
                for name in ("ece", "squared_error", "pearson")
            },
            PRESENCE_RATES_KEY: self.presence_rates,
            "persons": self.persons,
            "pictures": self.pictures,
            "map_keypoints": self.map_keypoints,
            "presence_keypoints_present": self.present,
            "presence_keypoints_absent": self.absent,
            **record,
            # What the file's int8 ranges were taken from stays true, and what a head in its network was fitted on.
            **{name: value for name, value in before.calibration.items() if name.startswith(lasting)},
        }
        if before.confidence_head and PICTURE_HASHES_KEY in before.calibration:
            hashes = f"{before.calibration[PICTURE_HASHES_KEY]} {calibration.get(PICTURE_HASHES_KEY, '')}".split()
            calibration[PICTURE_HASHES_KEY] = " ".join(sorted(set(hashes)))
        # Learned scores read the numbers that change here; the closed form has none of its own, the head in the network
        # reads its features.
        scores = {} if before.scores.get("kind") == "learned" else before.scores
        return before.replace(
            presence_scale=self.presence_fit.scale,
            presence_bias=self.presence_fit.bias,
            presence_threshold=self.thresholds[self.chosen],
            quality_scale=self.quality_fit.scale,
            quality_bias=self.quality_fit.bias,
            calibration=calibration,
            scores=scores,
        )


def calibrate(
    contract: ModelContract,
    samples: CalibrationSamples,
    *,
    threshold: str | float = "balanced",
    with_quality: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Fit maps, presence, threshold and quality of one model on what `collect_samples` gave for it.

    threshold: which of `THRESHOLDS` is stored: the best for as many absent as present keypoints, or for the set as it
    is; or a number between 0 and 1, which is stored as it is. with_quality: False leaves the quality of the file as it
    is: on pictures that the network was trained on, its true OKS is better than elsewhere. progress: called with
    (steps done, steps in all).

    Raises `InputError` for another kind of threshold, for fewer than two pictures, and for samples in which no
    keypoint, or every one, is absent.
    """
    presence, quality = samples.presence, samples.quality
    given = check_threshold(threshold)
    present = int(presence.present.sum())
    if not present or present == len(presence) or not len(samples.maps):
        raise InputError(
            f"Calibrating presence needs keypoints inside and outside the activation window, but of {len(presence)} "
            f"{present} are inside. Give a larger set; its cropped version brings absent keypoints."
        )
    folds = _folds(samples.pictures, presence.pictures)
    standings = softmax_standings(samples.maps, progress=progress)
    coverage_fit = fit_coverage(standings)
    keypoints = len(contract.keypoint_names)
    presence_fit = _fit_presence(presence, keypoints)
    quality_was = LogitFit(scale=contract.quality_scale, bias=contract.quality_bias)
    before_quality = confidence_scores(quality_was.apply(quality.said, quality.keypoint), quality.oks)
    quality_fit = fit_logit(quality.said, quality.oks, quality.keypoint, keypoints) if with_quality else quality_was
    fitted = presence_fit.apply(presence.probability, presence.keypoint)
    thresholds = {**best_thresholds(fitted, presence.present), **given}
    before = LogitFit(scale=contract.presence_scale, bias=contract.presence_bias).apply(
        presence.probability, presence.keypoint
    )
    held_out, answers = _presence_held_out(presence, folds, keypoints, given)
    return Calibration(
        coverage_fit=coverage_fit,
        presence_fit=presence_fit,
        quality_fit=quality_fit,
        thresholds=thresholds,
        chosen="given" if given else str(threshold),
        coverage_before=coverage(_standing_before(contract, samples.maps)),
        coverage_fitted=coverage(standings[coverage_fit.temperature].spread(coverage_fit.lost_share)),
        coverage_held_out=_coverage_held_out(samples.maps, standings, folds),
        presence_before=presence_quality(
            before, presence.present, before >= contract.presence_threshold, contract.presence_threshold
        ),
        presence_fitted={
            kind: presence_quality(fitted, presence.present, fitted >= value, value)
            for kind, value in thresholds.items()
        },
        presence_held_out={
            kind: presence_quality(held_out, presence.present, answers[kind], thresholds[kind]) for kind in thresholds
        },
        reliability_before=reliability(before, presence.present),
        reliability_held_out=reliability(held_out, presence.present),
        quality_before=before_quality,
        quality_fitted=confidence_scores(quality_fit.apply(quality.said, quality.keypoint), quality.oks),
        quality_held_out=confidence_scores(_quality_held_out(quality, folds, keypoints), quality.oks)
        if with_quality
        else before_quality,
        presence_rates=measure_presence_rates(held_out, presence.present),
        persons=samples.persons,
        pictures=samples.pictures,
        map_keypoints=len(samples.maps),
        present=present,
        absent=len(presence) - present,
    )


def check_threshold(threshold: str | float) -> dict[str, float]:
    """``{"given": value}`` for a number, nothing for one of `THRESHOLDS`; raises `InputError` for anything else."""
    if threshold in THRESHOLDS:
        return {}
    try:
        value = float(threshold)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise InputError(
            f"The threshold must be one of {', '.join(THRESHOLDS)}, or a number between 0 and 1, got {threshold!r}."
        )
    return {"given": value}


def _standing_before(contract: ModelContract, maps: MapSamples) -> Standing:
    if TEMPERATURE_KEY not in contract.calibration:
        return sparsemax_standing(maps, contract.temperature)
    temperature, lost_share = coverage_numbers(contract)
    return softmax_standing(maps, temperature).spread(lost_share)


def _folds(count: int, pictures: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The picture ids in `FOLDS` parts, drawn alike in every run."""
    if count < 2:
        raise InputError(
            f"Calibration judges itself on held-out pictures and needs at least 2, got {count}. Give a larger set."
        )
    shuffled = np.random.default_rng(0).permutation(np.unique(pictures))
    return [np.asarray(part) for part in np.array_split(shuffled, min(FOLDS, len(shuffled)))]


def _coverage_held_out(maps: MapSamples, standings: dict[float, Standing], folds: list[NDArray[np.int64]]) -> Curve:
    shares = np.zeros(19)
    for fold in folds:
        held = np.isin(maps.pictures, fold)
        if held.any() and not held.all():
            fit = fit_coverage(standings, ~held)
            shares += held.mean() * coverage(standings[fit.temperature].select(held).spread(fit.lost_share))
    return shares


def _presence_held_out(
    presence: PresenceSamples, folds: list[NDArray[np.int64]], keypoints: int, given: dict[str, float]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.bool_]]]:
    """Probabilities, and answers by kind of threshold, of every sample from a fit without its picture."""
    probability = np.zeros(len(presence))
    answers = {kind: np.zeros(len(presence), dtype=np.bool_) for kind in (*THRESHOLDS, *given)}
    for fold in folds:
        held = np.isin(presence.pictures, fold)
        others = presence.select(~held)
        fit = _fit_presence(others, keypoints)
        thresholds = {**best_thresholds(fit.apply(others.probability, others.keypoint), others.present), **given}
        probability[held] = fit.apply(presence.probability[held], presence.keypoint[held])
        for kind, answer in answers.items():
            answer[held] = probability[held] >= thresholds[kind]
    return probability, answers


def _fit_presence(samples: PresenceSamples, keypoints: int) -> LogitFit:
    return fit_logit(samples.probability, samples.present, samples.keypoint, keypoints)


def _quality_held_out(quality: QualitySamples, folds: list[NDArray[np.int64]], keypoints: int) -> NDArray[np.float64]:
    """Calibrated quality of every sample from a fit without its picture."""
    said = np.zeros(len(quality))
    for fold in folds:
        held = np.isin(quality.pictures, fold)
        others = quality.select(~held)
        fit = fit_logit(others.said, others.oks, others.keypoint, keypoints)
        said[held] = fit.apply(quality.said[held], quality.keypoint[held])
    return said


def _rounded(value: float | None) -> float | str:
    return "undefined" if value is None or not np.isfinite(value) else round(value, 5)
