"""Probability of zones: exact areas against formulas and samples, mass against places drawn from the maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from probpose_edge import InputError, ModelContract, PoseEstimator, Poses, credible_regions, zone_probability
from probpose_edge.probabilities.polygon_shares import cell_borders, polygon_shares

IMAGE = np.zeros((120, 160, 3), np.uint8)
BOXES = [[20.0, 10, 60, 100], [80, 30, 140, 110], [0, 0, 50, 90]]
WINDOWS = np.array([[50.0, 60, 66, 90], [70, 40, 33, 45], [400, 400, 66, 90]])
WH = (12, 16)
STAR = np.array([[50, 20], [60, 55], [95, 60], [60, 70], [52, 110], [40, 72], [10, 60], [41, 52]], dtype=float)


@pytest.fixture
def poses(contract: ModelContract, fake_runtime: Callable[..., Any]) -> Poses:
    calibrated = contract.replace(calibration={"coverage_temperature": 4.0, "lost_share": 0.05})
    return PoseEstimator(fake_runtime(), calibrated)(IMAGE, BOXES, return_maps="calibrated")


def areas(window: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(16, 12) area of every cell, px²."""
    return np.outer(np.diff(cell_borders(16)), np.diff(cell_borders(12))) * window[2] / 11 * window[3] / 15


