"""Sample the body and the pose of a drawn person: 3-D joints by forward kinematics.

Body frame: x to the person's left, y up, z forward (right-handed); lengths in standing heights.
Camera frame: x to the right of the picture, y down, z away from the viewer (right-handed).
A person who faces the viewer has their left on the viewer's right. Segment lengths are rounded from the usual
anthropometric fractions of standing height (Drillis and Contini, 1966), varied per person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BODY_TO_CAMERA: Array = np.diag([1.0, -1.0, -1.0])
"""A person at yaw 0 faces the viewer: left is picture right, up is picture up, forward is towards the viewer."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """Lengths in standing heights; `bulk` scales the girth of trunk and limbs."""

    head: Array  # (3,) half-axes of the skull: left, up, forward
    neck: float
    torso: float
    shoulder: float  # half width between the shoulder joints
    hip: float  # half width between the hip joints
    upper_arm: float
    forearm: float
    hand: float
    thigh: float
    shank: float
    foot: float
    bulk: float
    chest: float  # half width of the trunk at chest height, before bulk
    waist: float


@dataclass(frozen=True, kw_only=True)
class Skeleton3D:
    """A posed body in the camera frame, pelvis at 0: joints (name → (3,)), frames (name → (3, 3), columns left, up and
    forward of the part), and the activity it was sampled for."""

    joints: dict[str, Array]
    frames: dict[str, Array]
    activity: str


def rotation(axis: int, angle: float) -> Array:
    """Right-handed rotation by `angle` radians about axis 0, 1 or 2."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def sample_body(rng: np.random.Generator) -> Body:
    """A child (a fifth of the people) or an adult, with individual proportions."""

    def vary(value: float, spread: float = 0.05) -> float:
        return float(value * np.clip(rng.normal(1.0, spread), 1 - 2.5 * spread, 1 + 2.5 * spread))

    child = rng.random() < 0.2
    head = float(rng.uniform(1.2, 1.6)) if child else vary(1.05, 0.06)
    limb = float(rng.uniform(0.82, 0.95)) if child else 1.0
    broad = float(rng.uniform(-1, 1))
    return Body(
        head=np.array([vary(0.046), vary(0.066), vary(0.056)]) * head,
        neck=vary(0.042, 0.1),
        torso=vary(0.305) * (1.06 if child else 1.0),
        shoulder=vary(0.104) + 0.010 * broad,
        hip=vary(0.056) - 0.004 * broad,
        upper_arm=vary(0.170) * limb,
        forearm=vary(0.150) * limb,
        hand=vary(0.092) * limb,
        thigh=vary(0.245) * limb,
        shank=vary(0.243) * limb,
        foot=vary(0.125),
        bulk=float(np.clip(rng.lognormal(0.02, 0.16), 0.78, 1.6)),
        chest=vary(0.088) + 0.006 * broad,
        waist=vary(0.074) + 0.003 * broad,
    )


# (name, weight): the share of each activity among drawn people.
_ACTIVITIES = (
    ("stand", 0.31), ("walk", 0.16), ("run", 0.09), ("sit", 0.15), ("crouch", 0.07), ("jump", 0.06),
    ("lie", 0.06), ("bend", 0.05), ("handstand", 0.015), ("wild", 0.035),
)  # fmt: skip
_ACTIVITY_NAMES = tuple(name for name, _ in _ACTIVITIES)
_ACTIVITY_CUM: Array = np.cumsum([weight for _, weight in _ACTIVITIES]) / sum(weight for _, weight in _ACTIVITIES)


