"""Where the keypoints of several skeletons lie on a drawn person, and what shows or hides them.

COCO's 17 are joints of the figure and places on its skull. The others are placed on what is drawn: the middle of the
hips, the base of the neck, its upper end and the crown; toes and heel in the shoe; 68 points of the face (iBUG order)
on the ellipsoid of the skull, around the eyes, brows, nose and mouth painted there; 21 points of a hand as a fan from
the wrist inside the mitten that is painted. They are exact for these figures, and only similar to what an annotator
would click.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.skeletons.skeleton import side_and_part
from probpose_eval.synth.body import EYE_UP, FACE, Body, Skeleton3D

Array = NDArray[np.float64]

PART_NAMES = (
    "head", "hair", "trunk", "pelvis", "skirt",
    "left_upper_arm", "left_forearm", "left_hand", "right_upper_arm", "right_forearm", "right_hand",
    "left_thigh", "left_shank", "left_foot", "right_thigh", "right_shank", "right_foot",
)  # fmt: skip
PARTS_PER_PERSON = len(PART_NAMES)
PART = {name: index for index, name in enumerate(PART_NAMES)}


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A place on a drawn body: a joint, an offset from it, and the rule that says when the body itself hides it.

    Attributes
    ----------
    joint: name in `Skeleton3D.joints`.
    own: names of the parts the place belongs to.
    frame: name in `Skeleton3D.frames` of the offset; empty without an offset.
    offset: left, up, forward of the frame, in `unit`.
    unit: "body" standing heights, "head" half-axes of the skull, "neck", "hand" or "foot" their lengths.
    hidden: "never", "far side" of the trunk, "nose", "skull" (surface turned away), "ear", "toe" or "heel".
    """

    joint: str
    own: tuple[str, ...]
    frame: str = ""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unit: str = "body"
    hidden: str = "never"


def spots_of(keypoint_names: Sequence[str]) -> tuple[Spot, ...]:
    """The spot of every keypoint, by name (in the spellings of `side_and_part`).

    Raises `InputError` for names that drawn people do not have.
    """
    missing = [name for name in keypoint_names if side_and_part(name) not in _SPOTS]
    if missing:
        raise InputError(
            f"Drawn people have the keypoints of COCO, MPII, CrowdPose and COCO-WholeBody, but not "
            f"{', '.join(missing[:5])}. Leave drawn people out, or rename the keypoints."
        )
    return tuple(_SPOTS[side_and_part(name)] for name in keypoint_names)


def own_parts(spot: Spot) -> frozenset[int]:
    """Indices in `PART_NAMES` of the parts that show a spot."""
    return frozenset(PART[name] for name in spot.own)


def spot_place(spot: Spot, body: Body, skeleton: Skeleton3D) -> Array:
    """(3,) camera-frame place of a spot, standing heights."""
    joint = skeleton.joints[spot.joint]
    if not spot.frame:
        return joint
    units = {"body": 1.0, "neck": body.neck, "hand": body.hand, "foot": body.foot}
    unit = body.head if spot.unit == "head" else units[spot.unit]
    return np.asarray(joint + skeleton.frames[spot.frame] @ (np.array(spot.offset) * unit))


def faces_viewer(spot: Spot, body: Body, skeleton: Skeleton3D) -> bool:
    """False where the person's own bulk hides the spot for certain."""
    if spot.hidden == "never":
        return True
    if spot.hidden == "far side":
        # Trunk and pelvis belong to both sides; the far side of a person in profile is behind them.
        shoulder = spot.joint.endswith("shoulder")
        middle = skeleton.joints["collar" if shoulder else "pelvis"]
        width = body.shoulder if shoulder else body.hip
        return bool(skeleton.joints[spot.joint][2] - middle[2] < 0.8 * width)
    if spot.hidden in ("toe", "heel"):
        forward = skeleton.frames[spot.frame][2, 2]
        return bool(forward < 0.6 if spot.hidden == "toe" else forward > -0.6)
    head = skeleton.frames["head"]
    if spot.hidden == "nose":
        return bool(head[2, 2] < 0.25)
    local = head.T @ (spot_place(spot, body, skeleton) - skeleton.joints["head"])
    if spot.hidden == "skull":
        return bool((head @ (local / body.head**2))[2] < 0)
    return bool(np.sign(local[0]) * head[2, 0] < 0.25)


def _head_spot(left: float, up: float, forward: float | None = None, *, hidden: str = "skull") -> Spot:
    """A place on the skull; on its surface if `forward` is not given."""
    ahead = float(np.sqrt(max(1 - left * left - up * up, 0.0))) if forward is None else forward
    return Spot(joint="head", own=("head",), frame="head", offset=(left, up, ahead), unit="head", hidden=hidden)


def _coco_spots() -> dict[tuple[str, str], Spot]:
    spots = {}
    for name in FACE:
        side, part = side_and_part(name)
        spots[side, part] = Spot(joint=name, own=("head",), hidden="skull" if part == "eye" else part)
    for side in ("left", "right"):
        arm, leg = (f"{side}_upper_arm", f"{side}_forearm", f"{side}_hand"), (f"{side}_thigh", f"{side}_shank")
        owners = {
            "shoulder": (arm[0], "trunk"), "elbow": arm[:2], "wrist": arm[1:],
            "hip": (leg[0], "trunk", "pelvis", "skirt"), "knee": leg, "ankle": (leg[1], f"{side}_foot"),
        }  # fmt: skip
        for part, own in owners.items():
            hidden = "far side" if part in ("shoulder", "hip") else "never"
            spots[side, part] = Spot(joint=f"{side}_{part}", own=own, hidden=hidden)
    return spots


