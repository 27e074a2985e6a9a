"""A person ready to be drawn: parts, places in the picture, and which keypoints their own bulk hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.skeletons.skeleton import COCO_17
from probpose_eval.synth.body import Body, Skeleton3D
from probpose_eval.synth.keypoints import (
    PART,
    PART_NAMES,
    PARTS_PER_PERSON,
    faces_viewer,
    own_parts,
    spot_place,
    spots_of,
)
from probpose_eval.synth.looks import Looks

__all__ = ["OWN_PARTS", "PART", "PARTS_PER_PERSON", "PART_NAMES", "Figure", "make_figure"]

Array = NDArray[np.floating]

OWN_PARTS = tuple(own_parts(spot) for spot in spots_of(COCO_17.keypoint_names))
"""For every keypoint of COCO the parts it belongs to."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A person ready to draw: places in px, scale in px per standing height, and which keypoints face the viewer."""

    body: Body
    looks: Looks
    skeleton: Skeleton3D
    place: dict[str, Array]
    scale: float
    keypoints_px: Array  # (K, 2)
    facing: NDArray[np.bool_]  # (K,) False where the person's own bulk hides the point for certain
    own_parts: tuple[frozenset[int], ...]  # K, the parts each keypoint belongs to


def make_figure(
    body: Body,
    looks: Looks,
    skeleton: Skeleton3D,
    *,
    origin_px: Array,
    scale: float,
    distance: float,
    keypoint_names: Sequence[str] = COCO_17.keypoint_names,
) -> Figure:
    """Project the joints with a camera `distance` standing heights away (weak perspective).

    Raises `InputError` for keypoints that drawn people do not have.
    """

    def project(point: Array) -> Array:
        return np.asarray(origin_px + scale * point[:2] * (distance / max(distance + point[2], 0.3 * distance)))

    spots = spots_of(keypoint_names)
    return Figure(
        body=body,
        looks=looks,
        skeleton=skeleton,
        place={name: project(joint) for name, joint in skeleton.joints.items()},
        scale=scale,
        keypoints_px=np.array([project(spot_place(spot, body, skeleton)) for spot in spots]),
        facing=np.array([faces_viewer(spot, body, skeleton) for spot in spots]),
        own_parts=tuple(own_parts(spot) for spot in spots),
    )
