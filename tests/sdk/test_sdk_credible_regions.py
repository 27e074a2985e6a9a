"""Credible regions: masks against a loop, outlines that enclose them exactly, moments of places drawn from maps."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from probpose_edge import InputError, ModelContract, PoseEstimator, Poses, cells_to_image, credible_regions
from probpose_edge.probabilities.outline import mask_outlines
from probpose_edge.probabilities.polygon_shares import cell_borders, polygon_shares

IMAGE = np.zeros((120, 160, 3), np.uint8)
BOXES = [[20.0, 10, 60, 100], [80, 30, 140, 110], [0, 0, 50, 90]]
WH = (12, 16)


@pytest.fixture
def poses(contract: ModelContract, fake_runtime: Callable[..., Any]) -> Poses:
    calibrated = contract.replace(calibration={"coverage_temperature": 4.0, "lost_share": 0.05})
    found = PoseEstimator(fake_runtime(), calibrated)(IMAGE, BOXES, return_maps="calibrated")
    maps = np.random.default_rng(0).dirichlet(np.full(192, 0.2), (3, 5)).reshape(3, 5, 16, 12).astype(np.float32)
    assert found.maps is not None
    found.maps[1:] = maps[1:]
    return found


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9, 0.999])
def test_regions_are_the_most_probable_cells(poses: Poses, level: float) -> None:
    found = credible_regions(poses, level)
    assert found.mask.shape == (3, 5, 16, 12)
    assert len(found) == 3
    for n, k in np.ndindex(3, 5):
        cells = poses.maps[n, k].ravel().astype(np.float64)
        total, chosen = 0.0, set()
        for cell in np.argsort(-cells, kind="stable"):
            chosen.add(int(cell))
            total += cells[cell]
            if total >= level - 1e-6:
                break
        # Ties of the last cell belong to the region, too.
        chosen |= set(np.flatnonzero(cells == min(cells[list(chosen)])))
        assert set(np.flatnonzero(found.mask[n, k])) == chosen
        assert found.mass[n, k] == pytest.approx(cells[list(chosen)].sum())
        assert found.mass[n, k] >= level - 1e-6


def test_regions_grow_with_their_level(poses: Poses) -> None:
    masks = [credible_regions(poses, level).mask for level in (0.2, 0.5, 0.8, 0.95)]
    for smaller, larger in itertools.pairwise(masks):
        assert (larger | ~smaller).all()
        assert larger.sum() > smaller.sum()


def test_mean_and_covariance_are_those_of_places_drawn_from_the_map(poses: Poses) -> None:
    found = credible_regions(poses, 0.5)
    rng = np.random.default_rng(1)
    for n, k in ((0, 0), (2, 3)):
        drawn = rng.choice(192, 200_000, p=poses.maps[n, k].ravel() / poses.maps[n, k].sum(dtype=np.float64))
        cells = np.stack([drawn % 12, drawn // 12], axis=1)
        places = cells_to_image(cells[None].astype(float), poses.windows[n : n + 1], WH)[0]
        np.testing.assert_allclose(found.mean[n, k], places.mean(axis=0), atol=0.4)
        np.testing.assert_allclose(found.covariance[n, k], np.cov(places.T), rtol=0.02, atol=5)


def test_a_map_in_one_cell_has_that_cell(poses: Poses) -> None:
    assert poses.maps is not None
    poses.maps[0, 0] = 0
    poses.maps[0, 0, 5, 7] = 1
    found = credible_regions(poses, 0.99)
    assert np.argwhere(found.mask[0, 0]).tolist() == [[5, 7]]
    place = cells_to_image(np.array([[[7.0, 5]]]), poses.windows[:1], WH)[0, 0]
    np.testing.assert_allclose(found.mean[0, 0], place)
    np.testing.assert_allclose(found.covariance[0, 0], 0, atol=1e-9)
    (ring,) = found.polygons(0, 0)
    size = poses.windows[0, 2:] / (11, 15)
    np.testing.assert_allclose(ring.min(axis=0), place - size / 2)
    np.testing.assert_allclose(ring.max(axis=0), place + size / 2)
    assert len(ring) == 4


def test_polygons_enclose_exactly_the_region(poses: Poses) -> None:
    assert poses.maps is not None
    poses.maps[2, 4] = 0  # a ring around a hole
    poses.maps[2, 4, 5:10, 4:9] = 1 / 24
    poses.maps[2, 4, 7, 6] = 0
    found = credible_regions(poses, 0.7)
    holes = 0
    for n, k in np.ndindex(3, 5):
        total = np.zeros((16, 12))
        for ring in found.polygons(n, k):
            after = np.roll(ring, -1, axis=0)
            way = np.sign((ring[:, 0] * after[:, 1] - ring[:, 1] * after[:, 0]).sum())
            holes += way < 0
            total += way * polygon_shares(ring, poses.windows[n : n + 1], WH)[0]
        np.testing.assert_allclose(total, found.mask[n, k], atol=1e-9)
    assert holes > 0


def test_outlines_of_known_masks() -> None:
    mask = np.zeros((5, 5), dtype=bool)
    assert mask_outlines(mask) == []
    mask[1:4, 1:4] = True
    mask[2, 2] = False
    outer, hole = sorted(mask_outlines(mask), key=lambda ring: -len(np.unique(ring, axis=0)) * np.ptp(ring))
    assert {tuple(corner) for corner in outer} == {(1, 1), (4, 1), (4, 4), (1, 4)}
    assert {tuple(corner) for corner in hole} == {(2, 2), (3, 2), (3, 3), (2, 3)}
    assert len(mask_outlines(np.eye(4, dtype=bool))) == 4
    assert len(mask_outlines(np.ones((3, 2), dtype=bool))[0]) == 4


def test_random_outlines_fill_their_masks() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        mask = rng.random((9, 7)) < rng.uniform(0.2, 0.8)
        # Corners times 8, moved by half a pixel: the borders of cells of 8 pixels, which fillPoly would draw on.
        rings = [(ring * 8).astype(np.int32) for ring in mask_outlines(mask)]
        drawn = cv2.fillPoly(np.zeros((73, 57), np.uint8), rings, 1)
        assert (drawn[4::8, 4::8].astype(bool) == mask).all()
        assert all((np.abs(ring - np.roll(ring, 1, axis=0)) > 0).any(axis=1).all() for ring in rings)


def test_cells_are_half_as_wide_at_the_border() -> None:
    assert cell_borders(5).tolist() == [0, 0.5, 1.5, 2.5, 3.5, 4]
    assert cell_borders(2).tolist() == [0, 0.5, 1]


def test_two_maps_lie_over_the_larger_window(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    runtime = fake_runtime()
    alone = runtime.run
    runtime.run = lambda crops: dataclasses.replace(raw := alone(crops), expert_logits=raw.logits)
    wide = contract.replace(window_ratio=1.5, calibration={"coverage_temperature": 0.1, "lost_share": 0.0})
    found = PoseEstimator(runtime, wide)(IMAGE, BOXES[:1], return_maps="calibrated")
    one = credible_regions(found, 0.9)
    # The peak of keypoint 0 is in cell (6, 2) of a window 1.5 times as large as the crop's.
    np.testing.assert_allclose(
        one.mean[0, 0], cells_to_image(np.array([[[6.0, 2]]]), found.windows, WH)[0, 0], atol=0.5
    )
    assert found.windows[0, 3] == pytest.approx(90 * 1.25 * 1.5)


def test_nobody_has_no_regions(poses: Poses) -> None:
    found = credible_regions(poses.select([]), 0.9)
    assert found.mask.shape == (0, 5, 16, 12)
    assert found.mean.shape == (0, 5, 2)
    assert found.covariance.shape == (0, 5, 2, 2)


@pytest.mark.parametrize("level", [0, 1, -0.1, 90, float("nan"), True, "0.9"])
def test_other_levels_are_refused(poses: Poses, level: Any) -> None:
    with pytest.raises(InputError, match=r"The level of a region must lie between 0 and 1, got .* Pass 0\.9 for 90"):
        credible_regions(poses, level)


def test_poses_without_calibrated_maps_are_refused(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    estimator = PoseEstimator(fake_runtime(), contract)
    with pytest.raises(
        InputError, match=r'these poses have no maps\. Call the estimator with return_maps="calibrated"'
    ):
        credible_regions(estimator(IMAGE, BOXES), 0.9)
    with pytest.raises(InputError, match=r"these poses have maps that are not calibrated\. Call the estimator"):
        credible_regions(estimator(IMAGE, BOXES, return_maps=True), 0.9)
    with pytest.raises(InputError, match=r"need a calibrated model, but this tiny has no .* Run `probpose-edge calib"):
        estimator(IMAGE, BOXES, return_maps="calibrated")


def test_heatmap_models_are_refused(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    runtime = fake_runtime()
    alone = runtime.run
    runtime.run = lambda crops: dataclasses.replace(alone(crops), presence=None, visibility=None, quality=None)
    plain = PoseEstimator(runtime, contract.replace(map_kind="heatmap", decode_kernel="argmax"))
    for maps in (False, True):
        with pytest.raises(InputError, match=r"these poses are of a plain heatmap model, which has none\. Use a ProbP"):
            credible_regions(plain(IMAGE, BOXES, return_maps=maps), 0.9)
    with pytest.raises(InputError, match=r"Calibrated maps need probability maps, but tiny is a plain heatmap network"):
        plain(IMAGE, BOXES, return_maps="calibrated")