def _middle_spots() -> dict[tuple[str, str], Spot]:
    crown = Spot(joint="head", own=("head", "hair"), frame="head", offset=(0, 1, 0), unit="head")
    hips = ("pelvis", "trunk", "skirt", "left_thigh", "right_thigh")
    return {
        ("", "pelvis"): Spot(joint="pelvis", own=hips),
        ("", "thorax"): Spot(joint="collar", own=("trunk",), frame="chest", offset=(0, -0.012, 0)),
        ("", "neck"): Spot(joint="collar", own=("trunk",)),
        ("", "upperneck"): Spot(joint="neck", own=("trunk", "head"), frame="head", offset=(0, 0.5, 0), unit="neck"),
        ("", "headtop"): crown,
        ("", "tophead"): crown,
        ("", "head"): crown,
    }


def _foot_spots() -> dict[tuple[str, str], Spot]:
    spots = {}
    for side, outward in (("left", 1.0), ("right", -1.0)):
        own, frame, heel = (f"{side}_foot",), f"{side}_foot", f"{side}_heel"
        for part, across, along in (("bigtoe", 0.03, 0.97), ("smalltoe", 0.17, 0.80)):
            spots[side, part] = Spot(
                joint=heel, own=own, frame=frame, offset=(outward * across, -0.05, along), unit="foot", hidden="toe"
            )
        spots[side, "heel"] = Spot(joint=heel, own=own, frame=frame, hidden="heel")
    return spots


def _hand_spots() -> dict[tuple[str, str], Spot]:
    """Fingers in line with the hand, the thumb towards the joint "thumb"; the palm faces the body when arms hang."""
    spots = {}
    # Finger: how far forward its knuckle and its tip lie, and where its tip is, in hand lengths.
    fingers = {
        "forefinger": (0.16, 0.09, 0.95), "middlefinger": (0.05, 0.03, 1.0), "ringfinger": (-0.06, -0.03, 0.95),
        "pinkyfinger": (-0.16, -0.09, 0.82),
    }  # fmt: skip
    for side, outward in (("left", 1.0), ("right", -1.0)):
        root = Spot(joint=f"{side}_wrist", own=(f"{side}_hand",), frame=f"{side}_hand", unit="hand")
        both = (f"{side}_hand", f"{side}_forearm")
        spots[side, "handroot"] = replace(root, own=both, offset=(0, -0.06, 0))
        for finger, (knuckle, tip, length) in fingers.items():
            for joint, share in enumerate((0.0, 0.42, 0.72, 1.0), start=1):
                down = 0.5 + share * (length - 0.5)
                ahead = knuckle + share * (tip - knuckle)
                spots[side, f"{finger}{joint}"] = replace(root, offset=(0, -down, ahead))
        for joint, share in enumerate((0.3, 0.55, 0.8, 1.0), start=1):
            offset = (-0.25 * outward * share, -0.5 * share, 0.35 * share)
            spots[side, f"thumb{joint}"] = replace(root, offset=offset)
    return spots


def _face_spots() -> dict[tuple[str, str], Spot]:
    """The 68 points from the person's right to the left, around what `head` paints."""
    points: list[Spot] = []
    for turn in np.linspace(0, np.pi, 17):  # jaw
        points.append(_head_spot(float(-0.92 * np.cos(turn)), float(-0.02 - 0.88 * np.sin(turn))))
    for sign in (-1, 1):  # brows
        for x in (np.linspace(1.25, -1.25, 5) * -sign).tolist():
            points.append(_head_spot(sign * (0.36 + 0.17 * x), EYE_UP + 0.085 * (2.6 - 0.3 * x * x)))
    points += [
        _head_spot(0, up, ahead, hidden="nose")
        for up, ahead in ((0.12, 1.0), (0.03, 1.04), (-0.06, 1.09), (-0.15, 1.13))
    ]
    points += [_head_spot(left, -0.25, 1.0, hidden="nose") for left in (-0.14, -0.07, 0.0, 0.07, 0.14)]
    for sign in (-1, 1):  # eyes: a corner, two points above, the other corner, two below
        for x, y in ((1, 0), (0.4, 0.9), (-0.4, 0.9), (-1, 0), (-0.4, -0.9), (0.4, -0.9)):
            points.append(_head_spot(sign * 0.36 - 0.17 * x, EYE_UP + 0.085 * y))
    for width, height, count in ((0.34, 0.075, 6), (0.27, 0.02, 4)):  # outer and inner lips: above, then below
        for turn in np.linspace(np.pi, -np.pi, 2 * count + 1)[:-1]:
            left = float(width * np.cos(turn))
            points.append(_head_spot(left, -0.52 + 0.25 * left * left + float(height * np.sin(turn))))
    return {("", f"face{index}"): spot for index, spot in enumerate(points)}


_SPOTS = {**_coco_spots(), **_middle_spots(), **_foot_spots(), **_hand_spots(), **_face_spots()}
