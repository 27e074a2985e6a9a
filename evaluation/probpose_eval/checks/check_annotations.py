"""Look through an annotation document for everything that is wrong with it, where `read_annotations` stops at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_eval.annotations.coco import VISIBILITY_LEVELS
from probpose_eval.annotations.coco_fields import number_array
from probpose_eval.checks.check_findings import Findings

TOLERANCE_PX = 1.0
"""Boxes and labels may reach this far beyond the picture: files are rounded, and count from the pixels' borders."""


def check_images(records: Sequence[Any], findings: Findings) -> dict[Any, dict[str, Any]]:
    """Note what is wrong with image entries; returns the usable ones by id, in file order."""
    usable: dict[Any, dict[str, Any]] = {}
    names: dict[str, Any] = {}
    for record in records:
        image_id = record.get("id") if isinstance(record, dict) else None
        if not _whole(image_id):
            findings.broken("image without id", f"image {image_id!r}")
            continue
        where = f"image {image_id}"
        if image_id in usable:
            findings.broken("duplicated image id", where)
            continue
        if not (_whole(record.get("width")) and _whole(record.get("height"))) or min(_size(record)) < 1:
            findings.broken("image without a size", f"{where}: {record.get('width')!r} × {record.get('height')!r}")
            continue
        name = record.get("file_name")
        if not isinstance(name, str) or not name:
            findings.broken("image without a file name", where)
            continue
        if name in names:
            findings.broken("duplicated file name", f"{where} and image {names[name]}: {name}")
        names.setdefault(name, image_id)
        usable[image_id] = record
    return usable


def check_persons(
    records: Sequence[Any], images: dict[Any, dict[str, Any]], category: dict[str, Any], findings: Findings
) -> int:
    """Note what is wrong with annotations of the keypoint category; returns how many there are."""
    seen: set[Any] = set()
    count = 0
    for record in records:
        person_id = record.get("id") if isinstance(record, dict) else None
        if not _whole(person_id):
            findings.broken("annotation without id", f"annotation {person_id!r}")
            continue
        where = f"annotation {person_id}"
        if person_id in seen:
            findings.broken("duplicated annotation id", where)
        seen.add(person_id)
        if record.get("category_id") != category["id"]:
            continue
        count += 1
        image = images.get(record.get("image_id"))
        if image is None:
            findings.broken("annotation of an unknown image", f"{where}: image {record.get('image_id')!r}")
        box_is_usable = _check_box(record, image, where, findings)
        _check_keypoints(record, image if box_is_usable else None, len(category["keypoints"]), where, findings)
    return count


def _check_box(record: dict[str, Any], image: dict[str, Any] | None, where: str, findings: Findings) -> bool:
    box, labelled = number_array(record.get("bbox")), _claims_keypoints(record)
    where = f"{where}: bbox {record.get('bbox')!r}"
    if box is None or box.size != 4:
        findings.broken("box that is not four numbers", where)
        return False
    if not np.isfinite(box).all():
        findings.broken("box with NaN or infinity", where)
        return False
    if (box[2:] < 0).any():
        findings.broken("box of negative size", where)
        return False
    if (box[2:] == 0).any():
        if labelled:
            findings.broken("box without area around labelled keypoints", where)
            return False
        findings.remark("box without area, no keypoints", where)
    area = record.get("area")
    if area is not None and not (isinstance(area, (int, float)) and np.isfinite(area) and area >= 0):
        findings.broken("area that is no positive number", f"{where}, area {area!r}")
    elif labelled and area == 0:
        findings.broken("area 0 of a person with keypoints", where)
    if image is None:
        return True
    size, low, high = np.array(_size(image)), box[:2], box[:2] + box[2:]
    if (high <= 0).any() or (low >= size).any():
        findings.broken("box outside the picture", f"{where} in {size[0]} × {size[1]}")
        return False
    if (low < -TOLERANCE_PX).any() or (high > size + TOLERANCE_PX).any():
        findings.remark("box reaching beyond the picture", f"{where} in {size[0]} × {size[1]}")
    return True


def _check_keypoints(
    record: dict[str, Any], image: dict[str, Any] | None, k: int, where: str, findings: Findings
) -> None:
    keypoints = number_array(record.get("keypoints"))
    if keypoints is None or keypoints.size != 3 * k:
        came = "none" if keypoints is None else f"{keypoints.size} numbers"
        findings.broken("wrong number of keypoints", f"{where}: {came} for {k} keypoints")
        return
    if not np.isfinite(keypoints).all():
        findings.broken("keypoints with NaN or infinity", where)
        return
    keypoints = keypoints.reshape(k, 3)
    v = keypoints[:, 2]
    if not np.isin(v, VISIBILITY_LEVELS).all():
        findings.broken("visibility other than 0, 1, 2, 3", f"{where}: {sorted(set(v.tolist()))}")
        return
    _check_count(record, v, where, findings)
    if (v == 3).any():
        findings.remark("keypoints with v = 3 (outside the activation window)", where, int((v == 3).sum()))
    placed = np.isin(v, (1, 2))
    if image is not None and placed.any():
        points = keypoints[placed, :2]
        beyond = ((points < -TOLERANCE_PX) | (points > np.array(_size(image)) - 1 + TOLERANCE_PX)).any(axis=1)
        if beyond.any():
            x, y = points[beyond][0].tolist()
            place = f"{where}: {x:g}, {y:g} in {image['width']} × {image['height']}"
            findings.remark("labels outside the picture with v = 1 or 2", place, int(beyond.sum()))


def _check_count(record: dict[str, Any], v: NDArray[np.float64], where: str, findings: Findings) -> None:
    if "num_keypoints" not in record or record.get("iscrowd"):
        return
    # COCO counts v > 0; CropCOCO's v = 3 is counted by some files and not by others.
    counts = {int((v > 0).sum()), int(np.isin(v, (1, 2)).sum())}
    if record["num_keypoints"] not in counts:
        said = " or ".join(map(str, sorted(counts)))
        kind = "person without keypoints that claims some" if not v.any() else "num_keypoints unlike the keypoints"
        findings.broken(kind, f"{where}: says {record['num_keypoints']!r}, has {said}")


def _claims_keypoints(record: dict[str, Any]) -> bool:
    keypoints = number_array(record.get("keypoints"))
    return keypoints is not None and bool((keypoints[2::3] > 0).any()) and not record.get("iscrowd")


def _size(record: dict[str, Any]) -> tuple[int, int]:
    return record["width"], record["height"]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
