"""A set to evaluate on: annotations, where its pictures are, and hashes that say which data it was."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from probpose_edge.skeletons.skeleton import Skeleton
from probpose_eval.annotations.coco import AnnotationSet, image_path, labelled_persons, read_annotations, with_skeleton


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationSet:
    """Annotations with their pictures.

    Attributes
    ----------
    name: for reports. images_dir: folder of the pictures.
    annotations_sha256: hash of the annotation file.
    pictures_sha256: hash over the pictures of labelled persons, in file order, names included.
    """

    name: str
    annotations: AnnotationSet
    images_dir: Path
    annotations_sha256: str
    pictures_sha256: str

    def with_skeleton(self, skeleton: Skeleton) -> EvaluationSet:
        """The set with what its category leaves open taken from a skeleton; raises `AnnotationError` for other
        keypoints."""
        return dataclasses.replace(self, annotations=with_skeleton(self.annotations, skeleton))


def load_evaluation_set(
    annotations_path: str | os.PathLike[str], images_dir: str | os.PathLike[str], *, name: str
) -> EvaluationSet:
    """Read annotations and hash them and their pictures.

    Raises `AnnotationError` for bad annotations and for pictures that are missing.
    """
    annotations = read_annotations(annotations_path)
    pictures = hashlib.sha256()
    for image_id in dict.fromkeys(person.image_id for person in labelled_persons(annotations)):
        entry = annotations.images[image_id]
        pictures.update(entry.file_name.encode())
        pictures.update(hashlib.sha256(image_path(images_dir, entry).read_bytes()).digest())
    return EvaluationSet(
        name=name,
        annotations=annotations,
        images_dir=Path(images_dir),
        annotations_sha256=hashlib.sha256(Path(annotations_path).read_bytes()).hexdigest(),
        pictures_sha256=pictures.hexdigest(),
    )