def _legs(rng: np.random.Generator, activity: str) -> list[list[float]]:
    """Per side [hip flexion, abduction, outward twist, knee flexion], radians."""
    u, n = rng.uniform, rng.normal
    if activity in ("stand", "bend"):
        spread = abs(n(0.06, 0.08))
        legs = [[n(0, 0.07), spread + n(0, 0.04), u(-0.1, 0.4), abs(n(0, 0.1))] for _ in range(2)]
        if rng.random() < 0.2:
            legs[int(rng.integers(2))] = [u(0.1, 1.3), u(0, 0.4), u(0, 0.5), u(0.2, 1.8)]
        return legs
    if activity in ("walk", "run"):
        phase, stride = u(0, 2 * np.pi), u(0.25, 0.5) if activity == "walk" else u(0.5, 1.0)
        lift = 0.7 if activity == "walk" else 1.6
        legs = []
        for p in (phase, phase + np.pi):
            swing = stride * np.sin(p)
            legs.append([swing + 0.1, n(0.02, 0.04), n(0.05, 0.1), 0.1 + lift * max(0.0, np.cos(p - 0.4)) ** 2])
        return legs
    if activity == "sit":
        lean, spread = u(1.2, 1.8), abs(n(0.1, 0.18))
        knee = u(0.2, 2.2)
        legs = [[lean + n(0, 0.1), spread + n(0, 0.08), n(0.05, 0.15), knee + n(0, 0.2)] for _ in range(2)]
        if rng.random() < 0.12:  # cross-legged
            legs = [[lean, u(0.5, 0.9), u(0.4, 0.9), u(1.8, 2.3)] for _ in range(2)]
        return legs
    if activity == "crouch":
        depth = u(0.9, 2.1)
        legs = [[depth + n(0, 0.1), abs(n(0.2, 0.2)), u(0, 0.4), depth * u(0.95, 1.3)] for _ in range(2)]
        if rng.random() < 0.3:  # one knee down
            legs[int(rng.integers(2))] = [n(0.0, 0.15), n(0.05, 0.08), 0.0, u(1.4, 1.9)]
        return legs
    if activity == "jump":
        tuck = u(-0.3, 1.4)
        return [[tuck + n(0, 0.3), abs(n(0.15, 0.35)), u(0, 0.4), abs(tuck + n(0.3, 0.5))] for _ in range(2)]
    if activity == "handstand":
        return [[n(0, 0.35), abs(n(0.1, 0.3)), u(0, 0.3), abs(n(0, 0.4))] for _ in range(2)]
    return [[u(-0.4, 1.9), u(-0.15, 0.9), u(-0.3, 0.7), u(0, 2.2)] for _ in range(2)]


_ARM_KINDS = ("hang", "bend", "hip", "up", "front", "side", "head", "cross", "wild")
_ARM_CUM: Array = np.cumsum([0.30, 0.16, 0.08, 0.11, 0.10, 0.07, 0.06, 0.05, 0.07])


def _arm(rng: np.random.Generator, kind: str) -> list[float]:
    """[shoulder flexion, abduction, inward twist, elbow flexion], radians."""
    u, n = rng.uniform, rng.normal
    if kind == "hang":
        return [n(0.05, 0.15), abs(n(0.12, 0.1)), n(0.3, 0.3), abs(n(0.2, 0.2))]
    if kind == "bend":
        return [n(0.2, 0.3), abs(n(0.15, 0.15)), u(-0.3, 0.9), u(0.7, 2.2)]
    if kind == "hip":
        return [n(-0.35, 0.15), u(0.6, 0.95), u(1.2, 1.6), u(1.3, 1.9)]
    if kind == "up":
        return [u(2.0, 3.2), u(-0.2, 0.6), u(-0.8, 0.8), abs(n(0.3, 0.5))]
    if kind == "front":
        return [u(0.9, 1.8), n(0.05, 0.25), u(-0.5, 0.8), abs(n(0.4, 0.5))]
    if kind == "side":
        return [n(0, 0.25), u(1.0, 1.8), u(-0.5, 0.5), abs(n(0.2, 0.4))]
    if kind == "head":
        return [u(0.8, 2.0), u(0.1, 0.6), u(0.2, 0.9), u(1.9, 2.5)]
    if kind == "cross":
        return [u(0.3, 0.6), n(0.05, 0.08), u(0.9, 1.3), u(1.4, 1.8)]
    return [u(-0.7, 3.0), u(-0.2, 1.6), u(-1.2, 1.4), u(0, 2.4)]


