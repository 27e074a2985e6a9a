"""Presence: figures against their definitions. A fit that repairs distorted probabilities, of answers and of shares."""

from __future__ import annotations

import numpy as np
import pytest

from probpose_eval.calibration.fit_logit import LogitFit, fit_logit
from probpose_eval.metrics.presence_reliability import (
    PresenceSamples,
    auroc,
    best_thresholds,
    presence_quality,
    reliability,
)


def test_figures_equal_their_definitions() -> None:
    p = np.array([0.1, 0.4, 0.4, 0.8, 0.9])
    present = np.array([False, True, False, True, True])
    quality = presence_quality(p, present, p >= 0.5, 0.5)
    assert quality.brier == pytest.approx((0.01 + 0.36 + 0.16 + 0.04 + 0.01) / 5)
    assert quality.accuracy == pytest.approx(4 / 5)
    assert (quality.present_found, quality.absent_found) == pytest.approx((2 / 3, 1))
    assert quality.balanced_accuracy == pytest.approx(5 / 6)
    # Of six pairs five are in order and one is a tie.
    assert auroc(p, present) == quality.auroc == pytest.approx(5.5 / 6)
    # Bins: 0.1 | 0.4, 0.4 | 0.8 | 0.9.
    assert quality.ece == pytest.approx((0.1 + 2 * 0.1 + 0.2 + 0.1) / 5)
    said, true, count = reliability(p, present)
    assert count.sum() == 5
    assert true[count == 2].tolist() == [0.5]
    assert said[count == 2] == pytest.approx([0.4])
    assert np.isnan(presence_quality(p[present], present[present], p[present] > 0, 0.5).auroc)


def test_thresholds_are_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    present = rng.random(500) < 0.9
    p = np.clip(np.where(present, rng.normal(0.7, 0.2, 500), rng.normal(0.4, 0.2, 500)), 0, 1)
    found = best_thresholds(p, present)
    every = [presence_quality(p, present, p >= t, t) for t in np.linspace(0, 1, 2001)]
    chosen = {kind: presence_quality(p, present, p >= t, t) for kind, t in found.items()}
    assert chosen["balanced"].balanced_accuracy >= max(q.balanced_accuracy for q in every) - 1e-9
    assert chosen["accuracy"].accuracy >= max(q.accuracy for q in every) - 1e-9
    assert chosen["balanced"].absent_found > chosen["accuracy"].absent_found


def distorted(seed: int, n: int = 6000) -> tuple[PresenceSamples, np.ndarray]:
    """Samples of four keypoints whose logits are twice too large and shifted; keypoint 3 is rare."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(2, 2, n)
    present = rng.random(n) < 1 / (1 + np.exp(-logit))
    samples = PresenceSamples(
        probability=1 / (1 + np.exp(-(2 * logit + 1))),
        present=present,
        keypoint=np.where(rng.random(n) < 0.002, 3, rng.integers(0, 3, n)),
        pictures=np.arange(n) // 20,
    )
    return samples, logit


def fit_samples(samples: PresenceSamples, keypoints: int) -> LogitFit:
    return fit_logit(samples.probability, samples.present, samples.keypoint, keypoints)


def test_the_fit_undoes_a_distortion() -> None:
    samples, _ = distorted(0)
    fit = fit_samples(samples, 4)
    assert fit.scale == pytest.approx((0.5,) * 4, abs=0.06)
    assert fit.bias == pytest.approx((-0.5,) * 4, abs=0.15)
    fresh, logit = distorted(1)
    assert fit.apply(fresh.probability, fresh.keypoint) == pytest.approx(1 / (1 + np.exp(-logit)), abs=0.05)
    before = presence_quality(fresh.probability, fresh.present, fresh.present, 0.5)
    after = presence_quality(fit.apply(fresh.probability, fresh.keypoint), fresh.present, fresh.present, 0.5)
    assert after.ece < 0.02 < before.ece
    assert after.brier < before.brier


def test_a_keypoint_without_samples_has_the_common_numbers() -> None:
    samples, _ = distorted(0)
    fit = fit_samples(samples, 6)
    assert fit.scale[4] == fit.scale[5]
    assert fit.scale[4] == pytest.approx(np.mean(fit.scale[:3]), abs=0.03)


def test_certain_answers_do_not_break_the_fit() -> None:
    present = np.array([True] * 40 + [False] * 3)
    samples = PresenceSamples(
        probability=present.astype(np.float64),
        present=present,
        keypoint=np.zeros(43, dtype=np.intp),
        pictures=np.arange(43),
    )
    fit = fit_samples(samples, 1)
    assert np.isfinite([*fit.scale, *fit.bias]).all()
    assert ((fit.apply(samples.probability, samples.keypoint) > 0.5) == present).all()


def test_shares_are_soft_labels() -> None:
    rng = np.random.default_rng(0)
    keypoint = rng.integers(0, 2, 4000)
    logit = rng.normal(0, 2, 4000)
    expected = 1 / (1 + np.exp(-logit))
    share = np.clip(expected + rng.normal(0, 0.02, 4000), 0, 1)
    said = 1 / (1 + np.exp(-(logit - np.where(keypoint == 0, 1.5, -0.5)) / 2))
    fit = fit_logit(said, share, keypoint, 2)
    assert fit.scale == pytest.approx((2, 2), abs=0.2)
    assert fit.bias == pytest.approx((1.5, -0.5), abs=0.2)
    assert fit.apply(said, keypoint) == pytest.approx(expected, abs=0.05)
