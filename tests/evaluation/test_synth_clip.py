"""Drawn clips, and the shipped weights following a person on one."""

from __future__ import annotations

import numpy as np
import pytest

from probpose_edge import InputError, PoseEstimator, PoseTracker
from probpose_eval.synth.clip import draw_clip


def test_clips_are_the_same_for_the_same_seed_and_know_who_is_where() -> None:
    paths = [np.stack([np.linspace(80, 500, 4), np.full(4, 120.0)], axis=1), np.tile([160.0, 130.0], (4, 1))]
    first, again = (
        list(draw_clip(np.random.default_rng(3), paths, [130, 160], width=320, height=240)) for _ in range(2)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert a.image.shape == (240, 320, 3)
        assert a.keypoints.shape == (2, 17, 2)
    moved = first[1].keypoints[0] - first[0].keypoints[0]
    np.testing.assert_allclose(moved, np.tile([140, 0], (17, 1)), atol=1e-9)
    assert first[3].areas[0] == 0  # beyond the border
    assert (first[3].keypoints[0, :, 0] > 320).all()
    x1, y1, x2, y2 = first[0].boxes[1]
    inside = first[0].keypoints[1]
    assert (inside > [x1 - 1, y1 - 1]).all()
    assert (inside < [x2 + 1, y2 + 1]).all()


def test_paths_must_fit_together() -> None:
    with pytest.raises(InputError, match=r"paths of one length and a height each, got 2 paths of \[3, 4\] frames"):
        next(draw_clip(np.random.default_rng(0), [np.zeros((3, 2)), np.zeros((4, 2))], [100, 100]))


def test_a_person_walking_out_of_the_picture_and_back() -> None:
    """With the shipped weights: identity kept, keypoints beyond the window said absent, no drift of the box."""
    pytest.importorskip("onnxruntime", reason="needs a runtime for the shipped weights")
    x = np.concatenate([np.linspace(160, 420, 22), np.linspace(420, 160, 22)])
    path = np.stack([x, np.full(len(x), 125.0)], axis=1)
    clip = list(draw_clip(np.random.default_rng(5), [path], [160], width=320, height=240))
    now = clip[0]
    with PoseEstimator.open(threads=1) as estimator:
        tracker = PoseTracker(estimator, lambda image: (now.boxes[now.areas > 200], np.ones((now.areas > 200).sum())))
        results = []
        for now in clip:
            results.append(tracker(now.image))
    assert {identity for result in results for identity in result.identities.tolist()} == {1}
    gone = [index for index, result in enumerate(results) if len(result) == 0]
    assert gone
    assert all(clip[index].areas[0] < 2000 for index in gone)
    for index in (0, 10, len(clip) - 5, len(clip) - 1):  # whole in the picture
        true, box = clip[index].boxes[0], results[index].poses.boxes[0]
        assert np.abs(box - true).max() < 0.2 * (true[3] - true[1])
        error = np.linalg.norm(results[index].poses.keypoints[0] - clip[index].keypoints[0], axis=1)
        assert np.median(error) < 0.06 * 160


def test_a_person_sinking_out_of_the_picture_and_rising_again() -> None:
    """With the shipped weights: legs beyond the window are absent meanwhile, and the box is whole again afterwards."""
    pytest.importorskip("onnxruntime", reason="needs a runtime for the shipped weights")
    y = np.concatenate([np.linspace(125, 285, 26), np.linspace(285, 125, 26)])
    path = np.stack([np.linspace(130, 190, len(y)), y], axis=1)
    clip = list(draw_clip(np.random.default_rng(5), [path], [160], width=320, height=240))
    now = clip[0]
    beyond: list[bool] = []
    within: list[bool] = []
    errors: list[float] = []
    identities: set[int] = set()
    with PoseEstimator.open(threads=1) as estimator:
        tracker = PoseTracker(estimator, lambda image: (now.boxes[now.areas > 200], np.ones((now.areas > 200).sum())))
        for now in clip:
            result = tracker(now.image)
            identities |= set(result.identities.tolist())
            for window, present in zip(result.poses.windows, result.poses.present, strict=True):
                offset = np.abs(now.keypoints[0] - window[:2]) / (window[2:] / 2)
                beyond += present[(offset > 1.1).any(axis=1)].tolist()
                within += present[(now.keypoints[0] < [320, 240]).all(axis=1)].tolist()
            errors += (np.abs(result.poses.boxes - now.boxes).max(axis=1) / 160).tolist()
    assert identities == {1}
    assert len(beyond) > 50
    assert np.mean(beyond) < 0.05
    assert np.mean(within) > 0.9
    assert max(errors[-5:]) < 0.2
    assert max(errors) < 0.3
