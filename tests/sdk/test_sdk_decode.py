from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from probpose_edge import COCO_17, InputError, decode_maps, expected_oks_maps
from probpose_edge.decode import _refine

MAP_TOLERANCE = 1e-6
"""Bound of the parity with the published convolution, far above float32 rounding (1.5e-8 measured)."""
POINT_TOLERANCE = 1e-3
"""Cells; a thousandth of a cell is a fortieth of a pixel on a person 500 pixels tall."""


def spread_of(sigma: float, height: int, width: int) -> float:
    return min(max(2 * (2 * sigma) ** 2 * math.sqrt(height / 1.25 * width / 1.25), 0.55), 3.0)


def scipy_maps(maps: np.ndarray, sigmas: tuple[float, ...]) -> np.ndarray:
    """The published convolution: a whole 2-D kernel and scipy."""
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is the oracle")
    out = np.zeros(maps.shape)
    for n, k in np.ndindex(maps.shape[:2]):
        s = spread_of(sigmas[k], *maps.shape[2:])
        radius = math.ceil(3 * s)
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        kernel = np.exp(-(x**2 + y**2) / (2 * s))
        out[n, k] = ndimage.convolve(maps[n, k].astype(np.float64), kernel / kernel.sum(), mode="reflect")
    return out


def random_maps(n: int, k: int = 17, height: int = 64, width: int = 48, seed: int = 0) -> np.ndarray:
    maps = np.random.default_rng(seed).random((n, k, height, width)) ** 40
    return (maps / maps.sum((2, 3), keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("size", [(64, 48), (16, 12), (12, 16), (5, 4)])
def test_maps_equal_the_convolution(size: tuple[int, int]) -> None:
    maps = random_maps(2, 17, *size)
    expected = scipy_maps(maps, COCO_17.sigmas)
    np.testing.assert_allclose(expected_oks_maps(maps, COCO_17.sigmas), expected, atol=MAP_TOLERANCE)


def test_points_are_the_refined_peaks_of_the_convolution() -> None:
    maps = random_maps(3)
    smoothed = scipy_maps(maps, COCO_17.sigmas)
    points, _ = decode_maps(maps, COCO_17.sigmas)
    for n, k in np.ndindex(3, 17):
        f = smoothed[n, k]
        y, x = np.unravel_index(f.argmax(), f.shape)
        expected = np.array([x, y], dtype=float)
        if 0 < x < 47 and 0 < y < 63:
            expected[0] -= (f[y, x + 1] - f[y, x - 1]) / 2 / (f[y, x + 1] - 2 * f[y, x] + f[y, x - 1])
            expected[1] -= (f[y + 1, x] - f[y - 1, x]) / 2 / (f[y + 1, x] - 2 * f[y, x] + f[y - 1, x])
        np.testing.assert_allclose(points[n, k], expected, atol=POINT_TOLERANCE)


@pytest.mark.shared
def test_recorded_maps_and_points(shared: Path) -> None:
    recorded = np.load(shared / "reference" / "decode.npz", allow_pickle=False)
    maps = recorded["probmaps"].astype(np.float32)
    smoothed = expected_oks_maps(maps[:4], COCO_17.sigmas)
    np.testing.assert_allclose(smoothed, recorded["expected_oks_first4"], rtol=0, atol=MAP_TOLERANCE)
    points, expected_oks = decode_maps(maps, COCO_17.sigmas)
    np.testing.assert_allclose(points, recorded["decoded_heatmap_xy"], rtol=0, atol=POINT_TOLERANCE)
    assert ((expected_oks > 0) & (expected_oks <= 1)).all()


@pytest.mark.shared
def test_recorded_points_of_the_tiny_checkpoint(shared: Path) -> None:
    recorded = np.load(shared / "reference" / "forward_tiny.npz", allow_pickle=False)
    points, _ = decode_maps(recorded["probmaps"].astype(np.float32), COCO_17.sigmas)
    np.testing.assert_allclose(points, recorded["decoded_heatmap_xy"], rtol=0, atol=POINT_TOLERANCE)


def test_batch_size_does_not_change_a_bit() -> None:
    maps = random_maps(7)
    points, expected_oks = decode_maps(maps, COCO_17.sigmas)
    for person in range(7):
        alone = decode_maps(maps[person : person + 1], COCO_17.sigmas)
        np.testing.assert_array_equal(alone[0][0], points[person])
        np.testing.assert_array_equal(alone[1][0], expected_oks[person])


def test_peaks_on_the_border_stay_on_their_cell() -> None:
    maps = np.zeros((1, 4, 16, 12), np.float32)
    for k, (x, y) in enumerate([(0, 5), (11, 5), (5, 0), (11, 15)]):
        maps[0, k, y, x] = 0.6
        maps[0, k, min(y + 1, 15), min(x + 1, 11)] += 0.4
    points, _ = decode_maps(maps, (0.03,) * 4)
    np.testing.assert_array_equal(points[0], [[0, 5], [11, 5], [5, 0], [11, 15]])


def test_a_peak_between_two_cells_is_found_between_them() -> None:
    maps = np.zeros((1, 1, 16, 12), np.float32)
    maps[0, 0, 7, 4], maps[0, 0, 7, 5] = 0.5, 0.5
    points, _ = decode_maps(maps, (0.1,))
    np.testing.assert_allclose(points[0, 0], [4.5, 7], atol=0.02)


def test_a_plateau_gives_a_cell_and_no_warning() -> None:
    maps = np.full((1, 2, 16, 12), 1 / 192, np.float32)
    with np.errstate(all="raise"):
        points, _ = decode_maps(maps, (0.1, 0.03))
        # Rounding hides exact plateaus inside smoothed maps, so the refinement is asked by itself.
        refined = _refine(np.array([[[4, 5]]]), np.full((1, 1, 5), 0.25, np.float32), (12, 16))
    assert np.isfinite(points).all()
    np.testing.assert_array_equal(refined, [[[4, 5]]])


def test_expected_oks_is_the_mean_oks_of_the_peak() -> None:
    sigma, size = 0.06, (16, 12)
    s = spread_of(sigma, *size)
    maps = random_maps(2, 3, *size)
    _, expected_oks = decode_maps(maps, (sigma,) * 3)
    smoothed = scipy_maps(maps, (sigma,) * 3)
    for n, k in np.ndindex(2, 3):
        y, x = np.unravel_index(smoothed[n, k].argmax(), size)
        yy, xx = np.mgrid[:16, :12]
        near = (abs(yy - y) <= math.ceil(3 * s)) & (abs(xx - x) <= math.ceil(3 * s))
        oks = np.where(near, np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * s)), 0)
        assert expected_oks[n, k] == pytest.approx((maps[n, k] * oks).sum(), abs=1e-6)


