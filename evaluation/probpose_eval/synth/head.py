"""Draw heads: skull, face, ears, nose, hair and hats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probpose_eval.synth.body import EYE_UP
from probpose_eval.synth.canvas import Canvas, ball, disc, lit_shade, paste_patch, sphere, tube
from probpose_eval.synth.looks import Looks
from probpose_eval.synth.person import PART, Figure

Array = NDArray[np.floating]


def paint_head(canvas: Canvas, figure: Figure, first: int) -> None:
    """Draw the head; hair and hats get the id of "hair", so that what they cover counts as hidden."""
    looks, frame, scale = figure.looks, figure.skeleton.frames["head"], figure.scale
    radii, centre = figure.body.head, figure.place["head"]
    part, hair = first + PART["head"], first + PART["hair"]
    size = radii[1] * scale
    side = 24 if size < 10 else 40 if size < 24 else 64
    faces_viewer = bool(frame[2, 2] < 0)
    long = looks.hair_kind == "long"

    if long and faces_viewer:
        _mane(canvas, figure, hair, size)
    _ears(canvas, figure, part, size, near=False)
    skull = sphere(frame, radii, canvas.light, side)
    face = _face(looks, skull.local)
    paste_patch(canvas, face * lit_shade(canvas, skull.lit)[..., None], skull.inside, centre, skull.span * scale, part)
    if frame[2, 2] < 0.35 and size > 5:
        bridge = centre + scale * (frame @ (np.array([0, 0.05, 0.98]) * radii))[:2]
        tip = centre + scale * (frame @ (np.array([0, -0.16, 1.08]) * radii))[:2]
        tube(canvas, [ball(bridge, 0.06 * size), ball(tip, 0.12 * size)], looks.skin, frame, part)
    if looks.hair_kind != "bald":
        hat = looks.hair_kind == "hat"
        tone = looks.socks if hat else looks.hair
        outer = sphere(frame, radii * (1.16 if hat else looks.hair_bulk), canvas.light, side)
        left, up, forward = outer.local
        # Strands fall from the crown along meridians; they fade where these meet.
        strands = 1 + (0.0 if hat else 0.16) * np.sin(22 * np.arctan2(left, forward)) * (1 - up * up)
        shaded = tone * (lit_shade(canvas, outer.lit) * strands)[..., None]
        paste_patch(canvas, shaded, _cap(looks, outer.local) & outer.inside, centre, outer.span * scale, hair)
        if hat and looks.brim and frame[2, 2] < 0.5:
            across, deep = (frame[:, 0] * radii[0])[:2] * scale, (frame[:, 2] * radii[2])[:2] * scale
            brow = centre + 0.42 * size * frame[:2, 1]
            tube(canvas, [disc(brow + 0.9 * deep, across, 0.75 * deep)], tone * np.float32(0.8), frame, hair)
    _ears(canvas, figure, part, size, near=True)
    if long and not faces_viewer:
        _mane(canvas, figure, hair, size)


def _ears(canvas: Canvas, figure: Figure, part: int, size: float, *, near: bool) -> None:
    """The ear towards the viewer is drawn over the head, the other one behind it; long hair covers both."""
    looks, frame = figure.looks, figure.skeleton.frames["head"]
    if looks.hair_kind == "long":
        return
    up = frame[:2, 1] * size
    for side, sign in (("left", 1.0), ("right", -1.0)):
        if (sign * frame[2, 0] < -0.1) == near:
            ear = figure.place[f"{side}_ear"]
            tone = looks.skin * np.float32(0.92)
            tube(canvas, [ball(ear + 0.16 * up, 0.16 * size), ball(ear - 0.2 * up, 0.10 * size)], tone, frame, part)


def _mane(canvas: Canvas, figure: Figure, part: int, size: float) -> None:
    """Long hair behind the head, down to the neck or below the shoulders."""
    looks, frame, centre = figure.looks, figure.skeleton.frames["head"], figure.place["head"]
    backward = -0.25 * size * frame[:2, 2]
    back = centre + backward
    tail = back + backward - frame[:2, 1] * size * looks.hair_length
    tube(canvas, [ball(back, 0.92 * size), ball(tail, 0.7 * size)], looks.hair_texture, frame, part)


def _cap(looks: Looks, local: Array) -> NDArray[np.bool_]:
    """Where the outer shell of the head is hair or hat."""
    left, up, forward = local
    if looks.hair_kind == "hat":
        return np.asarray(up > 0.28 + 0.15 * forward)
    cap = up > looks.hair_rise + 0.5 * forward + 0.04 * np.sin(left * 30)
    if looks.hair_kind == "long":
        cap |= (np.abs(left) > 0.72 + 0.2 * forward) & (forward < 0.6)
    return np.asarray(cap)


def _face(looks: Looks, local: Array) -> Array:
    """Skin with eyes, brows, mouth, beard and glasses, (S, S, 3) float32 BGR."""
    left, up, forward = local
    wide = np.abs(left)
    colours = np.empty((*left.shape, 3), np.float32)
    colours[:] = looks.skin
    if not (forward > 0.1).any():
        return colours
    front = forward > 0.1
    if looks.beard:
        colours[front & (up < -0.32 - 0.25 * (wide < 0.3))] = 0.35 * looks.skin + 0.65 * looks.hair
    mouth = (left / 0.34) ** 2 + ((up + 0.52 - 0.25 * left**2) / 0.075) ** 2
    colours[front & (mouth < 1)] = looks.lips
    x, y = (wide - 0.36) / 0.17, (up - EYE_UP) / 0.085
    eye = x * x + y * y
    colours[front & (eye < 2.6)] *= np.float32(0.82)
    colours[front & (eye < 1)] = 235
    colours[front & ((x / 0.52) ** 2 + (y / 0.95) ** 2 < 1)] = looks.iris
    brow = (x / 1.25) ** 2 + ((y - 2.6 + 0.3 * x * x) / 0.5) ** 2
    colours[front & (brow < 1)] = 0.3 * looks.skin + 0.56 * looks.hair
    if looks.glasses:
        ring = (x / 1.7) ** 2 + (y / 2.4) ** 2
        colours[front & (ring > 0.7) & (ring < 1.15)] = 25
        colours[front & (wide < 0.1) & (np.abs(up - EYE_UP - 0.04) < 0.03)] = 25
    return colours
