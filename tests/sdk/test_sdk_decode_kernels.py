"""The kernels of decoding beside the published one, against sums over all cells."""

from __future__ import annotations

import numpy as np
import pytest

from probpose_edge import InputError, decode_heatmaps, decode_maps, expected_oks_maps
from probpose_edge.decode import oks_variance, published_spread

SIZE = (16, 12)
SIGMAS = (0.03, 0.06, 0.107)
TOLERANCE = 1e-6
"""Far above float32 rounding of sums below 1."""


def random_maps(n: int = 2, seed: int = 0) -> np.ndarray:
    maps = np.random.default_rng(seed).random((n, len(SIGMAS), *SIZE)) ** 40
    return (maps / maps.sum((2, 3), keepdims=True)).astype(np.float32)


def true_oks(sigma: float, x: int, y: int, padding: float) -> np.ndarray:
    """(H, W): OKS between a cell and every cell, by COCO's formula."""
    area = 0.53 * (SIZE[0] / padding) * (SIZE[1] / padding)
    yy, xx = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * area * (2 * sigma) ** 2))


def expected_everywhere(probability: np.ndarray, sigma: float, padding: float) -> np.ndarray:
    values = np.empty(SIZE)
    for y, x in np.ndindex(*SIZE):
        values[y, x] = (probability * true_oks(sigma, x, y, padding)).sum()
    return values


def newton(f: np.ndarray) -> np.ndarray:
    y, x = np.unravel_index(f.argmax(), f.shape)
    if not (0 < x < f.shape[1] - 1 and 0 < y < f.shape[0] - 1):
        return np.array([x, y], dtype=float)
    slope = np.array([f[y, x + 1] - f[y, x - 1], f[y + 1, x] - f[y - 1, x]]) / 2
    curvature = np.array([f[y, x + 1] + f[y, x - 1], f[y + 1, x] + f[y - 1, x]]) - 2 * f[y, x]
    return np.array([x, y]) - np.divide(slope, curvature, out=np.zeros(2), where=curvature != 0)


@pytest.mark.parametrize("padding", [1.25, 1.5625])
def test_oks_kernel_gives_the_expected_oks_of_every_cell(padding: float) -> None:
    maps = random_maps()
    found = expected_oks_maps(maps, SIGMAS, "oks", padding=padding)
    points, expected_oks = decode_maps(maps, SIGMAS, "oks", padding=padding)
    for n, k in np.ndindex(*maps.shape[:2]):
        wanted = expected_everywhere(maps[n, k].astype(np.float64), SIGMAS[k], padding)
        np.testing.assert_allclose(found[n, k], wanted, atol=TOLERANCE)
        assert expected_oks[n, k] == pytest.approx(wanted.max(), abs=TOLERANCE)
        np.testing.assert_allclose(points[n, k], newton(wanted), atol=1e-3)
    assert found.max() <= 1


def test_argmax_takes_the_largest_cell_and_the_true_oks_there() -> None:
    maps = random_maps(seed=1)
    points, expected_oks = decode_maps(maps, SIGMAS, "argmax")
    np.testing.assert_array_equal(expected_oks_maps(maps, SIGMAS, "argmax"), maps)
    for n, k in np.ndindex(*maps.shape[:2]):
        y, x = np.unravel_index(maps[n, k].argmax(), SIZE)
        np.testing.assert_allclose(points[n, k], newton(maps[n, k].astype(np.float64)), atol=1e-5)
        wanted = (maps[n, k] * true_oks(SIGMAS[k], x, y, 1.25)).sum()
        assert expected_oks[n, k] == pytest.approx(wanted, abs=TOLERANCE)


