"""COCO keypoint results as arrays, checked against the annotations they belong to."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import AnnotationError
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons

Result = Mapping[str, Any]
"""One COCO result: ``image_id``, ``keypoints`` [x, y, presence] × K, ``score``; maybe ``bbox``, ``annotation_id``."""
_ROUNDING = 1e-6
"""How far a probability may lie outside [0, 1]: float32 sums of probabilities do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultArrays:
    """N results in the order given; areas as pycocotools takes them: of ``bbox`` if the first result has one, else of
    the box around the keypoints."""

    image_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    areas: NDArray[np.float64]


def read_results(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a COCO result file, a JSON list of results. Raises `AnnotationError` if it is not one, or empty."""
    path = Path(path)
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"The result file {path} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"A result file must be JSON, but {path} is not: {error}. Give COCO results.") from error
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
        raise AnnotationError(f"A result file must hold a list of results, but {path} does not. Give COCO results.")
    if not document:
        raise AnnotationError(f"A result file must hold results, but {path} is an empty list. Run the model again.")
    return document


def result_arrays(results: Sequence[Result], annotations: AnnotationSet) -> ResultArrays:
    """Check results and turn them into arrays.

    Results of persons that nobody annotated count as COCO counts them, so do several of one person. Raises
    `AnnotationError`, naming the first bad result, for missing fields, a wrong number of keypoints, numbers that are
    not finite, unknown images, another category, an ``annotation_id`` of nobody in its image, and for no results
    although somebody is labelled.
    """
    if not results and labelled_persons(annotations):
        raise AnnotationError(
            f"There must be results to evaluate, but there is none for the {len(labelled_persons(annotations))} "
            "labelled persons: every figure would be 0. Check the run that made them."
        )
    k = len(annotations.keypoint_names)
    if not _all_fit(results, k, annotations):
        people = {person.id: person.image_id for person in annotations.persons}
        for index, result in enumerate(results):
            _check(result, index, k, annotations, people)
    try:
        scores = np.array([float(result["score"]) for result in results], dtype=np.float64)
    except OverflowError as error:
        raise AnnotationError(f"The score of a result must be a number, but: {error}. Check the results.") from error
    keypoints = _keypoints(results, k)
    areas = _areas(results, keypoints)
    if not (np.isfinite(keypoints).all() and np.isfinite(scores).all() and np.isfinite(areas).all()):
        finite = np.isfinite(keypoints).all(axis=(1, 2)) & np.isfinite(scores) & np.isfinite(areas)
        raise AnnotationError(
            f"The numbers of a result must be finite, but result {int(np.argmin(finite))} has NaN or infinity. "
            "Remove the result, or check the model that made it."
        )
    image_ids = np.array([result["image_id"] for result in results], dtype=np.int64)
    return ResultArrays(image_ids=image_ids, scores=scores, keypoints=keypoints, areas=areas)


def check_presence(keypoints: NDArray[np.float64]) -> None:
    """Raise `AnnotationError` unless the third value of every result keypoint (N, K, 3) is a probability."""
    presence = keypoints[..., 2]
    bad = (presence < -_ROUNDING) | (presence > 1 + _ROUNDING)
    if bad.any():
        index, keypoint = (int(at) for at in np.argwhere(bad)[0])
        raise AnnotationError(
            "The third value of a result keypoint must be a presence probability in [0, 1], but result "
            f"{index} has {presence[index, keypoint]:g} at keypoint {keypoint}. Ex-OKS compares it with the presence "
            "threshold: write probabilities there, or clip confidences to [0, 1]."
        )


def _all_fit(results: Sequence[Result], k: int, annotations: AnnotationSet) -> bool:
    """Whether all results are plain dictionaries that pass `_check`; tells in a glance, but not which one does not."""
    try:
        return (
            set(map(type, results)) <= {dict}
            and {result["image_id"] for result in results} <= annotations.images.keys()
            and {type(result["keypoints"]) for result in results} <= {list}
            and {len(result["keypoints"]) for result in results} <= {3 * k}
            and {type(result["score"]) for result in results} <= {int, float}
            and {result.get("category_id", annotations.category_id) for result in results} <= {annotations.category_id}
            and not any("annotation_id" in result for result in results)
        )
    except (KeyError, TypeError):
        return False


def _check(result: Result, index: int, k: int, annotations: AnnotationSet, people: Mapping[int, int]) -> None:
    if not isinstance(result, Mapping) or not all(name in result for name in ("image_id", "keypoints", "score")):
        raise AnnotationError(
            f"A result must have image_id, keypoints and score, but result {index} lacks one. "
            "Give COCO keypoint results."
        )
    if not isinstance(result["keypoints"], Sequence) or len(result["keypoints"]) != 3 * k:
        raise AnnotationError(
            f"A result must have {3 * k} keypoint numbers (x, y, presence for each of {k} keypoints), but result "
            f"{index} has {_length(result['keypoints'])}. Use results for the same keypoints as the annotations."
        )
    image_id = result["image_id"]
    if not isinstance(image_id, (int, np.integer)) or image_id not in annotations.images:
        raise AnnotationError(
            f"Every result must belong to an annotated image, but result {index} names the unknown image "
            f"{image_id!r}. Use results for the same set."
        )
    if result.get("category_id", annotations.category_id) != annotations.category_id:
        raise AnnotationError(
            f"Every result must have the person category {annotations.category_id}, but result {index} has "
            f"{result['category_id']!r}. Remove results of other categories."
        )
    if not isinstance(result["score"], (int, float, np.floating)) or isinstance(result["score"], bool):
        raise AnnotationError(
            f"The score of a result must be a number, but result {index} has {result['score']!r}. Give every result "
            "the number its rank in the precision curve shall follow."
        )
    if "annotation_id" not in result:
        return
    person = result["annotation_id"]
    if not isinstance(person, (int, np.integer)) or people.get(int(person)) != image_id:
        raise AnnotationError(
            f"The annotation_id of a result must be that of a person in its image, but result {index} names "
            f"{person!r}, who is not in image {image_id}. Use results for the same set, or leave the field out."
        )


def _length(keypoints: object) -> str:
    return str(len(keypoints)) if isinstance(keypoints, Sequence) else repr(keypoints)


def _keypoints(results: Sequence[Result], k: int) -> NDArray[np.float64]:
    """(N, K, 3) float64; `struct` is fast on lists and, unlike numpy, takes no text for a number."""
    packed = struct.Struct(f"{3 * k}d")
    rows = []
    try:
        for result in results:
            rows.append(packed.pack(*result["keypoints"]))
    except (struct.error, OverflowError) as error:
        raise AnnotationError(
            f"The keypoints of a result must be numbers, but of result {len(rows)}: {error}. Check the results."
        ) from error
    return np.frombuffer(b"".join(rows), dtype=np.float64).reshape(len(results), k, 3)


def _areas(results: Sequence[Result], keypoints: NDArray[np.float64]) -> NDArray[np.float64]:
    if not results or not results[0].get("bbox"):
        with np.errstate(invalid="ignore"):  # infinite places are refused by the caller
            spread = np.ptp(keypoints[..., :2], axis=1) if len(results) else np.zeros((0, 2))
            return np.asarray(spread[:, 0] * spread[:, 1])
    areas = []
    for index, result in enumerate(results):
        box = result.get("bbox")
        numbers = isinstance(box, Sequence) and len(box) == 4 and all(isinstance(side, (int, float)) for side in box)
        if box is None or not numbers or not all(math.isfinite(side) for side in box):
            raise AnnotationError(
                f"Either all results have a bbox [left, top, width, height] or none, but result {index} has {box!r} "
                "and the first one has a bbox. Add the missing boxes or remove all."
            )
        areas.append(box[2] * box[3])
    return np.array(areas, dtype=np.float64)
