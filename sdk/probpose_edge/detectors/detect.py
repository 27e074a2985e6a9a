"""Detectors: whatever says where persons are. None is shipped; any callable will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.boxes import FARTHEST
from probpose_edge.exceptions import InputError

MOST_PERSONS = 100
"""Persons of one picture at most: a detector that finds thousands must not stop a program for minutes."""


class Detector(Protocol):
    """Finds persons: a function, or any object that can be called like this."""

    def __call__(self, image_bgr: NDArray[np.uint8], /) -> tuple[ArrayLike, ArrayLike]:
        """Boxes (N, 4) xyxy px and scores (N,) in [0, 1] of the persons on an (H, W, 3) uint8 BGR image."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """Persons that a detector found, best first.

    Attributes
    ----------
    boxes: (N, 4) float64 xyxy, image pixels; they may reach beyond the picture.
    scores: (N,) float64.
    unusable: boxes that were left out because they are not finite, reversed, without area or off the picture.
    surplus: boxes that were left out because there were more than `MOST_PERSONS`, the worst of them.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    unusable: int = 0
    surplus: int = 0


def detect(
    detector: Detector, image_bgr: NDArray[np.uint8], *, min_score: float = 0.0, most: int = MOST_PERSONS
) -> Detections:
    """Ask a detector and keep what can be used: a bad box is left out and counted, it does not stop a video.

    image_bgr: (H, W, 3) uint8 BGR. min_score: worse boxes are left out, uncounted. most: how many are kept.

    Raises `InputError` if the detector returns something else than boxes (N, 4) and scores (N,).
    """
    answer: Any = detector(image_bgr)
    try:
        boxes, scores = (np.asarray(part, dtype=np.float64) for part in answer)
    except (TypeError, ValueError) as error:
        raise _no_detections(type(answer).__name__) from error
    if boxes.size == 0 and scores.size == 0:
        return Detections(boxes=np.zeros((0, 4)), scores=np.zeros(0))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise _no_detections(f"arrays of shape {boxes.shape} and {scores.shape}")
    usable = _usable(boxes, scores, (image_bgr.shape[1], image_bgr.shape[0]))
    kept = np.flatnonzero(usable)[scores[usable] >= min_score]
    best = kept[np.argsort(-scores[kept], kind="stable")]
    return Detections(
        boxes=boxes[best[:most]],
        scores=scores[best[:most]],
        unusable=int(np.count_nonzero(~usable)),
        surplus=max(len(best) - most, 0),
    )


def _usable(boxes: NDArray[np.float64], scores: NDArray[np.float64], image_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """(N,) bool: what `check_boxes` takes, and a finite score."""
    size = np.array(image_wh)
    reach = FARTHEST * size.max()
    with np.errstate(invalid="ignore"):
        good = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
        good &= (boxes[:, :2] < size).all(axis=1)
        good &= (boxes[:, :2] >= -reach).all(axis=1) & (boxes[:, 2:] <= size + reach).all(axis=1)
    return np.asarray(good & np.isfinite(scores))


def _no_detections(what: str) -> InputError:
    return InputError(
        f"A detector must return boxes (N, 4) [x1, y1, x2, y2] in pixels and scores (N,), got {what}. Wrap it in a "
        "function that does."
    )
