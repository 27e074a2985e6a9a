"""Boxes of a person detector, read from a COCO detection result file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.boxes import check_boxes
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_eval.annotations.coco import AnnotationSet
from probpose_eval.annotations.coco_fields import integer_field, number_array


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """N person boxes, images in the order of the set, the best box of an image first.

    Attributes
    ----------
    image_ids: (N,) int64. boxes_xyxy: (N, 4) float64 px. scores: (N,) float64 in [0, 1].
    read: how many boxes of persons the file holds.
    """

    image_ids: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    read: int

    def __len__(self) -> int:
        return len(self.scores)


def read_detections(
    path: str | os.PathLike[str],
    annotations: AnnotationSet,
    *,
    min_score: float = 0.0,
    most_per_image: int | None = None,
) -> Detections:
    """Read COCO detection results, a JSON list of ``image_id``, ``category_id``, ``bbox`` [left, top, width, height]
    and ``score``.

    Only boxes of the set's person category are taken, of those the ones with at least `min_score`, and of those the
    `most_per_image` best of each image (None: all).

    Raises `AnnotationError`, naming the first bad entry, for a file that is not one, for unknown images, boxes without
    area or outside their picture, and scores outside [0, 1]; also if no box is left. Raises `InputError` for bad
    settings.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"The detection file {path} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(
            f"A detection file must be JSON, but {path} is not: {error}. Give COCO detection results."
        ) from error
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
        raise AnnotationError(
            f"A detection file must hold a list of results, but {path} does not. Give COCO detection results."
        )
    return parse_detections(document, annotations, min_score=min_score, most_per_image=most_per_image, source=str(path))


def parse_detections(
    document: Sequence[dict[str, Any]],
    annotations: AnnotationSet,
    *,
    min_score: float = 0.0,
    most_per_image: int | None = None,
    source: str = "the detections",
) -> Detections:
    """Detections from a decoded document; `source` names it in messages. Otherwise as `read_detections`."""
    if not 0 <= min_score <= 1 or (most_per_image is not None and most_per_image < 1):
        raise InputError(
            f"Boxes are chosen by a least score in [0, 1] and at least one box per image, got {min_score} and "
            f"{most_per_image}. Use 0 and leave the number out to take all."
        )
    places = {image_id: place for place, image_id in enumerate(annotations.images)}
    rows = []
    for index, record in enumerate(document):
        where = f"detection {index} of {source}"
        if integer_field(record, "category_id", where) != annotations.category_id:
            continue
        rows.append((places[_image_of(record, annotations, where)], *_box(record, annotations, where)))
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    ranked = table[np.lexsort((-table[:, 5], table[:, 0]))]
    ranked = ranked[ranked[:, 5] >= min_score]
    if most_per_image is not None:
        ranked = ranked[_ranks(ranked[:, 0]) < most_per_image]
    if not len(ranked):
        raise AnnotationError(
            f"A detection file must hold boxes of persons (category {annotations.category_id}) with a score of at "
            f"least {min_score:g}, but {source} has none among its {len(document)} entries. Give the results of a "
            "person detector on this set, or lower the least score."
        )
    ids = np.array(list(annotations.images), dtype=np.int64)
    return Detections(
        image_ids=ids[ranked[:, 0].astype(np.intp)],
        boxes_xyxy=ranked[:, 1:5],
        scores=ranked[:, 5],
        read=len(rows),
    )


def _image_of(record: dict[str, Any], annotations: AnnotationSet, where: str) -> int:
    image_id = integer_field(record, "image_id", where)
    if image_id not in annotations.images:
        raise AnnotationError(
            f"Every detection must belong to an annotated image, but {where} names the unknown image {image_id}. Use "
            "detections of the same set."
        )
    return image_id


def _box(record: dict[str, Any], annotations: AnnotationSet, where: str) -> tuple[float, ...]:
    """Left, top, right, bottom, score."""
    box, score = number_array(record.get("bbox")), number_array([record.get("score")])
    if box is None or box.size != 4 or not np.isfinite(box).all() or min(box[2:]) <= 0:
        raise AnnotationError(
            f"A detection must have a bbox [left, top, width, height] with area, but {where} has "
            f"{record.get('bbox')!r}. Correct or remove it."
        )
    if score is None or not 0 <= score[0] <= 1:
        raise AnnotationError(
            f"The score of a detection must be a number in [0, 1], but {where} has {record.get('score')!r}. Scale the "
            "scores of the detector: they are multiplied with those of the poses."
        )
    entry = annotations.images[record["image_id"]]
    corners = np.concatenate([box[:2], box[:2] + box[2:]])
    try:
        check_boxes(corners, (entry.width, entry.height))
    except InputError as error:
        raise AnnotationError(
            f"The bbox of a detection, [left, top, width, height], must lie on its picture, but {where} breaks a rule: "
            f"{error}"
        ) from error
    return (*corners.tolist(), float(score[0]))


def _ranks(sorted_keys: NDArray[np.float64]) -> NDArray[np.intp]:
    """(N,) how many equal keys stand before each, in a sorted array."""
    return np.asarray(np.arange(len(sorted_keys)) - np.searchsorted(sorted_keys, sorted_keys, side="left"))
