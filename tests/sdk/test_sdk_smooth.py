from __future__ import annotations

import numpy as np
import pytest

from probpose_edge import InputError, map_covariances
from probpose_edge.tracking.associate import box_iou, box_nearness, match_greedily, pose_oks
from probpose_edge.tracking.smooth import predict, start, update


def test_covariances_are_those_of_the_cells_in_pixels() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((2, 3, 16, 12)).astype(np.float32) ** 6
    maps /= maps.sum((2, 3), keepdims=True)
    windows = np.array([[10.0, 20, 110, 150], [5, 5, 55, 300]])
    found = map_covariances(maps, windows)
    y, x = np.mgrid[:16, :12]
    for n, k in np.ndindex(2, 3):
        places = np.stack([x.ravel() / 11 * windows[n, 2], y.ravel() / 15 * windows[n, 3]])
        expected = np.cov(places, aweights=maps[n, k].ravel(), bias=True)
        np.testing.assert_allclose(found[n, k], expected, rtol=1e-3, atol=1e-2)
    assert map_covariances(maps[:0], windows[:0]).shape == (0, 3, 2, 2)
    with pytest.raises(InputError, match=r"Maps must have shape \(N, K, H, W\) and windows \(N, 4\), got"):
        map_covariances(maps, windows[:1])


def filtered(points: np.ndarray, spread: np.ndarray, acceleration: float = 50.0) -> np.ndarray:
    mean, covariance = start(points[0], spread[0], 300.0)
    result = [mean[:2]]
    for point, noise in zip(points[1:], spread[1:], strict=True):
        mean, covariance = predict(mean, covariance, 1 / 30, acceleration)
        mean, covariance = update(mean, covariance, point, noise)
        result.append(mean[:2])
    return np.array(result)


def test_noise_is_smoothed_and_steady_motion_is_not_late() -> None:
    rng = np.random.default_rng(1)
    true = np.stack([np.arange(200) * 4.0, np.full(200, 50.0)], axis=1)
    noisy = true + rng.normal(0, 3, true.shape)
    smooth = filtered(noisy, np.tile(9 * np.eye(2), (200, 1, 1)))
    assert (smooth - true)[50:].std() < 0.6 * (noisy - true)[50:].std()
    assert abs((smooth - true)[50:].mean()) < 0.5


def test_a_wide_map_hardly_moves_a_keypoint_and_only_along_its_wide_axis() -> None:
    points = np.tile([100.0, 100.0], (30, 1))
    points[20] = [130, 130]
    spread = np.tile(4 * np.eye(2), (30, 1, 1))
    trusted = filtered(points, spread)[20]
    spread[20] = np.diag([900.0, 4.0])
    doubted = filtered(points, spread)[20]
    assert trusted[0] - 100 > 5 * (doubted[0] - 100)
    np.testing.assert_allclose(doubted[1], trusted[1])


def test_oks_of_poses_counts_keypoints_present_in_both() -> None:
    a = np.array([[[0.0, 0], [10, 0], [0, 10], [10, 10]]])
    b = np.concatenate([a, a + 5])
    sigmas, areas = np.full(4, 0.1), np.full((1, 2), 100.0)
    present = np.ones((1, 4), bool)
    both = np.ones((2, 4), bool)
    expected = [1.0, np.exp(-50 / (2 * 100 * 0.04))]
    np.testing.assert_allclose(pose_oks(a, present, b, both, areas, sigmas)[0], expected)
    b[0, 0] = [1e6, 0]
    both[0, 0] = False
    assert pose_oks(a, present, b, both, areas, sigmas)[0, 0] == 1.0
    both[0, 1] = False
    assert pose_oks(a, present, b, both, areas, sigmas)[0, 0] == 0.0  # two in common are too few


def test_boxes_compared() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 20]])
    np.testing.assert_allclose(box_iou(boxes, boxes), [[1, 0.5], [0.5, 1]])
    near = box_nearness(boxes[:1], np.array([10.0]), np.array([[0, 0, 10, 10], [10, 0, 20, 10], [0, 0, 5, 25.0]]), 1.0)
    np.testing.assert_allclose(near, [[1, np.exp(-0.5), 0]])
    assert box_iou(boxes[:0], boxes).shape == (0, 2)
    assert box_nearness(boxes[:0], np.zeros(0), boxes, 1.0).shape == (0, 2)


def test_pairs_are_made_from_the_most_similar_on() -> None:
    similarity = np.array([[0.9, 0.8], [0.85, 0.1], [0.2, 0.3]])
    assert match_greedily(similarity, 0.25) == [(0, 0), (2, 1)]
    assert match_greedily(similarity, 0.95) == []
    # A refused column stays without a partner.
    assert match_greedily(similarity, 0.05, accept=lambda column: column != 0) == [(0, 1)]
    assert match_greedily(np.zeros((0, 3)), 0.1) == []
