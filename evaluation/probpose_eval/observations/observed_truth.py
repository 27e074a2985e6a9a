"""What is true of the keypoints that a model was observed on: where they are, whether in view, how well it met them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import AnnotationError
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons
from probpose_eval.evaluate import truth_arrays
from probpose_eval.metrics.domain_areas import areas_of_keypoints, inside_pictures
from probpose_eval.metrics.oks import OksRule, Truth, keypoint_oks
from probpose_eval.metrics.presence import presence_truth
from probpose_eval.observations.observe import Observations
from probpose_eval.observations.observed_results import results_at


@dataclass(frozen=True, kw_only=True, eq=False)
class ObservedTruth:
    """Of P persons with K keypoints, in the order of the observations.

    Attributes
    ----------
    truth: the persons as arrays. image_index: (P,) position of their image among all by rising id.
    labelled: (P, K) bool, v > 0. placed: v = 1 or 2.
    present, absent: (P, K) bool, keypoints known to be in the activation window, and known not to be.
    visible: (P, K) bool, v = 2 and inside the picture: a border that cuts a keypoint off occludes it.
    areas: (P, K) ``"A"`` … ``"E"`` or ``""``, see `areas_of_keypoints`.
    oks, ex_oks: (P, K) float64 of the observed keypoints; NaN where not placed, and where not labelled.
    """

    truth: Truth
    image_index: NDArray[np.intp]
    labelled: NDArray[np.bool_]
    placed: NDArray[np.bool_]
    present: NDArray[np.bool_]
    absent: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    areas: NDArray[np.str_]
    oks: NDArray[np.float64]
    ex_oks: NDArray[np.float64]

    @property
    def person_oks(self) -> NDArray[np.float64]:
        """(P,) OKS of whole persons."""
        return _mean_of_counted(self.oks)

    @property
    def person_ex_oks(self) -> NDArray[np.float64]:
        """(P,) Ex-OKS of whole persons."""
        return _mean_of_counted(self.ex_oks)


def observed_truth(annotations: AnnotationSet, observations: Observations, rule: OksRule) -> ObservedTruth:
    """The truth beside observations of a set; `rule` says the threshold, window and definition of Ex-OKS.

    Raises `AnnotationError` if the observations are not of the labelled persons of this set, in its order.
    """
    persons = labelled_persons(annotations)
    ids = [person.id for person in persons]
    if observations.annotation_ids.tolist() != ids or observations.keypoints.shape[1] != len(
        annotations.keypoint_names
    ):
        raise AnnotationError(
            f"Observations must be of the {len(ids)} labelled persons of the set, in its order and with its "
            f"{len(annotations.keypoint_names)} keypoints, but came for {len(observations)} persons with "
            f"{observations.keypoints.shape[1]}. Observe this set."
        )
    truth = truth_arrays(persons, annotations)
    placed, labelled = truth.counted((1, 2)), truth.counted((1, 2, 3))
    present, absent = presence_truth(truth, padding=rule.padding, input_wh=rule.input_wh)
    keypoints = results_at(observations, rule.presence_threshold).keypoints
    plain, extended = (dataclasses.replace(rule, extended=extended) for extended in (False, True))
    return ObservedTruth(
        truth=truth,
        image_index=np.searchsorted(np.array(sorted(annotations.images), dtype=np.int64), observations.image_ids),
        labelled=labelled,
        placed=placed,
        present=present,
        absent=absent,
        visible=truth.counted((2,)) & inside_pictures(annotations, persons),
        areas=areas_of_keypoints(annotations, persons, input_wh=rule.input_wh, padding=rule.padding),
        oks=keypoint_oks(truth, keypoints, plain, placed),
        ex_oks=keypoint_oks(truth, keypoints, extended, labelled),
    )


def _mean_of_counted(values: NDArray[np.float64]) -> NDArray[np.float64]:
    counted = np.isfinite(values)
    return np.asarray(np.where(counted, values, 0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1))
