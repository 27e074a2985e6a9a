from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from probpose_edge import InputError
from probpose_edge.routing.route_sorted import route_sorted
from probpose_edge.routing.running_share import WINDOW, RunningShare

QUANTILES = tuple(np.linspace(0, 1, 11))


class TestSorted:
    def test_the_thresholds_are_those_of_the_paper(self) -> None:
        scores = np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6, 1.0])
        k1 = 0.1 + 0.4 * 0.9  # nearest to 0.5; three scores from there on
        assert abs(0.5 - k1) < abs(0.4 - k1)
        large = route_sorted(scores, share=0.3, theta=0.4)
        assert sorted(scores[large]) == [0.5, 0.6, 0.7]
        assert sorted(scores[route_sorted(scores, share=0.3)]) == [0.8, 0.9, 1.0]
        assert sorted(scores[route_sorted(scores, share=0.3, theta=0)]) == [0.1, 0.2, 0.3]

    @pytest.mark.parametrize("theta", [0, 0.3, 1])
    @pytest.mark.parametrize("share", [0, 0.25, 1 / 3, 0.5, 1])
    def test_the_share_is_exact(self, share: float, theta: float) -> None:
        for scores in (np.random.default_rng(0).beta(2, 5, 37), np.full(37, 0.5), np.zeros(1), np.zeros(0)):
            assert route_sorted(scores, share=share, theta=theta).sum() == math.ceil(round(len(scores) * share, 9))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"scores": [0.1, math.nan], "share": 0.5}, "finite numbers of shape .N,., got NaN"),
            ({"scores": [[0.1]], "share": 0.5}, r"got shape \(1, 1\)"),
            ({"scores": [0.1], "share": 2}, "share must be a number in"),
            ({"scores": [0.1], "share": 0.5, "theta": -1}, "theta must be a number in"),
        ],
    )
    def test_other_arguments(self, arguments: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            route_sorted(**arguments)


def stream(scores: np.ndarray[Any, Any], at_once: int, **settings: Any) -> np.ndarray[Any, Any]:
    running = RunningShare(QUANTILES, **settings)
    return np.concatenate([running(scores[i : i + at_once]) for i in range(0, len(scores), at_once)])


class TestStreams:
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
    @pytest.mark.parametrize("theta", [0.3, 1.0])
    @pytest.mark.parametrize("at_once", [1, 5])
    def test_the_share_is_kept_whatever_comes(self, share: float, theta: float, at_once: int) -> None:
        rng = np.random.default_rng(1)
        n = 3000
        walk = np.clip(0.5 + np.cumsum(rng.normal(0, 0.01, n)), 0, 1)
        for scores in (
            rng.random(n),
            rng.beta(2, 12, n),  # unlike the quantiles
            np.sort(rng.random(n)),
            np.sort(rng.random(n))[::-1],
            walk,
            np.full(n, 0.25),
            np.round(rng.beta(2, 5, n) * 16) / 16,  # an INT8 router's
        ):
            sent = np.cumsum(stream(scores, at_once, share=share, theta=theta))
            assert np.abs(sent - share * np.arange(1, n + 1)).max() <= 32 + at_once + 1

    def test_it_chooses_whom_sorting_chooses(self) -> None:
        scores = np.random.default_rng(2).beta(2, 5, 4000)
        # Below 1, theta depends on the lowest and highest score, and those of a window are not those of all.
        for theta, alike in ((0.4, 0.8), (1.0, 0.9)):
            same = stream(scores, 1, share=0.3, theta=theta) == route_sorted(scores, share=0.3, theta=theta)
            assert same[WINDOW:].mean() > alike
            assert same[:200].mean() > 0.6

    def test_the_quantiles_decide_about_the_first(self) -> None:
        for at, wanted in ((0.9, True), (0.1, False)):
            assert RunningShare(QUANTILES, share=0.5)([at]).tolist() == [wanted]

    def test_one_call_for_all_is_sorting(self) -> None:
        scores = np.random.default_rng(3).random(2 * WINDOW)
        np.testing.assert_array_equal(RunningShare(QUANTILES, share=0.25)(scores), route_sorted(scores, share=0.25))

    def test_memory_is_bounded(self) -> None:
        running = RunningShare(QUANTILES, share=0.5)
        for _ in range(3):
            running(np.random.default_rng(4).random(3 * WINDOW))
        assert running._scores.shape == (WINDOW,)
        assert running([]).shape == (0,)

    def test_other_arguments(self) -> None:
        with pytest.raises(InputError, match="share must be a number in"):
            RunningShare(QUANTILES, share=-1)
        with pytest.raises(InputError, match="finite numbers"):
            RunningShare(QUANTILES, share=0.5)([math.inf])
