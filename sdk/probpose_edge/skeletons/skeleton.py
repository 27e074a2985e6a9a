"""Skeletons: the keypoints of a person, how they connect, and how precisely people can mark them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probpose_edge.exceptions import InputError

if TYPE_CHECKING:
    from probpose_edge.contract.metadata import ModelContract


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A set of K keypoints.

    Attributes
    ----------
    keypoint_names: K names, in the order of every array over keypoints.
    edges: pairs of keypoint indices joined by a limb.
    flip_pairs: pairs (left, right) of keypoint indices that swap in a mirrored picture.
    sigmas: K OKS sigmas (COCO: an annotator's standard deviation is ``2 * sigma * sqrt(area)``).
    """

    keypoint_names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        k = len(self.keypoint_names)
        if len(set(self.keypoint_names)) != k or k == 0:
            raise InputError(
                f"A skeleton needs distinct keypoint names, got {list(self.keypoint_names)}. Rename the doubles."
            )
        if len(self.sigmas) != k or not all(0 < sigma < float("inf") for sigma in self.sigmas):
            raise InputError(
                f"A skeleton of {k} keypoints needs {k} positive sigmas, got {list(self.sigmas)}. Give one each."
            )
        for pair in (*self.edges, *self.flip_pairs):
            if len(pair) != 2 or not all(0 <= index < k for index in pair):
                raise InputError(
                    f"The pairs of a skeleton must index its {k} keypoints, got {pair}. Use indices from 0 to {k - 1}."
                )
        swapped = [index for pair in self.flip_pairs for index in pair]
        if len(set(swapped)) != len(swapped):
            doubles = sorted({self.keypoint_names[index] for index in swapped if swapped.count(index) > 1})
            raise InputError(
                f"A keypoint must be in one flip pair at most and never with itself, but {', '.join(doubles)} is in "
                "several. Correct the flip pairs."
            )

    @classmethod
    def of(cls, contract: ModelContract) -> Skeleton:
        """The skeleton that a model file carries; raises `InputError` for one that breaks the rules above."""
        return cls(
            keypoint_names=contract.keypoint_names,
            edges=contract.skeleton,
            flip_pairs=contract.flip_pairs,
            sigmas=contract.sigmas,
        )

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """For every keypoint the index that takes its place in a mirrored picture."""
        order = list(range(len(self.keypoint_names)))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)


_SIDES = (
    re.compile(r"^(?P<side>left|right)(?P<part>.+)$", re.IGNORECASE),
    re.compile(r"^(?P<part>.+)(?P<side>left|right)$", re.IGNORECASE),
    re.compile(r"^(?P<side>[lr])[ _.\-](?P<part>.+)$", re.IGNORECASE),
    re.compile(r"^(?P<part>.+)[ _.\-](?P<side>[lr])$", re.IGNORECASE),
    re.compile(r"^(?P<side>[LR])(?P<part>[A-Z].*)$"),
)


def side_and_part(name: str) -> tuple[str, str]:
    """``"left"``, ``"right"`` or ``""``, and the part in small letters and digits without separators.

    The side is read from ``left_ear``, ``leftEar``, ``ear_left``, ``l_ear``, ``L-ear``, ``ear.l`` and ``LEar``.
    """
    for pattern in _SIDES:
        if found := pattern.match(name):
            return ("left" if found["side"][0] in "lL" else "right"), _plain(found["part"])
    return "", _plain(name)


def infer_flip_pairs(keypoint_names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs (left, right) of the keypoints whose names differ in their side only; see `side_and_part`.

    Raises `InputError` for a keypoint that is named for one side and has no twin, because a mirrored picture would
    show it in the wrong place.
    """
    places = {side_and_part(name): index for index, name in enumerate(keypoint_names)}
    pairs = []
    for (side, part), index in places.items():
        if not side:
            continue
        twin = places.get(("right" if side == "left" else "left", part))
        if twin is None:
            raise InputError(
                f"A keypoint named for one side needs a twin on the other, but {keypoint_names[index]!r} has none. "
                "Name the pairs that swap in a mirrored picture in 'flip_pairs' (an empty list if there are none)."
            )
        if side == "left":
            pairs.append((index, twin))
    return tuple(pairs)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())


COCO_17 = Skeleton(
    keypoint_names=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    edges=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
        0.089,
    ),
)  # fmt: skip
"""The 17 keypoints of COCO (Lin et al. 2014), in its order, with the sigmas of its evaluation."""
