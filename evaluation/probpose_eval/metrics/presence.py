"""How often a model is right about whether a keypoint is in the activation window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import AnnotationError
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons
from probpose_eval.annotations.windows import inside_windows, person_windows
from probpose_eval.evaluate import result_of_person, truth_arrays
from probpose_eval.metrics.oks import OksRule, Truth
from probpose_eval.results import Result, result_arrays


@dataclass(frozen=True, kw_only=True)
class PresenceAccuracy:
    """Counts over keypoints whose presence is known, at one threshold; shares are None where their ground is empty.

    Attributes
    ----------
    threshold: a keypoint is said to be present if its presence probability is at least this.
    present, absent: keypoints that are in the window, and that are not.
    present_found, absent_found: those of them about which the model is right.
    """

    threshold: float
    present: int
    absent: int
    present_found: int
    absent_found: int

    @property
    def accuracy(self) -> float | None:
        """Share of right answers."""
        total = self.present + self.absent
        return (self.present_found + self.absent_found) / total if total else None

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of the shares among present and among absent keypoints (as on the paper's balanced subset, fig. 5)."""
        if not (self.present and self.absent):
            return None
        return (self.present_found / self.present + self.absent_found / self.absent) / 2


def presence_accuracy(
    annotations: AnnotationSet,
    results: Sequence[Result],
    *,
    thresholds: Sequence[float] = (0.5,),
    padding: float = 1.25,
    input_wh: tuple[int, int] = (192, 256),
) -> tuple[PresenceAccuracy, ...]:
    """Accuracy per threshold, over the labelled persons and the results made from their boxes (see `mean_oks`).

    Known to be present: v = 1 or 2, inside the window of the true box. Known to be absent: v = 3, and v = 1 or 2
    outside the window. Unlabelled keypoints (v = 0) are left out, and so are persons without a result.

    Raises `AnnotationError` for results that name no persons of this set, `InputError` for a threshold outside [0, 1].
    """
    rules = [OksRule(presence_threshold=threshold, padding=padding, input_wh=input_wh) for threshold in thresholds]
    persons = labelled_persons(annotations)
    rows = result_of_person(persons, results)
    found = rows >= 0
    if persons and not found.any():
        raise AnnotationError(
            "Presence accuracy needs results made from the true boxes, named by annotation_id or one per labelled "
            f"person in file order, but none of the {len(results)} results fits. Predict from the true boxes."
        )
    truth = truth_arrays([p for p, has_result in zip(persons, found, strict=True) if has_result], annotations)
    present, absent = presence_truth(truth, padding=padding, input_wh=input_wh)
    said = result_arrays(results, annotations).keypoints[rows[found], :, 2]
    return tuple(
        PresenceAccuracy(
            threshold=rule.presence_threshold,
            present=int(present.sum()),
            absent=int(absent.sum()),
            present_found=int((present & (said >= rule.presence_threshold)).sum()),
            absent_found=int((absent & (said < rule.presence_threshold)).sum()),
        )
        for rule in rules
    )


def presence_truth(
    truth: Truth, *, padding: float = 1.25, input_wh: tuple[int, int] = (192, 256)
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(G, K) bool twice: keypoints known to be present, and keypoints known to be absent."""
    windows = person_windows(truth.boxes_xyxy, input_wh=input_wh, padding=padding)
    inside = inside_windows(truth.keypoints[..., :2], windows)
    placed = truth.counted((1, 2))
    return placed & inside, (placed & ~inside) | truth.counted((3,))
