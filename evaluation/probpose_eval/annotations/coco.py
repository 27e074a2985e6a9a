"""Read and write COCO keypoint annotations, checked on the way in.

A file that passes `read_annotations` can be trusted by everything else in this package: every person belongs to
an image, every number is finite, every keypoint list has the length its category says.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.atomic_write import write_text_atomically
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_edge.skeletons.skeleton import Skeleton, infer_flip_pairs
from probpose_edge.skeletons.skeleton_presets import known_skeleton
from probpose_eval.annotations.coco_category import (
    flip_pairs_of_category,
    person_category,
    sigmas_of_category,
    skeleton_of_category,
)
from probpose_eval.annotations.coco_fields import integer_field, number_array
from probpose_eval.annotations.coco_forms import join_whole_body, refuse_other_forms

VISIBILITY_LEVELS = (0, 1, 2, 3)
"""0 not labelled, 1 labelled and occluded, 2 labelled and visible, 3 outside the activation window (CropCOCO)."""

AREA_PER_BOX = 0.53
"""Area of a person over that of the box where a file has no areas, as CrowdPose's evaluation takes it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageEntry:
    """One picture: id, file name below the image folder, size in pixels, and every other field of the file."""

    id: int
    file_name: str
    width: int
    height: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """One annotated person; K is the number of keypoints. The arrays are read-only.

    Attributes
    ----------
    bbox_xyxy: (4,) float64, image px: left, top, right, bottom.
    area: segment area in px², the scale of OKS.
    keypoints: (K, 3) float64: x, y in image px, and the visibility level v of `VISIBILITY_LEVELS`.
    iscrowd: a group that was not labelled one by one; results on it are neither right nor wrong.
    num_keypoints: as the file says (COCO: keypoints with v > 0); persons with 0 are ignored by the metric.
    extra: every other field of the annotation (segmentation, area_source, …), kept for writing.
    """

    id: int
    image_id: int
    bbox_xyxy: NDArray[np.float64]
    area: float
    keypoints: NDArray[np.float64]
    iscrowd: bool
    num_keypoints: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotationSet:
    """A whole annotation file.

    Attributes
    ----------
    images: id → entry, in file order.
    persons: in file order.
    keypoint_names: K names of the person category.
    skeleton: pairs of 0-based keypoint indices (the file counts from 1), empty if the category has none.
    sigmas: K OKS sigmas if the category names them, else None.
    flip_pairs: pairs (left, right) of 0-based keypoint indices if the category names them, else None.
    info: the file's ``info`` object.
    """

    images: Mapping[int, ImageEntry]
    persons: tuple[Person, ...]
    keypoint_names: tuple[str, ...]
    category_id: int = 1
    category_name: str = "person"
    skeleton: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] | None = None
    flip_pairs: tuple[tuple[int, int], ...] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def persons_of(self) -> dict[int, tuple[Person, ...]]:
        """Image id → its persons in file order; images without persons have an empty tuple."""
        groups: dict[int, list[Person]] = {image_id: [] for image_id in self.images}
        for person in self.persons:
            groups[person.image_id].append(person)
        return {image_id: tuple(group) for image_id, group in groups.items()}


