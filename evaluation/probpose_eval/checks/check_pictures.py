"""Read every picture of a set: which are missing or broken, and what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probpose_edge.exceptions import AnnotationError, ImageReadError
from probpose_edge.images import decode_image
from probpose_eval.annotations.coco import ImageEntry, image_path
from probpose_eval.calibration.picture_hashes import content_hash, look_hash
from probpose_eval.checks.check_findings import Findings


@dataclass(frozen=True, kw_only=True)
class CheckedPicture:
    """A picture that could be read: its image id and file name, content hash, and look (see `look_hash`)."""

    image_id: int
    file_name: str
    content: str
    look: int


def check_pictures(
    images: Mapping[Any, Mapping[str, Any]],
    images_dir: Path,
    findings: Findings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CheckedPicture, ...]:
    """Note missing and broken pictures, other sizes than the entries say, and pictures that occur twice."""
    checked: list[CheckedPicture] = []
    first: dict[str, str] = {}
    for done, (image_id, record) in enumerate(images.items(), start=1):
        picture = _check(image_id, record, images_dir, findings)
        if picture is not None:
            checked.append(picture)
            if picture.content in first:
                findings.broken("the same picture twice", f"{first[picture.content]} and {picture.file_name}")
            first.setdefault(picture.content, picture.file_name)
        if progress is not None:
            progress(done, len(images))
    return tuple(checked)


def _check(image_id: int, record: Mapping[str, Any], images_dir: Path, findings: Findings) -> CheckedPicture | None:
    name, width, height = record["file_name"], record["width"], record["height"]
    where = f"image {image_id}: {name}"
    try:
        path = image_path(images_dir, ImageEntry(id=image_id, file_name=name, width=width, height=height))
        content = path.read_bytes()
    except AnnotationError as error:
        outside = "must stay inside" in str(error)
        findings.broken("file name that leaves the folder" if outside else "missing picture", where)
        return None
    except OSError as error:
        findings.broken("unreadable picture", f"{where}: {error.strerror or error}")
        return None
    try:
        picture = decode_image(content, path, upright=False)
    except ImageReadError as error:
        cut = "is cut short" in str(error)
        findings.broken("truncated picture" if cut else "broken picture", f"{where} ({len(content)} bytes)")
        return None
    found = (picture.shape[1], picture.shape[0])
    if found != (width, height):
        findings.broken(
            "picture of another size than its entry", f"{where} is {found[0]} × {found[1]}, entry {width} × {height}"
        )
    return CheckedPicture(image_id=image_id, file_name=name, content=content_hash(content), look=look_hash(picture))
