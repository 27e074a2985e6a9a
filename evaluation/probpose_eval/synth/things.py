"""Things around drawn people: shadows and seats under them, things in their hands and in front of them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_eval.synth.canvas import Canvas, ball, tube
from probpose_eval.synth.looks import cloth, colour
from probpose_eval.synth.person import Figure

Array = NDArray[np.floating]
Image = NDArray[np.uint8]

THING_ID = 255


def shadow(canvas: Canvas, figure: Figure) -> None:
    """Darken the ground under what stands or lies on it with a soft ellipse; only the backdrop takes shadows."""
    resting = {"handstand": ("wrist", "fingers"), "lie": ("heel", "hip", "shoulder")}
    ends = resting.get(figure.skeleton.activity, ("heel", "toe"))
    points = np.stack([figure.place[f"{side}_{end}"] for side in ("left", "right") for end in ends])
    middle_x, middle_y = float(points[:, 0].mean()), float(points[:, 1].max())
    half_w = 0.5 * float(np.ptp(points[:, 0])) + 0.08 * figure.scale
    half_h = 0.05 * figure.scale
    height, width = canvas.ids.shape
    x0, x1 = max(0, int(middle_x - 1.2 * half_w)), min(width, int(middle_x + 1.2 * half_w))
    y0, y1 = max(0, int(middle_y - 1.2 * half_h)), min(height, int(middle_y + 1.2 * half_h))
    if x1 <= x0 or y1 <= y0:
        return
    x = (np.arange(x0, x1, dtype=np.float32) - middle_x) / half_w
    y = (np.arange(y0, y1, dtype=np.float32) - middle_y) / half_h
    dark = 255 - 127 * np.minimum(np.maximum(1.3 - (x * x + (y * y)[:, None]), 0), 1)
    dark[canvas.ids[y0:y1, x0:x1] != 0] = 255
    roi = canvas.image[y0:y1, x0:x1]
    factor = cv2.cvtColor(dark.astype(np.uint8), cv2.COLOR_GRAY2BGR)
    roi[:] = cv2.multiply(np.ascontiguousarray(roi), factor, scale=1 / 255)


def seat(rng: np.random.Generator, canvas: Canvas, figure: Figure) -> None:
    """A box, a stool or a chair under the hips of somebody who sits; drawn before them."""
    hips, scale = figure.place["pelvis"], figure.scale
    ground = max(float(figure.place[f"{side}_heel"][1]) for side in ("left", "right"))
    top, half, deep = float(hips[1]) + 0.045 * scale, rng.uniform(0.11, 0.3) * scale, rng.uniform(0.02, 0.07) * scale
    bottom = max(ground, top + 0.1 * scale)
    left, right = float(hips[0]) - half, float(hips[0]) + half
    shift = float(rng.normal(0, 0.03)) * scale
    tone = colour(rng, vivid=0.7)
    plate = np.array([[left, top + deep], [right, top + deep], [right + shift, top - deep], [left + shift, top - deep]])
    pieces: list[tuple[Array, float]] = []
    if rng.random() < 0.5:
        back = top - rng.uniform(0.2, 0.5) * scale
        rest = [[left + shift, top], [right + shift, top], [right + shift, back], [left + shift, back]]
        pieces.append((np.array(rest), 0.85))
    if rng.random() < 0.5:  # legs
        leg = 0.02 * scale
        for x in (left, right - leg, left + shift, right + shift - leg):
            pieces.append((np.array([[x, top], [x + leg, top], [x + leg, bottom], [x, bottom]]), 0.6))
    else:
        face = [[left, top + deep], [right, top + deep], [right, bottom], [left, bottom]]
        pieces.append((np.array(face), 0.7))
    pieces.append((plate, 1.0))
    for corners, brightness in pieces:
        points = np.rint(corners).astype(np.int32)
        cv2.fillConvexPoly(canvas.image, points, (tone * brightness).tolist(), cv2.LINE_AA)
        cv2.fillConvexPoly(canvas.ids, points, (THING_ID,))


def held(rng: np.random.Generator, canvas: Canvas, figure: Figure) -> None:
    """A ball, a stick, a bag or a phone in one hand; drawn after the person."""
    side = ("left", "right")[int(rng.integers(2))]
    hand = 0.5 * (figure.place[f"{side}_wrist"] + figure.place[f"{side}_fingers"])
    frame, tone, kind = figure.skeleton.frames[f"{side}_hand"], colour(rng), rng.random()
    scale = figure.scale
    if kind < 0.3:
        away = figure.place[f"{side}_fingers"] + (figure.place[f"{side}_fingers"] - hand)
        tube(canvas, [ball(away, scale * float(rng.uniform(0.02, 0.08)))], tone, frame, THING_ID, gloss=0.2)
    elif kind < 0.6:
        turn = rng.uniform(0, 2 * np.pi)
        reach = scale * rng.uniform(0.1, 0.55) * np.array([np.cos(turn), np.sin(turn)])
        width = scale * float(rng.uniform(0.005, 0.018))
        tube(canvas, [ball(hand - 0.15 * reach, width), ball(hand + reach, width * 1.3)], tone, frame, THING_ID)
    elif kind < 0.8:
        size = scale * float(rng.uniform(0.06, 0.13))
        low = hand + np.array([0.0, 1.6 * size])
        texture = cloth(rng) if size > 12 else tone
        aside = np.array([0.4 * size, 0.0])
        tube(canvas, [ball(low - aside, 0.5 * size), ball(low + aside, 0.5 * size)], texture, frame, THING_ID)
    else:
        box = cv2.boxPoints((hand.tolist(), (0.045 * scale, 0.08 * scale), float(rng.uniform(0, 180))))
        cv2.fillConvexPoly(canvas.image, box.astype(np.int32), (tone * 0.5).tolist(), cv2.LINE_AA)
        cv2.fillConvexPoly(canvas.ids, box.astype(np.int32), (THING_ID,))


def occluder(rng: np.random.Generator, width: int, height: int, target_xyxy: Array) -> tuple[Image, Image]:
    """A thing in front of `target_xyxy`: its mask (H, W) uint8 0 or 255, and its picture (H, W, 3)."""
    mask = np.zeros((height, width), np.uint8)
    x0, y0, x1, y1 = (float(value) for value in target_xyxy)
    w, h = max(x1 - x0, 8.0), max(y1 - y0, 8.0)
    x, y = x0 + rng.uniform(0, 1) * w, y0 + rng.uniform(0.1, 1) * h
    kind = rng.random()
    tone = colour(rng, vivid=0.7)
    if kind < 0.35:  # a table, wall or counter from some height down
        edge = int(y0 + rng.uniform(0.45, 0.95) * h)
        left, right = int(x0 - w * rng.uniform(0, 1)), int(x1 + w * rng.uniform(-0.4, 1))
        if rng.random() < 0.5:
            left, right = 0, width
        cv2.rectangle(mask, (left, edge), (right, edge + int(h * rng.uniform(0.1, 1.0))), 255, -1)
    elif kind < 0.55:  # a post or a bar
        thick = max(2, int(w * rng.uniform(0.06, 0.3)))
        if rng.random() < 0.6:
            cv2.line(mask, (int(x), -5), (int(x + rng.uniform(-0.3, 0.3) * w), height + 5), 255, thick)
        else:
            cv2.line(mask, (-5, int(y)), (width + 5, int(y + rng.uniform(-0.2, 0.2) * h)), 255, thick)
    elif kind < 0.75:  # a box
        sides = (w * rng.uniform(0.2, 0.8), h * rng.uniform(0.1, 0.4))
        corners = cv2.boxPoints(((x, y), sides, float(rng.normal(0, 12))))
        cv2.fillConvexPoly(mask, corners.astype(np.int32), 255)
    elif kind < 0.9:  # a plant
        tone = np.array([rng.uniform(30, 70), rng.uniform(70, 150), rng.uniform(30, 90)], np.float32)
        for _ in range(int(rng.integers(4, 14))):
            angle, reach = rng.normal(-90, 45), h * rng.uniform(0.1, 0.35)
            tip = np.array([x, y1]) + reach * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
            centre = ((x + float(tip[0])) / 2, (y1 + float(tip[1])) / 2)
            cv2.ellipse(mask, (centre, (reach, reach * 0.25), float(angle)), 255, -1)
    else:  # a ball or a balloon
        cv2.circle(mask, (int(x), int(y)), max(3, int(0.12 * h * rng.uniform(0.4, 1.5))), 255, -1)
    if kind < 0.75 and rng.random() < 0.6:
        picture = cv2.resize(cloth(rng, vivid=0.7).astype(np.uint8), (width, height))
    else:
        fade = np.linspace(1.15, 0.75, 64, dtype=np.float32)[None, :, None]
        picture = cv2.resize(np.minimum(tone * fade, 255).astype(np.uint8), (width, height))
    return mask, np.asarray(picture)
