"""What surrounds drawn people: backdrops, shadows, things in front of them, and the camera's faults."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_eval.synth_canvas import Canvas
from probpose_eval.synth_looks import cloth, colour

Array = NDArray[np.floating]
Image = NDArray[np.uint8]


def _bytes(rng: np.random.Generator, shape: tuple[int, ...]) -> Image:
    return np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)


def _clouds(rng: np.random.Generator, width: int, height: int, cells: int, *, colours: bool = True) -> Image:
    """Smooth noise: a small random picture enlarged."""
    shape = (max(2, cells * height // max(width, 1)), cells, 3) if colours else (cells, cells)
    return np.asarray(cv2.resize(_bytes(rng, shape), (width, height), interpolation=cv2.INTER_CUBIC))


def _gradient(rng: np.random.Generator, width: int, height: int) -> Image:
    corners = np.stack([colour(rng), colour(rng), colour(rng), colour(rng)]).reshape(2, 2, 3)
    return np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)).astype(np.uint8)


def _shapes(rng: np.random.Generator, image: Image, count: int) -> None:
    height, width = image.shape[:2]
    for _ in range(count):
        tone = tuple(int(value) for value in colour(rng))
        kind = rng.random()
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size = int(rng.uniform(0.03, 0.4) * max(width, height))
        if kind < 0.35:
            cv2.rectangle(image, (x, y), (x + size, y + int(size * rng.uniform(0.2, 2.5))), tone, -1)
        elif kind < 0.55:
            axes = (max(1, size // 2), max(1, int(size * rng.uniform(0.1, 0.6))))
            cv2.ellipse(image, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, tone, -1, cv2.LINE_AA)
        elif kind < 0.75:
            corners = np.array([x, y]) + rng.uniform(-size, size, (int(rng.integers(3, 7)), 2))
            cv2.fillPoly(image, [corners.astype(np.int32)], tone, cv2.LINE_AA)
        else:
            end = (int(rng.integers(-50, width + 50)), int(rng.integers(-50, height + 50)))
            cv2.line(image, (x, y), end, tone, int(rng.integers(1, 12)), cv2.LINE_AA)


def backdrop(rng: np.random.Generator, width: int, height: int) -> Image:
    """A room, an open place, clutter, noise or a gradient, (H, W, 3) uint8 BGR."""
    kind = rng.random()
    if kind < 0.2:
        image = _gradient(rng, width, height)
    elif kind < 0.38:
        image = _clouds(rng, width, height, int(rng.integers(3, 40)))
        image = np.asarray(cv2.addWeighted(image, float(rng.uniform(0.2, 0.7)), _gradient(rng, width, height), 0.5, 0))
    else:
        image = _place(rng, width, height)
    if kind > 0.1:
        _shapes(rng, image, int(rng.integers(0, 14)))
    if rng.random() < 0.6:
        fine = _clouds(rng, width, height, int(rng.integers(30, 160)), colours=False)
        strength = float(rng.uniform(0.03, 0.25))
        image = np.asarray(cv2.addWeighted(image, 1.0, cv2.merge([fine, fine, fine]), strength, -110 * strength))
    if rng.random() < 0.55:
        size = 2 * int(rng.integers(1, max(2, width // 80 + 1))) + 1
        image = np.asarray(cv2.blur(image, (size, size)))
    return image


def _place(rng: np.random.Generator, width: int, height: int) -> Image:
    """A wall or sky above a floor or ground, with windows, furniture, trees or a crowd of posts."""
    horizon = int(height * rng.uniform(0.3, 0.8))
    image = np.empty((height, width, 3), np.uint8)
    image[:horizon] = _gradient(rng, width, horizon)
    ground = np.asarray(cv2.resize(cloth(rng), (width, height - horizon))).astype(np.uint8)
    image[horizon:] = ground
    outdoors = rng.random() < 0.45
    for _ in range(int(rng.integers(1, 9))):
        tone = colour(rng)
        x, w = int(rng.integers(-40, width)), int(rng.uniform(0.04, 0.3) * width)
        top = horizon - int(rng.uniform(0.1, 1.0) * horizon)
        if outdoors and rng.random() < 0.6:  # a tree
            trunk = tuple(int(v) for v in (30, 55, 80))
            cv2.rectangle(image, (x + w // 2 - w // 12, top), (x + w // 2 + w // 12, horizon + 8), trunk, -1)
            green = np.array([40, rng.uniform(70, 160), 50])
            for _ in range(7):
                at = (x + int(rng.uniform(0, w)), top + int(rng.uniform(-0.5, 0.5) * w))
                shade = tuple(float(v) for v in green * rng.uniform(0.6, 1.2))
                cv2.circle(image, at, max(2, int(w * rng.uniform(0.15, 0.35))), shade, -1, cv2.LINE_AA)
        else:  # a window, a picture, a house, a cupboard
            bottom = horizon + int(rng.uniform(-0.4, 0.15) * height)
            cv2.rectangle(image, (x, top), (x + w, bottom), tuple(float(v) for v in tone), -1)
            if rng.random() < 0.6:
                frame = tuple(float(v) for v in tone * rng.uniform(0.4, 0.8))
                cv2.rectangle(image, (x, top), (x + w, bottom), frame, int(rng.integers(1, 6)))
                cv2.line(image, (x + w // 2, top), (x + w // 2, bottom), frame, 2)
    return image


def shadow(canvas: Canvas, middle: Array, half_wh: tuple[float, float]) -> None:
    """Darken the ground under a person with a soft ellipse."""
    height, width = canvas.ids.shape
    half_w, half_h = max(3.0, half_wh[0]), max(2.0, half_wh[1])
    x0, x1 = max(0, int(middle[0] - 1.5 * half_w)), min(width, int(middle[0] + 1.5 * half_w))
    y0, y1 = max(0, int(middle[1] - 1.5 * half_h)), min(height, int(middle[1] + 1.5 * half_h))
    if x1 <= x0 or y1 <= y0:
        return
    x = (np.arange(x0, x1) - middle[0]) / half_w
    y = (np.arange(y0, y1) - middle[1]) / half_h
    dark = 1 - 0.5 * np.clip(1.3 - (x[None] ** 2 + y[:, None] ** 2), 0, 1)
    free = canvas.ids[y0:y1, x0:x1] == 0
    roi = canvas.image[y0:y1, x0:x1]
    roi[free] = (roi[free] * dark[free][:, None]).astype(np.uint8)


def occluder(rng: np.random.Generator, width: int, height: int, target_xyxy: Array) -> tuple[Image, Image]:
    """A thing in front of `target_xyxy`: its mask (H, W) uint8 0 or 255, and its picture (H, W, 3)."""
    mask = np.zeros((height, width), np.uint8)
    x0, y0, x1, y1 = (float(value) for value in target_xyxy)
    w, h = max(x1 - x0, 8.0), max(y1 - y0, 8.0)
    x, y = x0 + rng.uniform(0, 1) * w, y0 + rng.uniform(0.1, 1) * h
    kind = rng.random()
    tone = colour(rng)
    if kind < 0.35:  # a table, wall or counter from some height down
        edge = int(y0 + rng.uniform(0.45, 0.95) * h)
        left, right = (0, width) if rng.random() < 0.5 else (int(x0 - w * rng.uniform(0, 1)), int(x1 + w * rng.uniform(-0.4, 1)))
        cv2.rectangle(mask, (left, edge), (right, edge + int(h * rng.uniform(0.1, 1.0))), 255, -1)
    elif kind < 0.55:  # a post or a bar
        thick = max(2, int(w * rng.uniform(0.06, 0.3)))
        if rng.random() < 0.6:
            cv2.line(mask, (int(x), -5), (int(x + rng.uniform(-0.3, 0.3) * w), height + 5), 255, thick)
        else:
            cv2.line(mask, (-5, int(y)), (width + 5, int(y + rng.uniform(-0.2, 0.2) * h)), 255, thick)
    elif kind < 0.75:  # a box
        bw, bh = w * rng.uniform(0.2, 0.8), h * rng.uniform(0.1, 0.4)
        corners = cv2.boxPoints(((x, y), (bw, bh), float(rng.normal(0, 12))))
        cv2.fillConvexPoly(mask, corners.astype(np.int32), 255)
    elif kind < 0.9:  # a plant
        tone = np.array([45, rng.uniform(80, 170), 50], np.float32)
        for _ in range(int(rng.integers(4, 14))):
            angle, reach = rng.normal(-90, 45), h * rng.uniform(0.1, 0.35)
            tip = np.array([x, y1]) + reach * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
            centre = ((x + tip[0]) / 2, (y1 + tip[1]) / 2)
            cv2.ellipse(mask, (centre, (reach, reach * 0.25), float(angle)), 255, -1)
    else:  # a ball or a balloon
        cv2.circle(mask, (int(x), int(y)), max(3, int(0.12 * h * rng.uniform(0.4, 1.5))), 255, -1)
    if kind < 0.75 and rng.random() < 0.6:
        picture = np.asarray(cv2.resize(cloth(rng), (width, height))).astype(np.uint8)
    else:
        picture = np.empty((height, width, 3), np.uint8)
        fade = np.linspace(1.15, 0.75, width)[None, :, None]
        picture[:] = np.clip(tone * fade, 0, 255).astype(np.uint8)
    return mask, picture


def camera_faults(rng: np.random.Generator, image: Image) -> Image:
    """Light falling off across the picture, blur, noise and JPEG blocks, each sometimes."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        ramp = np.asarray(rng.uniform(150, 255, (2, 2)), np.float32)
        small = cv2.resize(ramp, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        image = np.asarray(cv2.multiply(image, cv2.merge([small, small, small]), scale=1 / 215))
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.6))))
    if rng.random() < 0.55:
        strength = float(rng.uniform(0.02, 0.13))
        image = np.asarray(cv2.addWeighted(image, 1.0, _bytes(rng, image.shape), strength, -127 * strength))
    if rng.random() < 0.4:
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        image = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return image
