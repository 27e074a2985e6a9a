"""A worst picture side by side: the person's window, the reference left, the file right, moves marked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probpose_edge import COCO_17, PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_eval import AnnotationSet, read_annotations
from probpose_eval.observations.drift import measure_drift
from probpose_eval.observations.observe import Observations, observe_set
from probpose_eval.report.draw_drift import draw_drift

Make = Callable[..., PoseEstimator]


@pytest.fixture
def observed(photographed: tuple[Path, Path], template_estimator: Make) -> tuple[AnnotationSet, Path, Observations]:
    annotations = read_annotations(photographed[0])
    ((observations, _),) = observe_set([template_estimator()], annotations, photographed[1])
    return annotations, photographed[1], observations


def halves(drawing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = (drawing.shape[1] - 6) // 2
    return drawing[:, :width], drawing[:, -width:]


def test_the_moved_keypoint_is_seen_on_the_right(observed: tuple[AnnotationSet, Path, Observations]) -> None:
    annotations, folder, reference = observed
    keypoints = reference.keypoints.copy()
    keypoints[3, 9, 0] -= 0.3 * reference.windows[3, 2]
    file = dataclasses.replace(reference, keypoints=keypoints)
    (worst,) = measure_drift(annotations, reference, file, None).worst_pictures
    drawing = draw_drift(annotations, folder, worst, reference, file, COCO_17, height_px=200)
    assert drawing.shape == (200, 2 * 150 + 6, 3)
    left, right = halves(drawing)
    assert (drawing[:, 150:156] == 255).all()
    magenta = np.minimum(right[..., 0], right[..., 2]).astype(int) - right[..., 1] > 100
    rows, columns = np.nonzero(magenta & (left != right).any(axis=2))
    assert len(rows) > 10
    # Keypoint 9 is at cell (19, 30) of 48 × 64.
    assert abs(columns.max() - 19 / 47 * 149) < 3
    assert abs(rows.mean() - 30 / 63 * 199) < 2
    changed = np.nonzero((left != right).any(axis=(1, 2)))[0]
    assert changed.min() > 50, "nothing but what is drawn for that arm differs"
    same = halves(draw_drift(annotations, folder, worst, reference, reference, COCO_17, height_px=200))
    assert np.array_equal(same[0], left)
    assert np.array_equal(*same)


def test_beyond_the_picture_it_is_grey(observed: tuple[AnnotationSet, Path, Observations]) -> None:
    annotations, folder, reference = observed
    windows = reference.windows.copy()
    windows[0] = (0, 0, 90, 120)
    moved = dataclasses.replace(reference, windows=windows, keypoints=reference.keypoints - 1000)
    (worst,) = measure_drift(
        annotations, moved, dataclasses.replace(moved, presence=moved.presence - (np.arange(10) == 0)[:, None]), None
    ).worst_pictures
    left, _ = halves(draw_drift(annotations, folder, worst, moved, moved, COCO_17, height_px=120))
    assert (left[:50, :40] == 70).all()
    assert left[70:, 50:].std() > 30, "the noise of the picture"


def test_drawings_need_what_was_observed(observed: tuple[AnnotationSet, Path, Observations]) -> None:
    annotations, folder, reference = observed
    file = dataclasses.replace(reference, keypoints=reference.keypoints + 5)
    worst = measure_drift(annotations, reference, file, None).worst_pictures[0]
    unknown = dataclasses.replace(worst, annotation_id=999)
    with pytest.raises(InputError, match=r"annotation 999 was not\. Pass the observations"):
        draw_drift(annotations, folder, unknown, reference, file, COCO_17)
    with pytest.raises(InputError, match="must be at least 32 px, got 8"):
        draw_drift(annotations, folder, worst, reference, file, COCO_17, height_px=8)