def read_annotations(path: str | os.PathLike[str]) -> AnnotationSet:
    """Read a COCO keypoint annotation file.

    The file must have exactly one category with ``keypoints``; annotations of other declared categories are left out.
    ``skeleton``, ``sigmas`` and ``flip_pairs`` (pairs of names) of the category are optional, so are ``iscrowd`` (0),
    ``num_keypoints`` (counted) and ``area`` (`AREA_PER_BOX` of the box; ``area_source`` then says so). The files of
    COCO, CropCOCO, CrowdPose, COCO-WholeBody (as 133 keypoints) and the COCO-style ones of OCHuman are read as they are
    distributed.

    Raises `AnnotationError` on anything that is not such a file; the message names the first entry that breaks a rule.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise AnnotationError(f"The annotation file {path} does not exist. Check the path.") from error
    except OSError as error:
        raise AnnotationError(
            f"The annotation file {path} cannot be read: {error.strerror}. Check its permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(
            f"An annotation file must be JSON, but {path} is not: {error}. Give a COCO keypoint annotation file."
        ) from error
    return parse_annotations(document, source=str(path))


def parse_annotations(document: object, *, source: str = "the annotations") -> AnnotationSet:
    """Check an already decoded annotation document; `source` names it in messages. Errors as `read_annotations`."""
    refuse_other_forms(document, source)
    if not isinstance(document, dict):
        raise AnnotationError(
            f"An annotation file must hold a JSON object with images, annotations and categories, but {source} holds "
            f"a {type(document).__name__}. Give a COCO keypoint annotation file (a list is a result file)."
        )
    for name in ("images", "annotations", "categories"):
        if not isinstance(document.get(name), list):
            raise AnnotationError(
                f"An annotation file must have the list {name!r}, but {source} has none. "
                "Give a COCO keypoint annotation file."
            )
    document = join_whole_body(document, source)
    category = person_category(document["categories"], source)
    declared = {integer_field(c, "id", f"a category of {source}") for c in document["categories"]}
    images: dict[int, ImageEntry] = {}
    for record in document["images"]:
        image = _image(record, source)
        if image.id in images:
            raise AnnotationError(
                f"Image ids must be unique, but {source} has id {image.id} twice. Renumber the images."
            )
        images[image.id] = image
    persons: list[Person] = []
    seen: set[int] = set()
    for record in document["annotations"]:
        person_id = integer_field(record, "id", f"an annotation of {source}")
        where = f"annotation {person_id} of {source}"
        if person_id in seen:
            raise AnnotationError(
                f"Annotation ids must be unique, but {source} has id {person_id} twice. Renumber the annotations."
            )
        seen.add(person_id)
        category_id = integer_field(record, "category_id", where)
        if category_id not in declared:
            raise AnnotationError(
                f"Every annotation must have a category of the file ({sorted(declared)}), but {where} has "
                f"{category_id}. Declare the category or remove the annotation."
            )
        if category_id != category["id"]:
            continue
        person = _person(record, where, len(category["keypoints"]))
        if person.image_id not in images:
            raise AnnotationError(
                f"Every annotation must belong to an image of the file, but {where} names the unknown image "
                f"{person.image_id}. Add the image entry or remove the annotation."
            )
        persons.append(person)
    info = document.get("info")
    return AnnotationSet(
        images=images,
        persons=tuple(persons),
        keypoint_names=tuple(category["keypoints"]),
        category_id=category["id"],
        category_name=str(category.get("name", "person")),
        skeleton=skeleton_of_category(category, source),
        sigmas=sigmas_of_category(category, source),
        flip_pairs=flip_pairs_of_category(category, source),
        info=info if isinstance(info, dict) else {},
    )


def annotations_to_document(annotations: AnnotationSet) -> dict[str, Any]:
    """The COCO document of a set, ready for ``json.dump``; the inverse of `parse_annotations`."""
    category: dict[str, Any] = {
        "id": annotations.category_id,
        "name": annotations.category_name,
        "supercategory": "person",
        "keypoints": list(annotations.keypoint_names),
        "skeleton": [[a + 1, b + 1] for a, b in annotations.skeleton],
    }
    if annotations.sigmas is not None:
        category["sigmas"] = list(annotations.sigmas)
    if annotations.flip_pairs is not None:
        names = annotations.keypoint_names
        category["flip_pairs"] = [[names[a], names[b]] for a, b in annotations.flip_pairs]
    return {
        "info": dict(annotations.info),
        "images": [
            {"id": i.id, "file_name": i.file_name, "width": i.width, "height": i.height, **i.extra}
            for i in annotations.images.values()
        ],
        "annotations": [_person_record(person, annotations.category_id) for person in annotations.persons],
        "categories": [category],
    }


def labelled_persons(annotations: AnnotationSet) -> tuple[Person, ...]:
    """The persons that count: no crowd, ``num_keypoints`` > 0, and a keypoint with v = 1 or 2; in file order."""
    return tuple(
        person
        for person in annotations.persons
        if not person.iscrowd and person.num_keypoints > 0 and np.isin(person.keypoints[:, 2], (1, 2)).any()
    )


def skeleton_of(annotations: AnnotationSet) -> Skeleton:
    """The skeleton of a set: its category's, completed by the preset with the same keypoints.

    Without a preset, flip pairs come from the names (see `infer_flip_pairs`), and the category
    must name its sigmas. Raises `AnnotationError` where something is missing that cannot be found so.
    """
    names = annotations.keypoint_names
    known = known_skeleton(names)
    try:
        flips = annotations.flip_pairs
        if flips is None:
            flips = known.flip_pairs if known is not None else infer_flip_pairs(names)
        return Skeleton(
            keypoint_names=names,
            edges=annotations.skeleton or (known.edges if known is not None else ()),
            flip_pairs=flips,
            sigmas=sigmas_of(annotations),
        )
    except InputError as error:
        raise AnnotationError(f"The category {annotations.category_name!r} has no whole skeleton: {error}") from error


def sigmas_of(annotations: AnnotationSet) -> tuple[float, ...]:
    """The OKS sigmas of a set: its category's, or those of the preset with the same keypoints.

    Raises `AnnotationError` for other keypoints without sigmas.
    """
    if annotations.sigmas is not None:
        return annotations.sigmas
    known = known_skeleton(annotations.keypoint_names)
    if known is not None:
        return known.sigmas
    raise AnnotationError(
        "OKS needs one sigma per keypoint, but the category names none and its keypoints are not those of a data set "
        "known here. Add a list 'sigmas' to the category, or give a skeleton file with them."
    )


def with_skeleton(annotations: AnnotationSet, skeleton: Skeleton) -> AnnotationSet:
    """The set with what its category leaves open taken from a skeleton, for example a model's.

    Raises `AnnotationError` if the keypoints differ.
    """
    if annotations.keypoint_names != skeleton.keypoint_names:
        raise AnnotationError(
            f"A skeleton must have the keypoints of the set ({', '.join(annotations.keypoint_names)}), but has "
            f"{', '.join(skeleton.keypoint_names)}. Use a matching one."
        )
    return dataclasses.replace(
        annotations,
        skeleton=annotations.skeleton or skeleton.edges,
        sigmas=skeleton.sigmas if annotations.sigmas is None else annotations.sigmas,
        flip_pairs=skeleton.flip_pairs if annotations.flip_pairs is None else annotations.flip_pairs,
    )


def write_annotations(path: str | os.PathLike[str], annotations: AnnotationSet) -> None:
    """Write a set as a COCO file; a file already at `path` is replaced only when the new one is complete."""
    text = json.dumps(annotations_to_document(annotations), allow_nan=False)
    write_text_atomically(Path(path), text)


def image_path(images_dir: str | os.PathLike[str], entry: ImageEntry) -> Path:
    """Where the picture of `entry` is; the name in the file may not leave `images_dir`, and the picture must exist."""
    name = entry.file_name
    parts = PureWindowsPath(name).parts
    absolute = PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).drive or PureWindowsPath(name).root)
    if not name or "\0" in name or absolute or ".." in parts:
        raise AnnotationError(
            f"The file name of an image must stay inside the image folder, but image {entry.id} has {name!r}. "
            "Use a relative name without '..'."
        )
    path = Path(images_dir) / name
    if not path.is_file():
        raise AnnotationError(
            f"The picture of image {entry.id} must be at {path}, but no such file is there. "
            "Check the image folder, or remove the image and its annotations."
        )
    return path


def _image(record: Any, source: str) -> ImageEntry:
    image_id = integer_field(record, "id", f"an image of {source}")
    where = f"image {image_id} of {source}"
    name = record.get("file_name")
    if not isinstance(name, str):
        raise AnnotationError(f"Every image must have a file name, but {where} has {name!r}. Add 'file_name'.")
    width, height = integer_field(record, "width", where), integer_field(record, "height", where)
    if width < 1 or height < 1:
        raise AnnotationError(
            f"The size of an image must be at least 1×1 pixel, but {where} has {width}×{height}. Correct the entry."
        )
    extra = {k: v for k, v in record.items() if k not in ("id", "file_name", "width", "height")}
    return ImageEntry(id=image_id, file_name=name, width=width, height=height, extra=extra)


_PERSON_FIELDS = ("id", "image_id", "category_id", "bbox", "area", "keypoints", "iscrowd", "num_keypoints")


def _person(record: dict[str, Any], where: str, k: int) -> Person:
    image_id = integer_field(record, "image_id", where)
    keypoints = number_array(record.get("keypoints"))
    if keypoints is None or keypoints.size != 3 * k:
        came = "none" if keypoints is None else str(keypoints.size)
        raise AnnotationError(
            f"An annotation must have {3 * k} keypoint numbers (x, y, v for each of {k} keypoints), but {where} has "
            f"{came}. Correct the annotation or the keypoint names of its category."
        )
    box = number_array(record.get("bbox"))
    if box is None or box.size != 4:
        raise AnnotationError(
            f"An annotation must have a bbox of 4 numbers [left, top, width, height], but {where} has "
            f"{record.get('bbox')!r}. Correct the annotation."
        )
    extra = {key: value for key, value in record.items() if key not in _PERSON_FIELDS}
    if "area" in record:
        area = number_array([record["area"]])
    else:
        area = np.array([AREA_PER_BOX * box[2] * box[3]])
        extra["area_source"] = f"{AREA_PER_BOX} * box"
    if area is None:
        raise AnnotationError(
            f"The area of an annotation must be a number of square pixels, but {where} has {record['area']!r}. Correct "
            f"it, or leave it out ({AREA_PER_BOX} of the box is taken then)."
        )
    if not (np.isfinite(keypoints).all() and np.isfinite(box).all() and np.isfinite(area).all()):
        raise AnnotationError(
            f"The numbers of an annotation must be finite, but {where} has NaN or infinity in keypoints, bbox or area. "
            "Correct or remove the annotation."
        )
    if box[2] < 0 or box[3] < 0 or area[0] < 0:
        raise AnnotationError(
            f"Width, height and area of an annotation must not be negative, but {where} has bbox {record['bbox']} and "
            f"area {area[0]:g}. Correct the annotation."
        )
    keypoints = keypoints.reshape(k, 3)
    if not np.isin(keypoints[:, 2], VISIBILITY_LEVELS).all():
        raise AnnotationError(
            f"The visibility of a keypoint must be 0, 1, 2 or 3, but {where} has "
            f"{sorted(set(keypoints[:, 2].tolist()))}. Correct the annotation."
        )
    labelled = int((keypoints[:, 2] > 0).sum())
    bbox_xyxy = np.concatenate([box[:2], box[:2] + box[2:]])
    keypoints.flags.writeable = False
    bbox_xyxy.flags.writeable = False
    return Person(
        id=record["id"],
        image_id=image_id,
        bbox_xyxy=bbox_xyxy,
        area=float(area[0]),
        keypoints=keypoints,
        iscrowd=bool(record.get("iscrowd", 0)),
        num_keypoints=integer_field(record, "num_keypoints", where) if "num_keypoints" in record else labelled,
        extra=extra,
    )


def _person_record(person: Person, category_id: int) -> dict[str, Any]:
    x0, y0, x1, y1 = person.bbox_xyxy.tolist()
    return {
        "id": person.id,
        "image_id": person.image_id,
        "category_id": category_id,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": person.area,
        "keypoints": person.keypoints.reshape(-1).tolist(),
        "num_keypoints": person.num_keypoints,
        "iscrowd": int(person.iscrowd),
        **person.extra,
    }