def _arms(rng: np.random.Generator, activity: str, legs: list[list[float]]) -> list[list[float]]:
    if activity in ("walk", "run") and rng.random() < 0.75:
        # Arms swing against the legs.
        bend = rng.uniform(0.1, 0.5) if activity == "walk" else rng.uniform(0.8, 1.9)
        gain = rng.uniform(0.6, 1.2)
        return [[-gain * leg[0] + 0.1, abs(rng.normal(0.12, 0.08)), rng.normal(0.3, 0.2), bend] for leg in legs]
    if activity == "handstand":
        return [[rng.normal(3.0, 0.1), abs(rng.normal(0.1, 0.1)), 0.0, abs(rng.normal(0, 0.15))] for _ in range(2)]
    kinds = [_ARM_KINDS[min(int(np.searchsorted(_ARM_CUM, rng.random())), 8)] for _ in range(2)]
    if rng.random() < 0.45:
        kinds[1] = kinds[0]
    return [_arm(rng, kind) for kind in kinds]


def _root(rng: np.random.Generator, activity: str) -> Array:
    """Rotation of the pelvis before the view: upright, leaning, lying or upside down."""
    if activity == "lie":
        pitch = rng.choice([-1.0, 1.0]) * rng.normal(np.pi / 2, 0.12)  # on the stomach or on the back
        return rotation(1, rng.uniform(-np.pi, np.pi)) @ rotation(0, pitch) @ rotation(1, rng.normal(0, 0.6))
    if activity == "handstand":
        return rotation(2, np.pi + rng.normal(0, 0.2)) @ rotation(0, rng.normal(0, 0.15))
    if activity in ("jump", "wild"):
        return rotation(2, rng.normal(0, 0.35)) @ rotation(0, rng.normal(0.1, 0.35))
    lean = {"run": 0.2, "crouch": 0.35, "sit": -0.05}.get(activity, 0.02)
    return rotation(2, rng.normal(0, 0.04)) @ rotation(0, lean + rng.normal(0, 0.08))


def _yaw(rng: np.random.Generator) -> float:
    """Front views are the most common in photographs, back views the least."""
    draw = rng.random()
    if draw < 0.5:
        return float(rng.normal(0, 0.5))
    if draw < 0.7:
        return float(rng.normal(np.pi, 0.4))
    return float(rng.uniform(-np.pi, np.pi))


