"""Training persons from COCO-format sets: pictures in folders or tar shards, several sets at once."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import AnnotationError
from probpose_edge.images import decode_image
from probpose_edge.skeletons.skeleton import COCO_17
from probpose_eval.annotations.coco import AnnotationSet, ImageEntry, Person, image_path, read_annotations
from probpose_eval.synth import draw_scene
from probpose_eval.synth.keypoints import spots_of
from probpose_train.config import DataSource


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainPerson:
    """One person before augmentation: image (H, W, 3) uint8 BGR, keypoints (K, 3) px with v, box xyxy px, area px²."""

    image: NDArray[np.uint8]
    keypoints: NDArray[np.float64]
    bbox_xyxy: NDArray[np.float64]
    area: float
    visibility_labelled: bool


class TarShards:
    """Members of the ``images-<n>.tar`` files of one folder, read by position; safe to use after a fork."""

    def __init__(self, folder: Path) -> None:
        self._members: dict[str, tuple[str, int, int]] = {}
        self._files: dict[tuple[int, str], int] = {}
        for archive in sorted(folder.glob("images-*.tar")):
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile():
                        name = PurePosixPath(member.name).name
                        self._members[name] = (str(archive), member.offset_data, member.size)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """Bytes of one member."""
        path, offset, size = self._members[name]
        key = (os.getpid(), path)
        if key not in self._files:
            self._files[key] = os.open(path, os.O_RDONLY)
        return os.pread(self._files[key], size, offset)


class PersonSet:
    """The labelled persons of one COCO-format set, decoded on demand."""

    def __init__(self, source: DataSource) -> None:
        self.source = source
        annotations = self._read()
        self._images = annotations.images
        self._folder = Path(source.images)
        self._shards = TarShards(self._folder)
        self.keypoint_names = annotations.keypoint_names
        self.persons = [person for person in annotations.persons if self._counts(person)]
        if not self.persons:
            raise AnnotationError(
                f"A training set needs persons with labelled keypoints, but {source.annotations} has none. "
                "Leave it out or label it."
            )
        for entry in {self._images[p.image_id].id: self._images[p.image_id] for p in self.persons}.values():
            if PurePosixPath(entry.file_name).name not in self._shards:
                image_path(self._folder, entry)

    def __len__(self) -> int:
        return len(self.persons)

    def _read(self) -> AnnotationSet:
        return read_annotations(self.source.annotations)

    def _counts(self, person: Person) -> bool:
        return not person.iscrowd and bool((person.keypoints[:, 2] > 0).any())

    def person(self, index: int) -> TrainPerson:
        """Decode the picture of one person."""
        person = self.persons[index]
        return TrainPerson(
            image=self._decode(self._images[person.image_id]),
            keypoints=person.keypoints,
            bbox_xyxy=person.bbox_xyxy,
            area=person.area,
            visibility_labelled=self.source.visibility_labelled,
        )

    def _decode(self, entry: ImageEntry) -> NDArray[np.uint8]:
        name = PurePosixPath(entry.file_name).name
        data = self._shards.read(name) if name in self._shards else image_path(self._folder, entry).read_bytes()
        # Labels are in stored pixel order, so the EXIF orientation must not be applied.
        return decode_image(data, entry.file_name, upright=False)


class DrawnSet:
    """Drawn people with full truth, a new one for every sample; raises `InputError` for keypoints they do not have."""

    def __init__(self, keypoint_names: tuple[str, ...] = COCO_17.keypoint_names) -> None:
        spots_of(keypoint_names)
        self.keypoint_names = keypoint_names

    def sample(self, rng: np.random.Generator) -> TrainPerson:
        """Draw a picture and pick one of its persons that shows at least a part of itself."""
        while True:
            scene = draw_scene(rng, width=320, height=360, persons=(1, 2), keypoint_names=self.keypoint_names)
            people = [p for p in scene.persons if p.area > 400]
            if people:
                person = people[int(rng.integers(len(people)))]
                return TrainPerson(
                    image=scene.image,
                    keypoints=person.keypoints,
                    bbox_xyxy=np.asarray(person.bbox_xyxy, dtype=np.float64),
                    area=float(person.area),
                    visibility_labelled=True,
                )
