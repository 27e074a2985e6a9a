"""Annotation files that are not plain COCO: COCO-WholeBody is joined, others are refused with the way to convert."""

from __future__ import annotations

from typing import Any

from probpose_edge.exceptions import AnnotationError
from probpose_edge.skeletons.skeleton_presets import WHOLEBODY_133
from probpose_eval.annotations.coco_fields import number_array

WHOLE_BODY_PARTS = (("foot_kpts", 6), ("face_kpts", 68), ("lefthand_kpts", 21), ("righthand_kpts", 21))
"""Fields of a COCO-WholeBody annotation beside its 17 ``keypoints``, and how many keypoints each holds, in the order of
`WHOLEBODY_133`."""
_LABELLED_ONLY = ("face_kpts", "lefthand_kpts", "righthand_kpts")


def join_whole_body(document: dict[str, Any], source: str) -> dict[str, Any]:
    """The document with the 133 keypoints of every person in ``keypoints``, if it is one of COCO-WholeBody.

    Its face and hand keypoints have v = 1 wherever they are labelled, and are labelled only where they can be seen
    clearly: they get v = 2. ``num_keypoints`` counts all 133, as in its evaluation. Other documents come back as they
    are. Raises `AnnotationError` for a person who lacks a part.
    """
    annotations = document["annotations"]
    if not any(isinstance(record, dict) and "face_kpts" in record for record in annotations):
        return document
    names = list(WHOLEBODY_133.keypoint_names)
    skeleton = [[a + 1, b + 1] for a, b in WHOLEBODY_133.edges]
    categories = [
        {**category, "keypoints": names, "skeleton": skeleton}
        if isinstance(category, dict) and category.get("keypoints") == names[:17]
        else category
        for category in document["categories"]
    ]
    return {
        **document,
        "annotations": [_join(record, source) if "keypoints" in record else record for record in annotations],
        "categories": categories,
    }


def _join(record: dict[str, Any], source: str) -> dict[str, Any]:
    values = list(record["keypoints"])
    for name, count in WHOLE_BODY_PARTS:
        part = number_array(record.get(name))
        if part is None or part.size != 3 * count:
            raise AnnotationError(
                f"A COCO-WholeBody annotation must have {3 * count} numbers in {name!r}, but annotation "
                f"{record.get('id')} of {source} has {'none' if part is None else part.size}. Correct or remove it."
            )
        points = part.reshape(count, 3)
        if name in _LABELLED_ONLY:
            points[points[:, 2] > 0, 2] = 2
        values += points.reshape(-1).tolist()
    parts = [name for name, _ in WHOLE_BODY_PARTS]
    joined = {key: value for key, value in record.items() if key not in parts}
    return {**joined, "keypoints": values, "num_keypoints": sum(v > 0 for v in values[2::3])}


def refuse_other_forms(document: object, source: str) -> None:
    """Raise `AnnotationError` for the original forms of OCHuman and MPII, naming the way to a COCO file."""
    if isinstance(document, dict) and "keypoint_names" in document and "annotations" not in document:
        raise AnnotationError(
            f"{source} is OCHuman's own form (19 keypoints, corner boxes, annotations inside the images), which is not "
            "read here. Use the COCO-style files that come with it (ochuman_coco_format_*.json), or write one with "
            "toCocoFormart of its API."
        )
    first = document[0] if isinstance(document, list) and document else None
    if isinstance(first, dict) and {"joints", "center", "scale"} <= set(first):
        raise AnnotationError(
            f"{source} is the list form of MPII (joints, center, scale), which is not read here, because it has "
            "neither boxes nor picture sizes. Convert it to a COCO file; docs/data.md says how its fields map."
        )
