"""Sparsification, correlation and reliability of confidences, against values worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from probpose_eval.metrics.binary_scores import binary_scores
from probpose_eval.metrics.confidence_scores import ause, confidence_scores, pearson, rank_correlation
from probpose_eval.metrics.model_scores import ReliabilityBin


def by_removal(order: list[int], errors: np.ndarray) -> float:
    """Mean over the steps of the mean error of what is left, the first of `order` being taken away first."""
    return float(np.mean([errors[order[step:]].mean() for step in range(len(order))]))


def test_ause_is_the_area_between_two_removals() -> None:
    confidence, errors = np.array([0.9, 0.2, 0.5, 0.4]), np.array([0.3, 0.2, 0.1, 0.8])
    said = by_removal([1, 3, 2, 0], errors)
    best = by_removal([3, 0, 1, 2], errors)
    assert ause(confidence, errors) == pytest.approx(said - best)
    assert said - best == pytest.approx((0.35 + 0.4 + 0.2 + 0.3) / 4 - (0.35 + 0.2 + 0.15 + 0.1) / 4)


def test_a_perfect_order_has_no_error_and_a_reversed_one_the_largest() -> None:
    rng = np.random.default_rng(0)
    errors = rng.random(200)
    assert ause(1 - errors, errors) == pytest.approx(0, abs=1e-12)
    assert ause(-np.argsort(np.argsort(errors)) / 7.0, errors) == pytest.approx(0, abs=1e-12)
    assert ause(errors, errors) > ause(rng.random(200), errors) > 0.1


def test_equal_confidences_count_as_any_order_among_them() -> None:
    confidence, errors = np.array([0.5, 0.5, 0.5, 0.9, 0.1]), np.array([0.6, 0.1, 0.4, 0.3, 0.2])
    orders = [[4, *middle, 3] for middle in itertools.permutations((0, 1, 2))]
    expected = np.mean([by_removal(order, errors) for order in orders]) - by_removal([0, 2, 3, 4, 1], errors)
    assert ause(confidence, errors) == pytest.approx(expected)


def test_correlation() -> None:
    x = np.array([0.1, 0.4, 0.3, 0.9])
    assert pearson(x, 2 * x + 1) == pytest.approx(1)
    assert pearson(x, -x) == pytest.approx(-1)
    assert np.isnan(pearson(x, np.full(4, 0.1)))
    assert np.isnan(pearson(x[:1], x[:1]))


def test_rank_correlation_sees_the_order_alone() -> None:
    x = np.array([0.1, 0.4, 0.2, 0.9])
    assert rank_correlation(x, np.exp(10 * x)) == pytest.approx(1)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1)
    # Two equal values share the rank 2.5: the squares add up to 4.5 and 5, the products to 4.5.
    assert rank_correlation(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4])) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert np.isnan(rank_correlation(x, np.zeros(4)))


def test_confidence_scores() -> None:
    scores = confidence_scores(np.array([0.21, 0.25, 0.99]), np.array([0.0, 0.5, 0.9]))
    assert scores.count == 3
    assert (scores.mean_said, scores.mean_true) == pytest.approx((1.45 / 3, 1.4 / 3))
    assert scores.squared_error == pytest.approx((0.21**2 + 0.25**2 + 0.09**2) / 3)
    assert scores.ece == pytest.approx((abs(0.46 - 0.5) + 0.09) / 3)  # two share the bin from 0.2 to 0.267
    assert [each.count for each in scores.curve] == [2, 1]
    assert (scores.curve[0].said, scores.curve[0].true) == pytest.approx((0.23, 0.25))
    assert scores.ause == pytest.approx(0)
    assert scores.ause_constant == pytest.approx(np.mean([1.6 / 3] * 3) - np.mean([0.1, 0.3, 1.6 / 3]))
    assert confidence_scores(np.array([0.2]), np.array([0.4]), curve=False).curve == ()


def test_no_cases_are_none() -> None:
    nothing = np.zeros(0)
    scores = confidence_scores(nothing, nothing)
    assert (scores.count, scores.curve) == (0, ())
    assert {scores.mean_said, scores.mean_true, scores.pearson, scores.ause, scores.ece, scores.squared_error} == {None}
    answers = binary_scores(nothing, nothing.astype(bool), 0.5)
    assert (answers.positives, answers.negatives, answers.curve) == (0, 0, ())
    assert {answers.accuracy, answers.balanced_accuracy, answers.auroc, answers.ece, answers.brier} == {None}


def test_binary_scores() -> None:
    answers = binary_scores(np.array([0.9, 0.8, 0.4, 0.5]), np.array([True, True, True, False]), 0.5)
    assert (answers.positives, answers.negatives, answers.threshold) == (3, 1, 0.5)
    assert answers.accuracy == pytest.approx(0.5)  # 0.5 is at the threshold: said to be positive
    assert answers.balanced_accuracy == pytest.approx((2 / 3 + 0) / 2)
    assert answers.auroc == pytest.approx(2 / 3)
    assert answers.brier == pytest.approx((0.01 + 0.04 + 0.36 + 0.25) / 4)
    assert answers.ece == pytest.approx((0.1 + 0.2 + 0.6 + 0.5) / 4)
    assert answers.curve[0] == ReliabilityBin(said=0.4, true=1.0, count=1)
    one_class = binary_scores(np.array([0.9, 0.2]), np.array([True, True]), 0.5)
    assert (one_class.accuracy, one_class.balanced_accuracy, one_class.auroc) == (0.5, None, None)
    assert one_class.ece == pytest.approx(0.45)


@pytest.mark.filterwarnings("error")
def test_values_too_small_to_vary_have_no_correlation() -> None:
    assert np.isnan(pearson(np.array([1e-200, 2e-200]), np.array([0.1, 0.2])))