def test_kernels_disagree_where_they_should() -> None:
    """A sharp peak of 0.4 and a cloud of 0.6: the argmax takes the peak, the expected OKS the cloud."""
    maps = np.zeros((1, 1, *SIZE), np.float32)
    maps[0, 0, 2, 2] = 0.4
    maps[0, 0, 9:12, 6:9] = 0.6 / 9
    (at_peak, at_cloud) = (decode_maps(maps, (0.107,), kernel) for kernel in ("argmax", "oks"))
    np.testing.assert_allclose(at_peak[0][0, 0], [2, 2], atol=1e-6)
    np.testing.assert_allclose(at_cloud[0][0, 0], [7, 10], atol=0.1)
    assert at_cloud[1][0, 0] > at_peak[1][0, 0]


@pytest.mark.parametrize("kernel", ["published", "oks", "argmax"])
@pytest.mark.parametrize("cell", [(5, 7), (0, 0), (11, 15)])
def test_certainty_is_found_where_it_is(kernel: str, cell: tuple[int, int]) -> None:
    maps = np.zeros((1, 3, *SIZE), np.float32)
    maps[:, :, cell[1], cell[0]] = 1
    points, expected_oks = decode_maps(maps, SIGMAS, kernel)
    np.testing.assert_allclose(points[0], [cell] * 3, atol=1e-5)
    np.testing.assert_array_equal(expected_oks, 1)


@pytest.mark.parametrize("kernel", ["published", "oks", "argmax"])
def test_expected_oks_is_a_share_and_the_input_stays(kernel: str) -> None:
    maps = np.concatenate([random_maps(), np.full((1, 3, *SIZE), 1 / 192, np.float32)])
    before = maps.copy()
    points, expected_oks = decode_maps(maps, SIGMAS, kernel)
    smoothed = expected_oks_maps(maps, SIGMAS, kernel)
    smoothed += 1
    np.testing.assert_array_equal(maps, before)
    assert ((expected_oks >= 0) & (expected_oks <= 1)).all()
    assert np.isfinite(points).all()


def test_the_oks_of_a_smaller_person_falls_off_faster() -> None:
    assert oks_variance(0.06, (12, 16), 1.25) == pytest.approx(0.12**2 * 0.53 * 16 * 12 / 1.25**2)
    assert oks_variance(0.06, (12, 16), 1.5625) == pytest.approx(oks_variance(0.06, (12, 16), 1.25) / 1.25**2)
    assert published_spread(0.06, (48, 64), 1.5625) == pytest.approx(published_spread(0.06, (48, 64)) / 1.25)


class TestHeatmaps:
    def test_a_gaussian_is_found_below_the_cell(self) -> None:
        yy, xx = np.mgrid[: SIZE[0], : SIZE[1]]
        centers = np.array([[[5.3, 7.8], [4.0, 6.0]], [[0.0, 3.0], [8.6, 2.4]]])
        maps = np.stack([[np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 8) for x, y in row] for row in centers])
        points, confidence = decode_heatmaps(maps.astype(np.float32) * 0.8)
        # One Newton step on a Gaussian of 2 cells ends within 0.02 cells.
        np.testing.assert_allclose(points, centers, atol=0.02)
        np.testing.assert_allclose(confidence, 0.8 * maps.max(axis=(2, 3)), atol=1e-6)
        assert points.dtype == confidence.dtype == np.float32

    def test_confidence_is_clipped_and_nobody_is_fine(self) -> None:
        maps = np.zeros((1, 2, *SIZE), np.float32)
        maps[0, 0], maps[0, 1, 4, 4] = -0.2, 1.3
        points, confidence = decode_heatmaps(maps)
        np.testing.assert_array_equal(confidence, [[0, 1]])
        np.testing.assert_array_equal(points[0, 1], [4, 4])
        points, confidence = decode_heatmaps(maps[:0])
        assert (points.shape, confidence.shape) == ((0, 2, 2), (0, 2))

    def test_bad_maps(self) -> None:
        with pytest.raises(InputError, match=r"Heatmaps must have shape \(N, K, H, W\) .* got \(16, 12\)"):
            decode_heatmaps(np.zeros(SIZE))
        with pytest.raises(InputError, match="Heatmaps must be finite"):
            decode_heatmaps(np.full((1, 1, *SIZE), np.nan))