def inside(polygon: np.ndarray[Any, Any], x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Even-odd rule, edge by edge."""
    odd = np.zeros(np.broadcast(x, y).shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            odd ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return odd


@pytest.mark.parametrize("way", [1, -1], ids=["clockwise", "counterclockwise"])
def test_shares_agree_with_samples(way: int) -> None:
    shares = polygon_shares(STAR[::way], WINDOWS, WH)
    assert shares.shape == (3, 16, 12)
    assert (shares[2] == 0).all()
    fine = (np.arange(60) + 0.5) / 60
    for window, found in zip(WINDOWS[:2], shares, strict=False):
        step, corner = window[2:] / (11, 15), window[:2] - window[2:] / 2
        x = corner[0] + step[0] * (cell_borders(12)[:-1, None] + np.diff(cell_borders(12))[:, None] * fine).ravel()
        y = corner[1] + step[1] * (cell_borders(16)[:-1, None] + np.diff(cell_borders(16))[:, None] * fine).ravel()
        sampled = inside(STAR, x[None], y[:, None]).reshape(16, 60, 12, 60).mean(axis=(1, 3))
        np.testing.assert_allclose(found, sampled, atol=0.02)
        assert 0.2 < found.max() <= 1


def test_areas_are_exact() -> None:
    after = np.roll(STAR, -1, axis=0)
    area = abs((STAR[:, 0] * after[:, 1] - STAR[:, 1] * after[:, 0]).sum()) / 2
    window = np.array([[52.0, 65, 90, 120]])  # holds the whole polygon
    shares = polygon_shares(STAR, window, WH)
    assert (shares[0] * areas(window[0])).sum() == pytest.approx(area, rel=1e-12)
    # Clipped by the window, its area is that of OpenCV's intersection, for a convex polygon.
    triangle = np.array([[10, 10], [120, 40], [30, 140]], dtype=np.float32)
    frame = np.array([[17, 15], [83, 15], [83, 105], [17, 105]], dtype=np.float32)
    area, _ = cv2.intersectConvexConvex(triangle, frame)
    assert (polygon_shares(triangle, WINDOWS[:1], WH)[0] * areas(WINDOWS[0])).sum() == pytest.approx(area, rel=1e-5)


def test_rectangles_along_and_across_cells() -> None:
    step, corner = WINDOWS[0, 2:] / (11, 15), WINDOWS[0, :2] - WINDOWS[0, 2:] / 2

    def shares(x0: float, y0: float, x1: float, y1: float) -> np.ndarray[Any, Any]:
        box = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) * step + corner
        return polygon_shares(box, WINDOWS[:1], WH)[0]

    whole = shares(3.5, 4.5, 5.5, 6.5)
    assert np.argwhere(whole > 1e-9).tolist() == [[5, 4], [5, 5], [6, 4], [6, 5]]
    np.testing.assert_allclose(whole[5:7, 4:6], 1)
    quarter = shares(4, 5, 4.25, 5.5)
    assert quarter[5, 4] == pytest.approx(0.125)
    np.testing.assert_allclose(shares(-5, -5, 40, 40), 1)
    half = shares(-9, -9, 0.25, 40)
    np.testing.assert_allclose(half[:, 0], 0.5)
    assert half[:, 1:].max() < 1e-12


def test_the_probability_is_that_of_places_drawn_from_the_map(poses: Poses) -> None:
    zone = np.array([[30.0, 20], [120, 30], [100, 90], [35, 70]])
    found = zone_probability(poses, zone)
    rng = np.random.default_rng(0)
    borders = cell_borders(12), cell_borders(16)
    for n, k in np.ndindex(3, 5):
        drawn = rng.choice(192, 20_000, p=poses.maps[n, k].ravel() / poses.maps[n, k].sum(dtype=np.float64))
        window = poses.windows[n]
        place = [
            window[axis]
            - window[2 + axis] / 2
            + window[2 + axis] / (size - 1) * rng.uniform(borders[axis][cell], borders[axis][cell + 1])
            for axis, size, cell in ((0, 12, drawn % 12), (1, 16, drawn // 12))
        ]
        assert found.given_present[n, k] == pytest.approx(inside(zone, *place).mean(), abs=0.02)
    np.testing.assert_allclose(found.inside, found.given_present * poses.presence)
    assert found.given_present.min() < 0.05 < 0.9 < found.given_present.max()


def test_a_zone_around_the_window_holds_everything(poses: Poses) -> None:
    found = zone_probability(poses, [[-900, -900], [900, -900], [900, 900], [-900, 900]])
    np.testing.assert_allclose(found.given_present, 1, atol=1e-6)
    np.testing.assert_allclose(found.inside, poses.presence, atol=1e-6)
    # What is beyond the window may be in the zone as well.
    np.testing.assert_allclose(found.at_most, 1, atol=1e-6)


def test_what_reaches_beyond_the_window_is_not_ruled_out(poses: Poses) -> None:
    center, size = poses.windows[0, :2], poses.windows[0, 2:]
    within = center + np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * size * 0.2
    found = zone_probability(poses.select([0]), within)
    np.testing.assert_array_equal(found.at_most, found.inside)
    away = within + size * (0.6, 0)
    found = zone_probability(poses.select([0]), away)
    np.testing.assert_allclose(found.given_present, 0, atol=1e-12)
    np.testing.assert_allclose(found.at_most, 1 - poses.presence[:1])
    assert found.certainly_elsewhere(0.15).tolist() == [[True, False, False, False, False]]


def test_certainly_elsewhere_keeps_the_lost_share(poses: Poses) -> None:
    # Where no map has a peak: the mass is a share of the 5 percent that are spread over 165 whole cells' worth of map.
    corner, step = poses.windows[0, :2] - poses.windows[0, 2:] / 2, poses.windows[0, 2:] / (11, 15)
    cell = corner + np.array([[10.5, 0.5], [11, 0.5], [11, 1.5], [10.5, 1.5]]) * step
    found = zone_probability(poses.select([0]), cell)
    assert (found.given_present >= 0.05 / 192 - 1e-9).all()
    assert found.certainly_elsewhere(0.05).all()
    assert not found.certainly_elsewhere(1e-5).any()


def test_polygons_of_regions_hold_the_mass_of_the_region(poses: Poses) -> None:
    regions = credible_regions(poses, 0.6)
    rings = regions.polygons(1, 2)
    assert len(rings) == 1
    assert zone_probability(poses, rings[0]).given_present[1, 2] == pytest.approx(regions.mass[1, 2], abs=1e-6)


def test_nobody_is_nowhere(poses: Poses) -> None:
    found = zone_probability(poses.select([]), STAR)
    assert found.at_most.shape == found.certainly_elsewhere(0.1).shape == (0, 5)


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        ([[0, 0], [1, 1]], r"shape \(P, 2\) with at least 3 corners .* got \(2, 2\)\. Pass its corners in order"),
        ([0, 0, 10, 10], r"shape \(P, 2\) .* got \(4,\)"),
        ([[[0, 0], [1, 0], [1, 1]]], r"shape \(P, 2\) .* got \(1, 3, 2\)"),
        ([[0, 0], [9, float("nan")], [9, 9]], r"must be finite, but a corner has NaN or an infinity\. Correct that"),
        ([[0, 0], [5, 5], [9, 9]], r"must have an area, but the 3 corners of this one lie on one line\. Pass corners"),
        ([[0, 0], [5, 0], [9, 0]], r"must have an area"),
        ([[0, 0], [9, 9], [9, 0], [0, 9]], r"must not cross itself\. Put its corners in order around it"),
        ([[0, 0], [4, 4], [9, 9], [9, 0], [4, 4], [0, 9]], r"must not cross itself"),
        ([[50, 0], [80, 95], [2, 35], [98, 35], [20, 95]], r"must not cross itself"),
        ([["a", 0], [1, 0], [1, 1]], r"A polygon must be P corners \[x, y\] in image pixels: .* Pass numbers"),
    ],
)
def test_other_polygons_are_refused(poses: Poses, zone: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        zone_probability(poses, zone)


def test_other_risks_and_poses_are_refused(poses: Poses, contract: ModelContract, fake_runtime: Any) -> None:
    for risk in (0, 1, 5, float("nan"), True):
        with pytest.raises(InputError, match=r"The risk must lie between 0 and 1, got .* Pass 0\.01 for one percent"):
            zone_probability(poses, STAR).certainly_elsewhere(risk)
    plain = PoseEstimator(fake_runtime(), contract)(IMAGE, BOXES)
    with pytest.raises(InputError, match="need calibrated maps, but these poses have no maps"):
        zone_probability(plain, STAR)
