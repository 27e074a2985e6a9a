"""Crops of persons of whom nothing but the box is known: what a network can be taught by another with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import AnnotationError
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_eval.annotations.coco import AnnotationSet, Person, parse_annotations, read_annotations
from probpose_train.augment import WindowFrame, augment
from probpose_train.config import AugmentConfig, DataSource
from probpose_train.sources import DrawnSet, PersonSet

AS_DEPLOYED = AugmentConfig(half_body=0.0, rotate=0.0, scale=(0.85, 1.2), shift=0.05, crop=0.5, colour=0.3, blur=0.1)
"""Mild: a network that learns to be like itself should see what it will be shown, and that includes cut persons."""


class BoxedSet(PersonSet):
    """The persons of a COCO-style set, with keypoints or with boxes alone; crowds are left out."""

    def __init__(self, source: DataSource, keypoint_names: tuple[str, ...]) -> None:
        self._keypoint_names = keypoint_names
        super().__init__(source)

    def _read(self) -> AnnotationSet:
        path = Path(self.source.annotations)
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return read_annotations(path)  # which says what is wrong with it
        if isinstance(document, dict) and not _names_keypoints(document):
            _add_unlabelled_keypoints(document, self._keypoint_names, str(path))
        return parse_annotations(document, source=str(path))

    def _counts(self, person: Person) -> bool:
        return not person.iscrowd


class BoxedCrops:
    """An endless, reproducible stream of crops: number n depends on the seed and n alone.

    Half of them are cut at a new border, as `probpose_train.augment` does it. Raises `AnnotationError` for sets that
    cannot be read or whose pictures are missing.
    """

    def __init__(self, sources: tuple[DataSource, ...], contract: ModelContract, seed: int) -> None:
        names = contract.keypoint_names
        self._sets = [
            DrawnSet(names) if source.annotations == "synth" else BoxedSet(source, names) for source in sources
        ]
        shares = np.array([source.share for source in sources])
        self._cumulated = np.cumsum(shares / shares.sum())
        self._seed = seed
        self._frame = WindowFrame(
            input_wh=contract.input_wh,
            heatmap_wh=contract.heatmap_wh,
            padding=contract.padding,
            flip_permutation=Skeleton.of(contract).flip_permutation,
            window_ratio=contract.window_ratio,
        )

    def crops(self, first: int, count: int) -> NDArray[np.uint8]:
        """(count, H, W, 3) uint8 RGB, numbers `first` to ``first + count - 1``."""
        return np.stack([self._crop(index) for index in range(first, first + count)])

    def _crop(self, index: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng((self._seed, index))
        people = self._sets[min(int(np.searchsorted(self._cumulated, rng.random())), len(self._sets) - 1)]
        person = people.sample(rng) if isinstance(people, DrawnSet) else people.person(int(rng.integers(len(people))))
        return augment(person, rng, self._frame, AS_DEPLOYED).crop


def _names_keypoints(document: dict[str, Any]) -> bool:
    categories = document.get("categories")
    return not isinstance(categories, list) or any(isinstance(c, dict) and "keypoints" in c for c in categories)


def _add_unlabelled_keypoints(document: dict[str, Any], names: tuple[str, ...], source: str) -> None:
    """Make a detection set a keypoint set in which nothing is labelled; its persons are the category ``person``."""
    category = next((c for c in document["categories"] if isinstance(c, dict) and c.get("name") == "person"), None)
    if category is None:
        raise AnnotationError(
            f"A set of boxes must have a category called person, but {source} has none. Rename its category."
        )
    category["keypoints"] = list(names)
    for record in document.get("annotations") or ():
        if isinstance(record, dict) and record.get("category_id") == category.get("id"):
            record["keypoints"] = [0] * (3 * len(names))
            record["num_keypoints"] = 0
