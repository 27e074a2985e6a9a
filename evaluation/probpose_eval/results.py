"""COCO keypoint results as arrays, checked against the annotations they belong to."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import AnnotationError
from probpose_eval.coco import AnnotationSet

Result = Mapping[str, Any]
"""One COCO result: ``image_id``, ``keypoints`` [x, y, presence] × K, ``score``; maybe ``bbox``, ``annotation_id``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultArrays:
    """N results in the order given; areas as pycocotools takes them: of ``bbox`` if the first result has one, else of
    the box around the keypoints."""

    image_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    areas: NDArray[np.float64]


def read_results(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a COCO result file, a JSON list of results. Raises `AnnotationError` if it is not one."""
    path = Path(path)
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"The result file {path} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"A result file must be JSON, but {path} is not: {error}. Give COCO results.") from error
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
        raise AnnotationError(f"A result file must hold a list of results, but {path} does not. Give COCO results.")
    return document


def result_arrays(results: Sequence[Result], annotations: AnnotationSet) -> ResultArrays:
    """Check results and turn them into arrays.

    Raises `AnnotationError`, naming the first bad result, for missing fields, a wrong number of keypoints, numbers
    that are not finite, unknown images or another category.
    """
    k = len(annotations.keypoint_names)
    for index, result in enumerate(results):
        _check(result, index, k, annotations)
    n = len(results)
    try:
        keypoints = np.array([r["keypoints"] for r in results], dtype=np.float64).reshape(n, k, 3)
    except (TypeError, ValueError) as error:
        raise AnnotationError(f"The keypoints of a result must be numbers, but: {error}. Check the results.") from error
    scores = np.array([r["score"] for r in results], dtype=np.float64)
    areas = _areas(results, keypoints)
    if not (np.isfinite(keypoints).all() and np.isfinite(scores).all() and np.isfinite(areas).all()):
        finite = np.isfinite(keypoints).all(axis=(1, 2)) & np.isfinite(scores) & np.isfinite(areas)
        raise AnnotationError(
            f"The numbers of a result must be finite, but result {int(np.argmin(finite))} has NaN or infinity. "
            "Remove the result, or check the model that made it."
        )
    image_ids = np.array([r["image_id"] for r in results], dtype=np.int64)
    return ResultArrays(image_ids=image_ids, scores=scores, keypoints=keypoints, areas=areas)


def _check(result: Result, index: int, k: int, annotations: AnnotationSet) -> None:
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
    if result["image_id"] not in annotations.images:
        raise AnnotationError(
            f"Every result must belong to an annotated image, but result {index} names the unknown image "
            f"{result['image_id']!r}. Use results for the same set."
        )
    if result.get("category_id", annotations.category_id) != annotations.category_id:
        raise AnnotationError(
            f"Every result must have the person category {annotations.category_id}, but result {index} has "
            f"{result['category_id']!r}. Remove results of other categories."
        )
    if not isinstance(result["score"], (int, float)) or isinstance(result["score"], bool):
        raise AnnotationError(f"The score of a result must be a number, but result {index} has {result['score']!r}.")


def _length(keypoints: object) -> str:
    return str(len(keypoints)) if isinstance(keypoints, Sequence) else repr(keypoints)


def _areas(results: Sequence[Result], keypoints: NDArray[np.float64]) -> NDArray[np.float64]:
    if not results or not results[0].get("bbox"):
        spread = keypoints[..., :2].max(axis=1) - keypoints[..., :2].min(axis=1) if len(results) else np.zeros((0, 2))
        return np.asarray(spread[:, 0] * spread[:, 1])
    areas = []
    for index, result in enumerate(results):
        box = result.get("bbox")
        if not isinstance(box, Sequence) or len(box) != 4 or not all(math.isfinite(side) for side in box):
            raise AnnotationError(
                f"Either all results have a bbox [left, top, width, height] or none, but result {index} has {box!r} "
                "and the first one has a bbox. Add the missing boxes or remove all."
            )
        areas.append(box[2] * box[3])
    return np.array(areas, dtype=np.float64)
