"""The person category of an annotation file: names, limbs, sigmas and flip pairs of its keypoints."""

from __future__ import annotations

from typing import Any

import numpy as np

from probpose_edge.exceptions import AnnotationError, InputError
from probpose_edge.skeletons.skeleton import COCO_17
from probpose_edge.skeletons.skeleton_file import pairs_by_name
from probpose_edge.skeletons.skeleton_presets import known_skeleton
from probpose_eval.annotations.coco_fields import integer_field, number_array

Pairs = tuple[tuple[int, int], ...]


def person_category(categories: list[Any], source: str) -> dict[str, Any]:
    """The one category with keypoints; raises `AnnotationError`."""
    with_keypoints = [c for c in categories if isinstance(c, dict) and c.get("keypoints")]
    if len(with_keypoints) != 1:
        raise AnnotationError(
            f"An annotation file must have exactly one category with keypoints, but {source} has "
            f"{len(with_keypoints)}. Give a COCO keypoint annotation file with one person category."
        )
    category: dict[str, Any] = with_keypoints[0]
    names = category["keypoints"]
    if not (isinstance(names, list) and all(isinstance(n, str) for n in names) and len(set(names)) == len(names)):
        raise AnnotationError(
            f"The keypoints of a category must be a list of different names, but {source} has {names!r}. "
            "Correct the category."
        )
    integer_field(category, "id", f"the keypoint category of {source}")
    return category


def skeleton_of_category(category: dict[str, Any], source: str) -> Pairs:
    """The limbs as 0-based pairs; empty if the category names none.

    COCO counts keypoints from 1. Pairs with a 0 can only come from a file that counts from 0 and are read so. Limbs of
    COCO beside the fewer keypoints of another preset are a leftover and give way to the preset's. Raises
    `AnnotationError` for other pairs that do not fit.
    """
    pairs = category.get("skeleton") or []
    k = len(category["keypoints"])
    try:
        numbers = [(int(a), int(b)) for a, b in pairs]
    except (TypeError, ValueError):
        numbers = [(-1, -1)]
    flat = [index for pair in numbers for index in pair]
    first = 0 if 0 in flat else 1
    if all(first <= index < first + k for index in flat):
        return tuple((a - first, b - first) for a, b in numbers)
    known = known_skeleton(tuple(category["keypoints"]))
    limbs = {frozenset((a - 1, b - 1)) for a, b in numbers}
    if known is not None and limbs <= {frozenset(edge) for edge in COCO_17.edges}:
        return known.edges
    raise AnnotationError(
        f"The skeleton of a category must be pairs of keypoint numbers from 1 to {k}, but {source} has {pairs!r}. "
        "Correct or remove it."
    )


def sigmas_of_category(category: dict[str, Any], source: str) -> tuple[float, ...] | None:
    """The OKS sigmas, or None if the category names none; raises `AnnotationError`."""
    if category.get("sigmas") is None:
        return None
    values = number_array(category["sigmas"])
    if values is None or values.size != len(category["keypoints"]) or not (np.isfinite(values) & (values > 0)).all():
        raise AnnotationError(
            f"The sigmas of a category must be one positive number per keypoint ({len(category['keypoints'])}), but "
            f"{source} has {category['sigmas']!r}. Correct or remove them."
        )
    return tuple(float(v) for v in values)


def flip_pairs_of_category(category: dict[str, Any], source: str) -> Pairs | None:
    """The pairs (left, right) as 0-based indices, or None if the category names none; raises `AnnotationError`."""
    if category.get("flip_pairs") is None:
        return None
    try:
        return pairs_by_name(category["flip_pairs"], category["keypoints"], "flip_pairs", f"the category of {source}")
    except InputError as error:
        raise AnnotationError(str(error)) from error
