"""A person ready to be drawn: parts, places in the picture, and which keypoints their own bulk hides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.skeleton import COCO_17
from probpose_eval.synth_body import Body, Skeleton3D
from probpose_eval.synth_looks import Looks

Array = NDArray[np.floating]

KEYPOINT_NAMES = COCO_17.keypoint_names
PART_NAMES = (
    "head", "hair", "trunk", "pelvis", "skirt",
    "left_upper_arm", "left_forearm", "left_hand", "right_upper_arm", "right_forearm", "right_hand",
    "left_thigh", "left_shank", "left_foot", "right_thigh", "right_shank", "right_foot",
)  # fmt: skip
PARTS_PER_PERSON = len(PART_NAMES)
PART = {name: index for index, name in enumerate(PART_NAMES)}


def _own_parts(keypoint: str) -> frozenset[int]:
    if keypoint in ("nose", "left_eye", "right_eye", "left_ear", "right_ear"):
        return frozenset({PART["head"]})
    side, joint = keypoint.split("_")
    names = {
        "shoulder": (f"{side}_upper_arm", "trunk"),
        "elbow": (f"{side}_upper_arm", f"{side}_forearm"),
        "wrist": (f"{side}_forearm", f"{side}_hand"),
        "hip": (f"{side}_thigh", "trunk", "pelvis", "skirt"),
        "knee": (f"{side}_thigh", f"{side}_shank"),
        "ankle": (f"{side}_shank", f"{side}_foot"),
    }[joint]
    return frozenset(PART[name] for name in names)


OWN_PARTS: tuple[frozenset[int], ...] = tuple(_own_parts(name) for name in KEYPOINT_NAMES)
"""For every keypoint the parts it belongs to."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A person ready to draw: places in px, scale in px per standing height, and which keypoints face the viewer."""

    body: Body
    looks: Looks
    skeleton: Skeleton3D
    place: dict[str, Array]
    scale: float
    keypoints_px: Array  # (17, 2)
    facing: NDArray[np.bool_]  # (17,) False where the person's own bulk hides the point for certain


def make_figure(
    body: Body, looks: Looks, skeleton: Skeleton3D, *, origin_px: Array, scale: float, distance: float
) -> Figure:
    """Project the joints with a camera `distance` standing heights away (weak perspective)."""

    place = {
        name: origin_px + scale * joint[:2] * (distance / max(distance + joint[2], 0.3 * distance))
        for name, joint in skeleton.joints.items()
    }
    keypoints = np.array([place[name] for name in KEYPOINT_NAMES])
    return Figure(
        body=body,
        looks=looks,
        skeleton=skeleton,
        place=place,
        scale=scale,
        keypoints_px=keypoints,
        facing=np.array([_faces(name, body, skeleton) for name in KEYPOINT_NAMES]),
    )


def _faces(keypoint: str, body: Body, skeleton: Skeleton3D) -> bool:
    joint = skeleton.joints[keypoint]
    if keypoint.endswith(("shoulder", "hip")):
        # Trunk and pelvis belong to both sides; the far side of a person in profile is behind them.
        middle = skeleton.joints["collar" if keypoint.endswith("shoulder") else "pelvis"]
        width = body.shoulder if keypoint.endswith("shoulder") else body.hip
        return bool(joint[2] - middle[2] < 0.8 * width)
    head = skeleton.frames["head"]
    local = head.T @ (joint - skeleton.joints["head"])
    if keypoint == "nose":
        return bool(head[2, 2] < 0.25)
    if keypoint.endswith("eye"):
        return bool((head @ (local / body.head**2))[2] < 0)
    if keypoint.endswith("ear"):
        return bool(np.sign(local[0]) * head[2, 0] < 0.25)
    return True
