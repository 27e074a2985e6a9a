"""Coverage: the region that holds q of the mass, and the numbers that make it hold q of the keypoints."""

from __future__ import annotations

import numpy as np
import pytest

from probpose_edge.probabilities.calibrated_maps import softmax_rows, spread
from probpose_eval.calibration.fit_coverage import MapSamples, fit_coverage, softmax_standings, sparsemax_standing
from probpose_eval.metrics.coverage import LEVELS, coverage, coverage_error, standing


def test_the_last_cell_of_a_region_counts_in_part() -> None:
    # Of 0.5, 0.3, 0.2 the keypoint lies in the second: above it 0.5, and the cell is used up at 0.8.
    shares = coverage(standing(np.array([[0.3, 0.5, 0.2]]), np.array([0])))
    expected = np.clip((LEVELS - 0.5) / 0.3, 0, 1)
    assert shares == pytest.approx(expected)
    assert coverage_error(shares) == pytest.approx(np.abs(expected - LEVELS).mean())


def test_equal_cells_enter_together_and_zeros_never() -> None:
    maps = np.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    found = standing(maps, np.array([3, 2]))
    assert found.above.tolist() == [0, 1]
    assert found.cells_own.tolist() == [4, 3]
    assert coverage(found.select(np.array([True, False]))) == pytest.approx(LEVELS)
    assert coverage(found.select(np.array([False, True]))).tolist() == [0] * 19
    assert np.isnan(coverage(found.select(np.array([False, False])))).all()


def test_spreading_the_standing_equals_spreading_the_maps() -> None:
    rng = np.random.default_rng(1)
    maps = softmax_rows(rng.normal(0, 2, (50, 30)), 1.0)
    maps[:, ::3] = 0
    maps /= maps.sum(axis=1, keepdims=True)
    cells = rng.integers(0, 30, 50)
    direct, derived = standing(spread(maps, 0.2), cells), standing(maps, cells).spread(0.2)
    assert derived.above == pytest.approx(direct.above, abs=1e-6)
    assert derived.own == pytest.approx(direct.own, abs=1e-6)


@pytest.fixture(scope="module")
def drawn() -> MapSamples:
    """Keypoints drawn from softmax(logits / 0.02) with 12 % of them lost anywhere."""
    rng = np.random.default_rng(2)
    n, c = 3000, 192
    place = np.arange(c)
    center, width = rng.uniform(20, 172, (n, 1)), rng.uniform(4, 25, (n, 1))
    logits = 0.1 * np.exp(-((place - center) ** 2) / (2 * width**2)) + rng.normal(0, 0.002, (n, c))
    truth = spread(softmax_rows(logits, 0.02), 0.12)
    cells = (truth.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return MapSamples(logits=logits.astype(np.float32), cells=cells, pictures=np.arange(n) // 10)


def test_the_fit_finds_what_the_keypoints_were_drawn_from(drawn: MapSamples) -> None:
    steps: list[tuple[int, int]] = []
    standings = softmax_standings(drawn, progress=lambda done, total: steps.append((done, total)))
    assert steps[0] == (1, 24)
    assert steps[-1] == (24, 24)
    half = drawn.pictures % 2 == 0
    fit = fit_coverage(standings, half)
    assert fit.temperature == pytest.approx(0.02, rel=0.15)
    assert 0.02 < fit.lost_share < 0.2
    held_out = coverage(standings[fit.temperature].select(~half).spread(fit.lost_share))
    assert coverage_error(held_out) < 0.02
    # Sparsemax maps say zero where the lost keypoints are.
    assert min(coverage_error(coverage(sparsemax_standing(drawn, t))) for t in np.geomspace(0.01, 10, 13)) > 0.03


def test_the_scale_of_the_logits_does_not_matter(drawn: MapSamples) -> None:
    few = MapSamples(logits=drawn.logits[:300], cells=drawn.cells[:300], pictures=drawn.pictures[:300])
    larger = MapSamples(logits=100 * few.logits, cells=few.cells, pictures=few.pictures)
    one, other = fit_coverage(softmax_standings(few)), fit_coverage(softmax_standings(larger))
    assert other.temperature == pytest.approx(100 * one.temperature, rel=1e-3)
    assert other.lost_share == one.lost_share
