"""Draw one person on a canvas, farther parts first, and say which keypoints end up on top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from probpose_edge.skeleton import COCO_17

from probpose_eval.synth_body import Body, Skeleton3D
from probpose_eval.synth_canvas import Canvas, ball, disc, paste_patch, sphere, tube
from probpose_eval.synth_looks import Looks

Array = NDArray[np.floating]

KEYPOINT_NAMES = COCO_17.keypoint_names
PART_NAMES = (
    "head", "trunk", "pelvis", "skirt",
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
        facing=np.array([_faces(name, body, looks, skeleton) for name in KEYPOINT_NAMES]),
    )


def _faces(keypoint: str, body: Body, looks: Looks, skeleton: Skeleton3D) -> bool:
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
        if looks.hair_kind == "long":
            return False
        return bool(np.sign(local[0]) * head[2, 0] < 0.25)
    return True


def draw_figure(canvas: Canvas, figure: Figure, first_id: int) -> None:
    """Draw all parts; part p gets id `first_id + p`."""
    painters: list[tuple[float, Callable[[], None]]] = []
    for name in ("left", "right"):
        painters += _arm(canvas, figure, first_id, name) + _leg(canvas, figure, first_id, name)
    painters += _trunk(canvas, figure, first_id)
    painters.append(_head(canvas, figure, first_id))
    for _, paint in sorted(painters, key=lambda item: -item[0]):
        paint()


def _arm(canvas: Canvas, figure: Figure, first: int, side: str) -> list[tuple[float, Callable[[], None]]]:
    looks, joints, frames, place = figure.looks, figure.skeleton.joints, figure.skeleton.frames, figure.place
    r = figure.scale * figure.body.bulk**0.7
    shoulder, elbow, wrist = (place[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    fingers, thumb = place[f"{side}_fingers"], place[f"{side}_thumb"]
    loose = looks.looseness

    def upper() -> None:
        part, frame = first + PART[f"{side}_upper_arm"], frames[f"{side}_upper_arm"]
        length = looks.sleeve_length
        if length < 1:
            belly = shoulder + 0.4 * (elbow - shoulder)
            tube(canvas, [ball(shoulder, 0.032 * r), ball(belly, 0.030 * r), ball(elbow, 0.023 * r)], looks.skin, frame, part)
        if length > 0:
            share = min(length, 1.0)
            end = shoulder + share * (elbow - shoulder)
            top, low = ball(shoulder, 0.036 * r), ball(end, (0.036 - 0.009 * share) * loose * r)
            tube(canvas, [top, low], looks.sleeve, frame, part, rows=(0.1, 0.1 + 0.4 * share))

    def lower() -> None:
        part, frame = first + PART[f"{side}_forearm"], frames[f"{side}_forearm"]
        share = min(max(looks.sleeve_length - 1, 0.0), 1.0)
        if share < 1:
            belly = elbow + 0.28 * (wrist - elbow)
            tube(canvas, [ball(elbow, 0.022 * r), ball(belly, 0.024 * r), ball(wrist, 0.0145 * r)], looks.skin, frame, part)
        if share > 0:
            end = elbow + share * (wrist - elbow)
            tube(
                canvas, [ball(elbow, 0.026 * loose * r), ball(end, (0.026 - 0.007 * share) * loose * r)],
                looks.sleeve, frame, part, rows=(0.5, 0.5 + 0.45 * share),
            )  # fmt: skip

    def hand() -> None:
        part, frame = first + PART[f"{side}_hand"], frames[f"{side}_hand"]
        colour = looks.shoes if looks.gloves else looks.skin
        palm = wrist + 0.5 * (fingers - wrist)
        tube(canvas, [ball(wrist + 0.25 * (thumb - wrist), 0.011 * r), ball(thumb, 0.007 * r)], colour, frame, part)
        tube(canvas, [ball(wrist, 0.014 * r), ball(palm, 0.021 * r), ball(fingers, 0.011 * r)], colour, frame, part)

    z = {name: float(joints[f"{side}_{name}"][2]) for name in ("shoulder", "elbow", "wrist", "fingers")}
    upper_z, lower_z = 0.4 * z["shoulder"] + 0.6 * z["elbow"], 0.4 * z["elbow"] + 0.6 * z["wrist"]
    return [(upper_z, upper), (lower_z - 1e-3, lower), (z["wrist"] + 1e-3, hand)]


def _leg(canvas: Canvas, figure: Figure, first: int, side: str) -> list[tuple[float, Callable[[], None]]]:
    looks, joints, frames, place = figure.looks, figure.skeleton.joints, figure.skeleton.frames, figure.place
    r = figure.scale * figure.body.bulk**0.7
    hip, knee, ankle, heel, toe = (place[f"{side}_{name}"] for name in ("hip", "knee", "ankle", "heel", "toe"))
    loose = looks.looseness
    length = 0.0 if looks.skirt else looks.leg_length

    def thigh() -> None:
        part, frame = first + PART[f"{side}_thigh"], frames[f"{side}_thigh"]
        if length < 1:
            tube(canvas, [ball(hip, 0.050 * r), ball(knee, 0.031 * r)], looks.skin, frame, part)
        if length > 0:
            share = min(length, 1.0)
            end = hip + share * (knee - hip)
            tube(
                canvas, [ball(hip, 0.053 * r), ball(end, (0.053 - 0.019 * share) * loose * r)],
                looks.trousers, frame, part, rows=(0.15, 0.15 + 0.4 * share),
            )  # fmt: skip

    def shank() -> None:
        part, frame = first + PART[f"{side}_shank"], frames[f"{side}_shank"]
        share = min(max(length - 1, 0.0), 1.0)
        if share < 1:
            calf = knee + 0.3 * (ankle - knee) - 0.010 * r * _flat(frame[:, 2])
            tube(canvas, [ball(knee, 0.030 * r), ball(calf, 0.031 * r), ball(ankle, 0.0175 * r)], looks.skin, frame, part)
            sock = ankle + 0.25 * (knee - ankle)
            tube(canvas, [ball(sock, 0.022 * r), ball(ankle, 0.020 * r)], looks.socks, frame, part)
        if share > 0:
            end = knee + share * (ankle - knee)
            tube(
                canvas, [ball(knee, 0.034 * loose * r), ball(end, (0.034 - 0.010 * share) * loose * r)],
                looks.trousers, frame, part, rows=(0.55, 0.55 + 0.4 * share),
            )  # fmt: skip

    def foot() -> None:
        part, frame = first + PART[f"{side}_foot"], frames[f"{side}_foot"]
        middle = heel + 0.6 * (toe - heel)
        sections = [ball(heel, 0.023 * r), ball(middle, 0.023 * r), ball(toe, 0.015 * r)]
        tube(canvas, [ball(ankle, 0.021 * r), ball(heel + 0.35 * (toe - heel), 0.021 * r)], looks.shoes, frame, part)
        tube(canvas, sections, looks.shoes, frame, part, gloss=0.15)

    z = {name: float(joints[f"{side}_{name}"][2]) for name in ("hip", "knee", "ankle", "toe")}
    return [
        (0.5 * (z["hip"] + z["knee"]), thigh),
        (0.5 * (z["knee"] + z["ankle"]), shank),
        (0.5 * (z["ankle"] + z["toe"]) + 0.01, foot),
    ]


def _flat(vector: Array) -> Array:
    return np.asarray(vector[:2])


def _trunk(canvas: Canvas, figure: Figure, first: int) -> list[tuple[float, Callable[[], None]]]:
    looks, body, place = figure.looks, figure.body, figure.place
    joints, frames, scale = figure.skeleton.joints, figure.skeleton.frames, figure.scale
    pelvis, spine, chest = frames["pelvis"], frames["spine"], frames["chest"]

    def section(middle: Array, frame: Array, wide: float, deep: float) -> object:
        return disc(middle, scale * wide * _flat(frame[:, 0]), scale * deep * _flat(frame[:, 2]))

    girth, loose = body.bulk, 1 + 0.5 * (looks.looseness - 1)
    hips, waist, middle, collar = place["pelvis"], place["waist"], place["chest"], place["collar"]
    below = hips - scale * 0.035 * _flat(pelvis[:, 1])
    hem = hips + scale * 0.02 * _flat(pelvis[:, 1])
    top = middle + 0.62 * (collar - middle)
    hip_wide = body.hip + 0.034 * girth

    def paint_pelvis() -> None:
        sections = [
            section(waist, spine, body.waist * girth, 0.055 * girth),
            section(hips, pelvis, hip_wide, 0.062 * girth),
            section(below, pelvis, 0.8 * hip_wide, 0.05 * girth),
        ]
        tube(canvas, sections, looks.trousers, pelvis, first + PART["pelvis"], rows=(0.0, 0.2))  # type: ignore[arg-type]

    def paint_trunk() -> None:
        neck, head = place["neck"], place["head"]
        part = first + PART["trunk"]
        throat = ball(neck + 0.5 * (head - neck), 0.028 * scale * girth**0.3)
        neck_first = chest[2, 1] > 0.2  # the neck points away: shoulders hide its root
        if neck_first:
            tube(canvas, [ball(collar, 0.034 * scale), throat], looks.skin, chest, part)
        sections = [
            section(collar + 0.010 * scale * _flat(chest[:, 1]), chest, 0.035, 0.03),
            section(collar - 0.020 * scale * _flat(chest[:, 1]), chest, body.shoulder * 0.93, 0.042),
            section(top, chest, max(body.chest * girth**0.6, 0.9 * body.shoulder) + 0.004, 0.066 * girth),
            section(waist, spine, body.waist * girth * loose, 0.058 * girth * loose),
            section(hem, pelvis, (hip_wide + 0.004) * loose, 0.064 * girth * loose),
        ]
        tube(canvas, sections, looks.shirt, spine, part)  # type: ignore[arg-type]
        if not neck_first:
            tube(canvas, [ball(collar, 0.030 * scale), throat], looks.skin, chest, part)

    def paint_skirt() -> None:
        length = looks.skirt
        ends = []
        for side in ("left", "right"):
            hip, knee, ankle = (place[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
            end = hip + min(length, 1) * (knee - hip) + max(length - 1, 0) * (ankle - knee)
            ends.append(ball(end, 0.05 * scale * looks.looseness).outline)
        outline = np.concatenate(ends)
        low = ball(outline.mean(0), 0.5 * float(np.ptp(outline, axis=0).max()))
        hemline = type(low)(middle=low.middle, outline=outline, half=low.half)
        upper = section(hips, pelvis, hip_wide, 0.062 * girth)
        tube(canvas, [upper, hemline], looks.trousers, pelvis, first + PART["skirt"])  # type: ignore[list-item]

    z = float(0.5 * (joints["pelvis"][2] + joints["collar"][2]))
    pelvis_z = float(joints["pelvis"][2])
    parts: list[tuple[float, Callable[[], None]]] = [(pelvis_z - 0.001, paint_pelvis), (min(z, pelvis_z - 0.015), paint_trunk)]
    if looks.skirt:
        knees = min(float(joints["left_knee"][2]), float(joints["right_knee"][2]))
        parts.append((0.5 * (pelvis_z + knees) - 0.01, paint_skirt))
    return parts


def _head(canvas: Canvas, figure: Figure, first: int) -> tuple[float, Callable[[], None]]:
    looks, body, place, scale = figure.looks, figure.body, figure.place, figure.scale
    frame = figure.skeleton.frames["head"]
    part, centre = first + PART["head"], place["head"]
    up = _flat(frame[:, 1])

    def ears(near: bool) -> None:
        for side, sign in (("left", 1.0), ("right", -1.0)):
            if (sign * frame[2, 0] < -0.1) == near and looks.hair_kind != "long":
                ear, size = place[f"{side}_ear"], body.head[1] * scale
                tube(canvas, [ball(ear + 0.16 * size * up, 0.19 * size), ball(ear - 0.2 * size * up, 0.12 * size)],
                     looks.skin * np.float32(0.92), frame, part)  # fmt: skip

    def mane() -> None:
        size = body.head[1] * scale
        back = centre - 0.25 * size * _flat(frame[:, 2])
        tail = back - up * size * (1.3 + 3.0 * max(looks.hair_rise, 0.0)) - 0.25 * size * _flat(frame[:, 2])
        tube(canvas, [ball(back, 0.95 * size), ball(tail, 0.75 * size)], looks.hair, frame, part)

    def paint() -> None:
        long = looks.hair_kind == "long"
        if long and frame[2, 2] < 0:
            mane()
        ears(False)
        skull = sphere(frame, body.head, canvas.light)
        shade = (canvas.ambient + (1 - canvas.ambient) * np.clip(0.25 + 0.75 * skull.lit, 0, None))[..., None]
        face = _face(looks, skull.local)
        paste_patch(canvas, face * shade, skull.inside.astype(float), centre, skull.span * scale, part)
        if frame[2, 2] < 0.35:
            bridge = centre + scale * _flat(frame @ (np.array([0, 0.05, 0.98]) * body.head))
            tip = centre + scale * _flat(frame @ (np.array([0, -0.18, 1.08]) * body.head))
            size = body.head[1] * scale
            tube(canvas, [ball(bridge, 0.06 * size), ball(tip, 0.12 * size)], looks.skin, frame, part)
        if looks.hair_kind != "bald":
            outer = sphere(frame, body.head * (1.16 if looks.hair_kind == "hat" else 1.09), canvas.light)
            cap = _cap(looks, outer.local) & outer.inside
            shade = (canvas.ambient + (1 - canvas.ambient) * np.clip(0.3 + 0.7 * outer.lit, 0, None))[..., None]
            tone = looks.socks if looks.hair_kind == "hat" else looks.hair
            strands = 1 + 0.12 * np.sin(outer.local[0] * 25 + 6 * outer.local[2])[..., None]
            paste_patch(canvas, tone * shade * strands, cap.astype(float), centre, outer.span * scale, part)
            if looks.hair_kind == "hat" and frame[2, 2] < 0.5:
                left, forward = frame[:, 0] * body.head[0], frame[:, 2] * body.head[2]
                brow = centre + scale * 0.35 * _flat(frame[:, 1]) * body.head[1]
                brim = disc(brow + scale * 0.9 * _flat(forward), scale * _flat(left), scale * 0.75 * _flat(forward))
                tube(canvas, [brim], tone * np.float32(0.8), frame, part)
        ears(True)
        if long and frame[2, 2] >= 0:
            mane()

    return float(figure.skeleton.joints["head"][2]) - 0.02, paint


def _cap(looks: Looks, local: Array) -> NDArray[np.bool_]:
    """Where the outer shell of the head is hair or hat."""
    left, up, forward = local
    if looks.hair_kind == "hat":
        return np.asarray(up > 0.25 + 0.15 * forward)
    cap = up > looks.hair_rise + 0.5 * forward + 0.04 * np.sin(left * 30)
    if looks.hair_kind == "long":
        cap |= (np.abs(left) > 0.72 + 0.2 * forward) & (forward < 0.6)
    return np.asarray(cap)


def _face(looks: Looks, local: Array) -> Array:
    """Skin with eyes, brows, mouth, beard and glasses, (56, 56, 3) float BGR."""
    left, up, forward = local
    colours = np.empty((*left.shape, 3), np.float32)
    colours[:] = looks.skin
    front = forward > 0.1
    if looks.beard:
        colours[front & (up < -0.32 - 0.25 * (np.abs(left) < 0.3))] = 0.35 * looks.skin + 0.65 * looks.hair
    mouth = (left / 0.34) ** 2 + ((up + 0.52 - 0.25 * left**2) / 0.075) ** 2
    colours[front & (mouth < 1)] = looks.lips
    x, y = (np.abs(left) - 0.36) / 0.17, (up - 0.10) / 0.085
    eye = x * x + y * y
    colours[front & (eye < 2.6)] *= 0.82
    colours[front & (eye < 1)] = (235, 235, 235)
    colours[front & ((x / 0.52) ** 2 + (y / 0.95) ** 2 < 1)] = looks.iris
    colours[front & ((x / 1.25) ** 2 + ((y - 2.6 + 0.3 * x * x) / 0.5) ** 2 < 1)] = 0.3 * looks.skin + 0.7 * looks.hair * 0.8
    if looks.glasses:
        ring = (x / 1.7) ** 2 + (y / 2.4) ** 2
        colours[front & (ring > 0.7) & (ring < 1.15)] = (25, 25, 25)
        colours[front & (np.abs(left) < 0.1) & (np.abs(up - 0.14) < 0.03)] = (25, 25, 25)
    return colours
