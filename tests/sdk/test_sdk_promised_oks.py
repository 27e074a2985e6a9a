"""The OKS a map promises: against sums written out, and against the closed form of a Gaussian."""

from __future__ import annotations

import numpy as np
import pytest

from probpose_edge.exceptions import InputError
from probpose_edge.scores.promised_oks import falloff_px2, promised_oks, promised_oks_of_heatmaps

WINDOWS = np.array([[100.0, 80.0, 96.0, 128.0], [20.0, 30.0, 48.0, 64.0]])
BOXES = np.array([[60.0, 30.0, 140.0, 130.0], [5.0, 10.0, 35.0, 50.0]])
SIGMAS = (0.026, 0.107)


def gaussians(center_cell: tuple[float, float], variance: float) -> np.ndarray:
    y, x = np.mgrid[:64, :48]
    return np.exp(-((x - center_cell[0]) ** 2 + (y - center_cell[1]) ** 2) / (2 * variance))


def test_the_falloff_is_that_of_the_oks() -> None:
    expected = [[(2 * s) ** 2 * 0.53 * area for s in SIGMAS] for area in (80 * 100, 30 * 40)]
    np.testing.assert_allclose(falloff_px2(BOXES, SIGMAS), expected)


def test_it_is_the_mean_oks_over_the_map() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((2, 2, 6, 5)).astype(np.float32)
    maps /= maps.sum(axis=(2, 3), keepdims=True)
    points = WINDOWS[:, None, :2] + rng.normal(0, 20, (2, 2, 2))
    falloff = falloff_px2(BOXES, SIGMAS)
    found = promised_oks(maps, WINDOWS, points, falloff)
    for n in range(2):
        for k in range(2):
            total = 0.0
            for row in range(6):
                for column in range(5):
                    x = WINDOWS[n, 0] + WINDOWS[n, 2] * (column / 4 - 0.5)
                    y = WINDOWS[n, 1] + WINDOWS[n, 3] * (row / 5 - 0.5)
                    squared = (x - points[n, k, 0]) ** 2 + (y - points[n, k, 1]) ** 2
                    total += maps[n, k, row, column] * np.exp(-squared / (2 * falloff[n, k]))
            assert found[n, k] == pytest.approx(total, abs=1e-6)


def test_a_gaussian_map_promises_the_closed_form() -> None:
    windows = np.array([[23.5, 31.5, 47.0, 63.0]])  # a cell is a pixel
    maps = gaussians((23, 31), 9.0)[None, None]
    falloff = np.array([[16.0]])
    found = promised_oks(maps / maps.sum(), windows, np.array([[[23.0, 31.0]]]), falloff)
    assert found[0, 0] == pytest.approx(16 / (16 + 9), abs=1e-3)


@pytest.mark.parametrize("rendered", [2.0, 4.0])
def test_a_low_peak_promises_less_whatever_the_network_was_trained_on(rendered: float) -> None:
    """The peak of height h says that the place varies by ``rendered * (1 / h - 1)``."""
    windows = np.array([[23.5, 31.5, 47.0, 63.0]])
    height, falloff = 0.4, np.array([[8.0]])
    found = promised_oks_of_heatmaps(height * gaussians((20, 25), rendered)[None, None], windows, falloff)
    assert found[0, 0] == pytest.approx(8 / (8 + rendered * 1.5), rel=1e-6)


def test_larger_persons_are_promised_more() -> None:
    maps = gaussians((20, 25), 4.0)[None, None]
    windows = np.array([[23.5, 31.5, 47.0, 63.0]])
    small, large = (promised_oks_of_heatmaps(0.5 * maps, windows, np.array([[k]]))[0, 0] for k in (2.0, 20.0))
    assert small < large < 1


@pytest.mark.parametrize("value", [0.0, -1.0, 2.0])
def test_flat_heatmaps_have_an_answer_too(value: float) -> None:
    found = promised_oks_of_heatmaps(np.full((2, 2, 6, 5), value), WINDOWS, falloff_px2(BOXES, SIGMAS))
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_no_persons_have_no_answer() -> None:
    none = np.zeros((0, 4))
    assert promised_oks(np.zeros((0, 2, 6, 5)), none, np.zeros((0, 2, 2)), np.zeros((0, 2))).shape == (0, 2)
    assert promised_oks_of_heatmaps(np.zeros((0, 2, 6, 5)), none, np.zeros((0, 2))).shape == (0, 2)


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"Maps must have shape \(N, K, H, W\), windows \(N, 4\).*Pass those of one"):
        promised_oks(np.zeros((2, 2, 6, 5)), WINDOWS[:1], np.zeros((2, 2, 2)), np.ones((2, 2)))
    with pytest.raises(InputError, match=r"Heatmaps must have shape .* at least 3 x 3 cells"):
        promised_oks_of_heatmaps(np.zeros((2, 2, 2, 5)), WINDOWS, np.ones((2, 2)))
