"""Draw one person on a canvas, farther parts first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from probpose_eval.synth.canvas import Canvas, Section, ball, disc, tube
from probpose_eval.synth.head import paint_head
from probpose_eval.synth.person import PART, Figure

Array = NDArray[np.floating]
Painter = tuple[float, Callable[[], None]]
"""How far away a part is, in standing heights, and what draws it."""

_FINE_PX = 130.0
"""Thumbs, socks and heels are drawn from this standing height on: below it they are less than a pixel."""


def draw_figure(canvas: Canvas, figure: Figure, first_id: int) -> None:
    """Draw all parts; part p gets id `first_id + p`."""
    painters: list[Painter] = []
    for side in ("left", "right"):
        painters += _arm(canvas, figure, first_id, side) + _leg(canvas, figure, first_id, side)
    painters += _trunk_and_head(canvas, figure, first_id)
    for _, paint in sorted(painters, key=lambda item: -item[0]):
        paint()


def _arm(canvas: Canvas, figure: Figure, first: int, side: str) -> list[Painter]:
    looks, joints, frames, place = figure.looks, figure.skeleton.joints, figure.skeleton.frames, figure.place
    r = figure.scale * figure.body.bulk**0.7
    shoulder, elbow, wrist = (place[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    fingers, thumb = place[f"{side}_fingers"], place[f"{side}_thumb"]
    loose = looks.looseness

    def upper() -> None:
        part, frame = first + PART[f"{side}_upper_arm"], frames[f"{side}_upper_arm"]
        share = min(looks.sleeve_length, 1.0)
        if share < 1:
            belly = shoulder + 0.4 * (elbow - shoulder)
            bare = [ball(shoulder, 0.031 * r), ball(belly, 0.029 * r), ball(elbow, 0.022 * r)]
            tube(canvas, bare, looks.skin, frame, part)
        if share > 0:
            end = ball(shoulder + share * (elbow - shoulder), (0.034 - 0.008 * share) * loose * r)
            tube(canvas, [ball(shoulder, 0.034 * r), end], looks.sleeve, frame, part, rows=(0.1, 0.1 + 0.4 * share))

    def lower() -> None:
        part, frame = first + PART[f"{side}_forearm"], frames[f"{side}_forearm"]
        share = min(max(looks.sleeve_length - 1, 0.0), 1.0)
        if share < 1:
            belly = elbow + 0.28 * (wrist - elbow)
            bare = [ball(elbow, 0.022 * r), ball(belly, 0.024 * r), ball(wrist, 0.0145 * r)]
            tube(canvas, bare, looks.skin, frame, part)
        if share > 0:
            end = ball(elbow + share * (wrist - elbow), (0.026 - 0.007 * share) * loose * r)
            cover = [ball(elbow, 0.026 * loose * r), end]
            tube(canvas, cover, looks.sleeve, frame, part, rows=(0.5, 0.5 + 0.45 * share))

    def hand() -> None:
        part, frame = first + PART[f"{side}_hand"], frames[f"{side}_hand"]
        tone = looks.shoes if looks.gloves else looks.skin
        palm = wrist + 0.5 * (fingers - wrist)
        if r > _FINE_PX:
            tube(canvas, [ball(wrist + 0.25 * (thumb - wrist), 0.011 * r), ball(thumb, 0.007 * r)], tone, frame, part)
        tube(canvas, [ball(wrist, 0.014 * r), ball(palm, 0.020 * r), ball(fingers, 0.010 * r)], tone, frame, part)

    z = {name: float(joints[f"{side}_{name}"][2]) for name in ("shoulder", "elbow", "wrist")}
    upper_z, lower_z = 0.4 * z["shoulder"] + 0.6 * z["elbow"], 0.4 * z["elbow"] + 0.6 * z["wrist"]
    return [(upper_z, upper), (lower_z - 1e-3, lower), (z["wrist"] + 1e-3, hand)]


def _leg(canvas: Canvas, figure: Figure, first: int, side: str) -> list[Painter]:
    looks, joints, frames, place = figure.looks, figure.skeleton.joints, figure.skeleton.frames, figure.place
    r = figure.scale * figure.body.bulk**0.7
    hip, knee, ankle, heel, toe = (place[f"{side}_{name}"] for name in ("hip", "knee", "ankle", "heel", "toe"))
    loose = looks.looseness

    def thigh() -> None:
        part, frame = first + PART[f"{side}_thigh"], frames[f"{side}_thigh"]
        # Under a skirt the thigh is clothed as far as the skirt reaches, where a raised leg pushes it up.
        share = min(looks.skirt or looks.leg_length, 1.0)
        if share < 1:
            tube(canvas, [ball(hip, 0.048 * r), ball(knee, 0.030 * r)], looks.skin, frame, part)
        end = ball(hip + share * (knee - hip), (0.054 - 0.020 * share) * loose * r)
        tube(canvas, [ball(hip, 0.054 * r), end], looks.trousers, frame, part, rows=(0.15, 0.15 + 0.4 * share))

    def shank() -> None:
        part, frame = first + PART[f"{side}_shank"], frames[f"{side}_shank"]
        share = 0.0 if looks.skirt else min(max(looks.leg_length - 1, 0.0), 1.0)
        if share < 1:
            calf = knee + 0.3 * (ankle - knee) - 0.010 * r * frame[:2, 2]
            bare = [ball(knee, 0.030 * r), ball(calf, 0.031 * r), ball(ankle, 0.0175 * r)]
            tube(canvas, bare, looks.skin, frame, part)
            if r > _FINE_PX:
                sock = [ball(ankle + looks.sock_height * (knee - ankle), 0.023 * r), ball(ankle, 0.020 * r)]
                tube(canvas, sock, looks.socks, frame, part)
        if share > 0:
            end = ball(knee + share * (ankle - knee), (0.034 - 0.010 * share) * loose * r)
            cover = [ball(knee, 0.034 * loose * r), end]
            tube(canvas, cover, looks.trousers, frame, part, rows=(0.55, 0.55 + 0.4 * share))

    def foot() -> None:
        part, frame = first + PART[f"{side}_foot"], frames[f"{side}_foot"]
        if r > _FINE_PX:
            instep = heel + 0.35 * (toe - heel)
            tube(canvas, [ball(ankle, 0.021 * r), ball(instep, 0.019 * r)], looks.shoes, frame, part)
        shoe = [ball(heel, 0.020 * r), ball(heel + 0.6 * (toe - heel), 0.020 * r), ball(toe, 0.013 * r)]
        tube(canvas, shoe, looks.shoes, frame, part, gloss=0.12)

    z = {name: float(joints[f"{side}_{name}"][2]) for name in ("hip", "knee", "ankle", "toe")}
    return [
        (0.5 * (z["hip"] + z["knee"]), thigh),
        (0.5 * (z["knee"] + z["ankle"]), shank),
        (0.5 * (z["ankle"] + z["toe"]) + 0.01, foot),
    ]


def _trunk_and_head(canvas: Canvas, figure: Figure, first: int) -> list[Painter]:
    looks, body, place = figure.looks, figure.body, figure.place
    joints, frames, scale = figure.skeleton.joints, figure.skeleton.frames, figure.scale
    pelvis, spine, chest = frames["pelvis"], frames["spine"], frames["chest"]
    girth, loose = body.bulk, 1 + 0.5 * (looks.looseness - 1)
    hips, waist, collar = place["pelvis"], place["waist"], place["collar"]
    hip_wide = body.hip + 0.034 * girth

    def section(middle: Array, frame: Array, wide: float, deep: float) -> Section:
        return disc(middle, scale * wide * frame[:2, 0], scale * deep * frame[:2, 2])

    def paint_pelvis() -> None:
        below = hips - scale * 0.035 * pelvis[:2, 1]
        sections = [
            section(waist, spine, body.waist * girth, 0.055 * girth),
            section(hips, pelvis, hip_wide, 0.062 * girth),
            section(below, pelvis, 0.8 * hip_wide, 0.05 * girth),
        ]
        tube(canvas, sections, looks.trousers, pelvis, first + PART["pelvis"], rows=(0.0, 0.2))

    def paint_trunk() -> None:
        top = place["chest"] + 0.62 * (collar - place["chest"])
        hem = hips + scale * looks.hem * pelvis[:2, 1]
        sections = [
            section(collar + 0.010 * scale * chest[:2, 1], chest, 0.036, 0.03),
            section(collar - 0.020 * scale * chest[:2, 1], chest, body.shoulder * 0.95, 0.042),
            section(top, chest, max(body.chest * girth**0.6, 0.9 * body.shoulder) + 0.004, 0.066 * girth),
            section(waist, spine, body.waist * girth * loose, 0.058 * girth * loose),
            section(hem, pelvis, (hip_wide + 0.004) * loose, 0.066 * girth * loose),
        ]
        tube(canvas, sections, looks.shirt, spine, first + PART["trunk"])

    def paint_neck() -> None:
        throat = place["neck"] + 0.5 * (place["head"] - place["neck"])
        width = scale * 0.028 * girth**0.3
        tube(canvas, [ball(collar, width * 1.08), ball(throat, width)], looks.skin, chest, first + PART["trunk"])

    def paint_skirt() -> None:
        length, ends = looks.skirt, []
        for side in ("left", "right"):
            hip, knee, ankle = (place[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
            end = hip + min(length, 1) * (knee - hip) + max(length - 1, 0) * (ankle - knee)
            ends.append(ball(end, 0.05 * scale * looks.looseness).outline)
        outline = np.concatenate(ends)
        low = Section(middle=outline.mean(0), outline=outline, half=0.5 * float(np.ptp(outline, axis=0).max()))
        sections = [section(hips, pelvis, hip_wide, 0.062 * girth), low]
        tube(canvas, sections, looks.trousers, pelvis, first + PART["skirt"])

    pelvis_z, collar_z = float(joints["pelvis"][2]), float(joints["collar"][2])
    trunk_z = min(0.5 * (pelvis_z + collar_z), pelvis_z - 0.015)
    head_z = float(joints["head"][2]) - 0.02
    if head_z < trunk_z + 0.12:
        head_z = min(head_z, trunk_z - 0.004)  # only a head that leans far away goes behind the shoulders
    neck_z = head_z + 0.002  # the neck never covers chin or hair
    parts: list[Painter] = [
        (pelvis_z + 0.02, paint_pelvis),
        (trunk_z, paint_trunk),
        (neck_z, paint_neck),
        (head_z, lambda: paint_head(canvas, figure, first)),
    ]
    if looks.skirt:
        knees = min(float(joints["left_knee"][2]), float(joints["right_knee"][2]))
        parts.append((0.5 * (pelvis_z + knees) - 0.01, paint_skirt))
    return parts