@pytest.mark.parametrize("cell", [(5, 7), (0, 0), (11, 15)])
def test_certainty_has_expected_oks_one_wherever_it_is(cell: tuple[int, int]) -> None:
    maps = np.zeros((1, 1, 16, 12), np.float32)
    maps[0, 0, cell[1], cell[0]] = 1
    points, expected_oks = decode_maps(maps, (0.06,))
    np.testing.assert_allclose(points[0, 0], cell, atol=1e-6)
    assert expected_oks[0, 0] == 1


def test_no_persons() -> None:
    points, expected_oks = decode_maps(np.zeros((0, 17, 64, 48), np.float32), COCO_17.sigmas)
    assert points.shape == (0, 17, 2)
    assert expected_oks.shape == (0, 17)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match=r"K = 17 sigmas and at least 2 x 2 cells, got \(1, 5, 64, 48\)"):
        decode_maps(np.zeros((1, 5, 64, 48), np.float32), COCO_17.sigmas)
    with pytest.raises(InputError, match="kernel must be one of published, oks, argmax, got 'other'"):
        decode_maps(np.zeros((1, 17, 64, 48), np.float32), COCO_17.sigmas, "other")
    with pytest.raises(InputError, match="padding must be positive, got 0"):
        decode_maps(np.zeros((1, 17, 64, 48), np.float32), COCO_17.sigmas, padding=0)