def sample_skeleton(rng: np.random.Generator, body: Body, *, yaw: float | None = None) -> Skeleton3D:
    """Sample an activity and its joint angles, and place the joints.

    yaw: radians the person turns to their own left, 0 facing the viewer; sampled if None.
    """
    activity = _ACTIVITY_NAMES[int(np.searchsorted(_ACTIVITY_CUM, rng.random()))]
    legs = _legs(rng, activity)
    arms = _arms(rng, activity, legs)
    facing = _yaw(rng) if yaw is None else yaw
    tilt = float(np.clip(rng.normal(0.08, 0.15), -0.35, 0.9)) if rng.random() < 0.93 else float(rng.uniform(0.3, 1.1))
    roll = float(rng.normal(0, 0.05)) if rng.random() < 0.9 else float(rng.normal(0, 0.4))
    view = rotation(2, roll) @ rotation(0, tilt) @ BODY_TO_CAMERA @ rotation(1, facing)
    pelvis = view @ _root(rng, activity)

    n = rng.normal
    flex = {"bend": float(rng.uniform(0.5, 1.5)), "crouch": 0.35, "sit": 0.15, "run": 0.15}.get(activity, 0.03)
    flex += n(0, 0.1)
    half_spine = rotation(1, n(0, 0.1)) @ rotation(2, n(0, 0.06)) @ rotation(0, flex / 2)
    spine = pelvis @ half_spine
    chest = spine @ half_spine
    nod = n(0.05, 0.2) - (0.3 * flex)
    head = chest @ rotation(1, n(0, 0.35)) @ rotation(2, n(0, 0.12)) @ rotation(0, nod)

    joints: dict[str, Array] = {"pelvis": np.zeros(3)}
    frames = {"pelvis": pelvis, "spine": spine, "chest": chest, "head": head}
    down = np.array([0.0, -1.0, 0.0])
    joints["waist"] = joints["pelvis"] + pelvis @ np.array([0, 0.35 * body.torso, 0])
    joints["chest"] = joints["waist"] + spine @ np.array([0, 0.37 * body.torso, 0.0])
    joints["collar"] = joints["chest"] + chest @ np.array([0, 0.28 * body.torso, 0.0])
    joints["neck"] = joints["collar"] + chest @ np.array([0, 0.012, 0.0])
    joints["head"] = joints["neck"] + head @ np.array([0, body.neck * 0.5 + body.head[1], 0.012])
    for name, sign, arm, leg in (("left", 1.0, arms[0], legs[0]), ("right", -1.0, arms[1], legs[1])):
        shrug = 0.03 * float(np.clip(arm[0] + arm[1] - 1.2, 0, 1))
        upper = chest @ rotation(0, -arm[0]) @ rotation(2, sign * arm[1]) @ rotation(1, -sign * arm[2])
        lower = upper @ rotation(0, -arm[3])
        hand = lower @ rotation(0, n(-0.1, 0.25)) @ rotation(2, n(0, 0.2))
        joints[f"{name}_shoulder"] = joints["collar"] + chest @ np.array([sign * body.shoulder, shrug - 0.025, -0.005])
        joints[f"{name}_elbow"] = joints[f"{name}_shoulder"] + upper @ down * body.upper_arm
        joints[f"{name}_wrist"] = joints[f"{name}_elbow"] + lower @ down * body.forearm
        joints[f"{name}_fingers"] = joints[f"{name}_wrist"] + hand @ down * body.hand
        joints[f"{name}_thumb"] = joints[f"{name}_wrist"] + hand @ (np.array([-0.25 * sign, -0.5, 0.35]) * body.hand)
        thigh = pelvis @ rotation(0, -leg[0]) @ rotation(2, sign * leg[1]) @ rotation(1, sign * leg[2])
        shank = thigh @ rotation(0, leg[3])
        sole = shank @ rotation(0, float(np.clip(leg[0] - leg[3], -0.7, 0.4)) + n(0, 0.08))
        joints[f"{name}_hip"] = pelvis @ np.array([sign * body.hip, 0.0, 0.0])
        joints[f"{name}_knee"] = joints[f"{name}_hip"] + thigh @ down * body.thigh
        joints[f"{name}_ankle"] = joints[f"{name}_knee"] + shank @ down * body.shank
        joints[f"{name}_heel"] = joints[f"{name}_ankle"] + sole @ np.array([0, -0.022, -0.022])
        joints[f"{name}_toe"] = joints[f"{name}_heel"] + sole @ np.array([0.012 * sign, -0.006, body.foot])
        frames |= {f"{name}_upper_arm": upper, f"{name}_forearm": lower, f"{name}_hand": hand}
        frames |= {f"{name}_thigh": thigh, f"{name}_shank": shank, f"{name}_foot": sole}
    for name, where in FACE.items():
        joints[name] = joints["head"] + head @ (where * body.head)
    return Skeleton3D(joints=joints, frames=frames, activity=activity)


EYE_UP = 0.12
FACE: dict[str, Array] = {
    "nose": np.array([0.0, -0.15, 1.13]),
    "left_eye": np.array([0.36, EYE_UP, 0.925]),
    "right_eye": np.array([-0.36, EYE_UP, 0.925]),
    "left_ear": np.array([1.02, -0.06, -0.08]),
    "right_ear": np.array([-1.02, -0.06, -0.08]),
}
"""Places on the skull, in its half-axes (left, up, forward)."""
