"""Predict a whole annotated set from its true boxes, through the SDK."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probpose_edge import Poses, box_to_window, crop_windows, poses_to_coco
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_edge.tracking.track import Estimates
from probpose_eval.annotations.coco import AnnotationSet, ImageEntry, Person, labelled_persons
from probpose_eval.pictures import read_picture

Progress = Callable[[int, int], None]
"""Called with (persons done, persons in all)."""


class EstimatesCrops(Estimates, Protocol):
    """What is needed of a `PoseEstimator` or a `RoutedEstimator`."""

    def predict_crops(
        self,
        crops: NDArray[np.uint8],
        windows: NDArray[np.floating],
        *,
        boxes_xyxy: NDArray[np.floating] | None = None,
    ) -> Poses: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class CropBatch:
    """Crops of N labelled persons, ready for any model with this input size and padding.

    Attributes
    ----------
    crops: (N, H, W, 3) uint8 RGB. windows: (N, 4) ``[center_x, center_y, width, height]`` px. boxes_xyxy: (N, 4) px.
    persons: the N annotated persons.
    """

    crops: NDArray[np.uint8]
    windows: NDArray[np.float64]
    boxes_xyxy: NDArray[np.float64]
    persons: tuple[Person, ...]


def predict_set(
    estimator: EstimatesCrops,
    annotations: AnnotationSet,
    images_dir: str | os.PathLike[str],
    *,
    batch: int = 16,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """COCO results of one estimator for every labelled person of a set, from the true boxes, in file order.

    Labelled persons are those of `labelled_persons`: no crowd, and at least one keypoint with v = 1 or 2. Each result
    is what the SDK writes, plus ``annotation_id``, the person its box came from. `batch` crops run at once.

    Raises `AnnotationError` or `ImageReadError` for pictures that are missing or do not fit, for boxes without area,
    and for a model with other keypoints.
    """
    return predict_set_with_all([estimator], annotations, images_dir, batch=batch, progress=progress)[0]


def predict_set_with_all(
    estimators: Sequence[EstimatesCrops],
    annotations: AnnotationSet,
    images_dir: str | os.PathLike[str],
    *,
    batch: int = 16,
    progress: Progress | None = None,
) -> list[list[dict[str, Any]]]:
    """One result list per estimator, as `predict_set`; pictures are read and cut once for estimators that cut alike."""
    check_keypoints(estimators, annotations)
    cuts = list(dict.fromkeys((e.contract.input_wh, e.contract.padding) for e in estimators))
    total, done = len(labelled_persons(annotations)) * len(cuts), 0
    results: list[list[dict[str, Any]]] = [[] for _ in estimators]
    for input_wh, padding in cuts:
        for crops in iterate_crops(annotations, images_dir, input_wh=input_wh, padding=padding, batch=batch):
            for estimator, rows in zip(estimators, results, strict=True):
                if (estimator.contract.input_wh, estimator.contract.padding) == (input_wh, padding):
                    rows.extend(results_from_crops(estimator, crops, category_id=annotations.category_id))
            done += len(crops.persons)
            if progress is not None:
                progress(done, total)
    order = {person.id: index for index, person in enumerate(annotations.persons)}
    return [sorted(rows, key=lambda row: order[row["annotation_id"]]) for rows in results]


def check_keypoints(estimators: Sequence[EstimatesCrops], annotations: AnnotationSet) -> None:
    """Raise `AnnotationError`, naming the model, unless every model has the keypoints of the set."""
    for estimator in estimators:
        if estimator.contract.keypoint_names != annotations.keypoint_names:
            raise AnnotationError(
                f"A model must have the keypoints of the set ({', '.join(annotations.keypoint_names)}), but "
                f"{estimator.contract.model} has {', '.join(estimator.contract.keypoint_names)}. Use a matching set."
            )


def iterate_crops(
    annotations: AnnotationSet,
    images_dir: str | os.PathLike[str],
    *,
    input_wh: tuple[int, int] = (192, 256),
    padding: float = 1.25,
    batch: int = 16,
) -> Iterator[CropBatch]:
    """Crops of all labelled persons, image by image in file order, `batch` at a time (the last one may be smaller).

    Raises as `predict_set`, and `InputError` for a batch below 1.
    """
    if batch < 1:
        raise InputError(f"The batch must be at least 1, got {batch}. Use for example 16.")
    waiting: list[tuple[NDArray[np.uint8], NDArray[np.float64], Person]] = []
    groups: dict[int, list[Person]] = {}
    for person in labelled_persons(annotations):
        groups.setdefault(person.image_id, []).append(person)
    for image_id, persons in groups.items():
        waiting.extend(_cut_image(annotations.images[image_id], persons, images_dir, input_wh, padding))
        while len(waiting) >= batch:
            yield _join(waiting[:batch])
            waiting = waiting[batch:]
    if waiting:
        yield _join(waiting)


def results_from_crops(estimator: EstimatesCrops, crops: CropBatch, *, category_id: int = 1) -> list[dict[str, Any]]:
    """COCO results of one estimator for crops cut before, each with its ``annotation_id``."""
    poses = estimator.predict_crops(crops.crops, crops.windows, boxes_xyxy=crops.boxes_xyxy)
    results = []
    for index, person in enumerate(crops.persons):
        result = poses_to_coco(poses.select([index]), image_id=person.image_id, category_id=category_id)[0]
        results.append({**result, "annotation_id": person.id})
    return results


def _cut_image(
    entry: ImageEntry,
    persons: Sequence[Person],
    images_dir: str | os.PathLike[str],
    input_wh: tuple[int, int],
    padding: float,
) -> list[tuple[NDArray[np.uint8], NDArray[np.float64], Person]]:
    picture = read_picture(images_dir, entry)
    cut = []
    for person in persons:
        try:
            window = box_to_window(person.bbox_xyxy, input_wh, padding)
        except InputError as error:
            raise AnnotationError(
                f"A labelled person must have a box with area, but annotation {person.id} has not: {error} "
                "Correct its bbox, or remove its keypoints."
            ) from error
        cut.append((crop_windows(picture, window, input_wh)[0], window[0], person))
    return cut


def _join(cut: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64], Person]]) -> CropBatch:
    return CropBatch(
        crops=np.stack([crop for crop, _, _ in cut]),
        windows=np.stack([window for _, window, _ in cut]),
        boxes_xyxy=np.stack([person.bbox_xyxy for _, _, person in cut]),
        persons=tuple(person for _, _, person in cut),
    )
