"""What is behind drawn people, and what the camera does to the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_eval.synth.looks import cloth, colour

Array = NDArray[np.floating]
Image = NDArray[np.uint8]

_VIVID = 0.6  # surroundings are less colourful than clothes
_SKINLIKE = np.array([[130, 165, 215], [75, 105, 160], [170, 200, 235]], float)


def _bytes(rng: np.random.Generator, shape: tuple[int, ...]) -> Image:
    return np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)


def _clouds(rng: np.random.Generator, width: int, height: int, finest: int) -> Array:
    """Noise over octaves around 0, (H, W) float32: each octave three times finer and half as strong."""
    cells, total = 3, np.zeros((2, 2), np.float32)
    strength = np.float32(1.0)
    while cells < finest:
        size = (cells, max(2, cells * height // width))
        octave = (rng.random((size[1], size[0]), np.float32) - np.float32(0.5)) * strength
        total = cv2.resize(total, size, interpolation=cv2.INTER_CUBIC) + octave
        cells, strength = cells * 3, strength * np.float32(0.6)
    return np.asarray(cv2.resize(total, (width, height), interpolation=cv2.INTER_LINEAR))


def _tone(rng: np.random.Generator, strength: float = 1.0) -> tuple[float, ...]:
    return tuple(float(value) * strength for value in colour(rng, vivid=_VIVID))


def _gradient(rng: np.random.Generator, width: int, height: int) -> Image:
    """Two tones of one colour blend into each other, or four colours; darker and lighter by clouds."""
    first = colour(rng, vivid=_VIVID)
    corners = np.clip(first * rng.uniform(0.7, 1.3, (4, 1)) + rng.normal(0, 8, (4, 3)), 0, 255)
    if rng.random() < 0.3:
        corners = np.stack([colour(rng, vivid=_VIVID) for _ in range(4)])
    small = corners.reshape(2, 2, 3).astype(np.float32)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)).astype(np.uint8)


def _mottle(rng: np.random.Generator, image: Image, finest: int, strength: float) -> Image:
    """Lighten and darken by clouds."""
    height, width = image.shape[:2]
    clouds = np.clip(_clouds(rng, width, height, finest) * (255 * strength) + 128, 0, 255).astype(np.uint8)
    return np.asarray(cv2.addWeighted(image, 1.0, cv2.cvtColor(clouds, cv2.COLOR_GRAY2BGR), 1.0, -128))


def _shapes(rng: np.random.Generator, image: Image, count: int) -> None:
    """Loose things: plates, ellipses, shards, rods; some rods are as thick and as coloured as arms."""
    height, width = image.shape[:2]
    for _ in range(count):
        tone, kind = _tone(rng), rng.random()
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size = int(rng.uniform(0.02, 0.3) * max(width, height)) + 1
        if kind < 0.35:
            cv2.rectangle(image, (x, y), (x + size, y + int(size * rng.uniform(0.2, 2.5))), tone, -1)
        elif kind < 0.55:
            axes = (max(1, size // 2), max(1, int(size * rng.uniform(0.1, 0.6))))
            cv2.ellipse(image, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, tone, -1, cv2.LINE_AA)
        elif kind < 0.65:
            corners = np.array([x, y]) + rng.uniform(-size, size, (int(rng.integers(3, 7)), 2))
            cv2.fillPoly(image, [corners.astype(np.int32)], tone, cv2.LINE_AA)
        else:
            if rng.random() < 0.12:
                tone = tuple(float(v) for v in _SKINLIKE[int(rng.integers(3))] * rng.uniform(0.6, 1.1))
            reach = rng.uniform(0.05, 0.7) * max(width, height)
            turn = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)], p=[0.2, 0.4, 0.4])
            end = (int(x + reach * np.cos(turn)), int(y + reach * np.sin(turn)))
            cv2.line(image, (x, y), end, tone, int(rng.integers(1, max(3, width // 24))), cv2.LINE_AA)


def backdrop(rng: np.random.Generator, width: int, height: int) -> Image:
    """A room, an open place, clutter or a plain wall, sharp or out of focus, (H, W, 3) uint8 BGR."""
    # Drawn coarser and enlarged: out of focus behind the people, as in many photographs, and faster.
    coarse = float(rng.choice([1.0, 1.7, 2.5, 4.0], p=[0.25, 0.35, 0.25, 0.15]))
    w, h = max(16, int(width / coarse)), max(16, int(height / coarse))
    kind = rng.random()
    image = _gradient(rng, w, h) if kind < 0.3 else _place(rng, w, h)
    if kind > 0.12:
        _shapes(rng, image, int(rng.integers(0, 16)))
    if rng.random() < 0.7:
        image = _mottle(rng, image, int(rng.integers(9, max(10, w // 2))), float(rng.uniform(0.03, 0.3)))
    if coarse == 1.0:
        return image
    flag = cv2.INTER_CUBIC if coarse > 2 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=flag))


def _place(rng: np.random.Generator, width: int, height: int) -> Image:
    """A wall or sky above a floor or ground, with windows, furniture, houses, trees or posts."""
    horizon = int(height * rng.uniform(0.3, 0.8))
    image = np.empty((height, width, 3), np.uint8)
    image[:horizon] = _gradient(rng, width, horizon)
    if rng.random() < 0.4:  # a patterned floor, seen at a slant
        tile = cloth(rng, vivid=_VIVID).astype(np.uint8)
        corners = np.array([[0, 0], [95, 0], [95, 95], [0, 95]], np.float32)
        near = width * float(rng.uniform(0.5, 2.5))
        slant = np.array([[0, horizon], [width, horizon], [width + near, height], [-near, height]], np.float32)
        matrix = cv2.getPerspectiveTransform(corners, slant)
        floor = cv2.warpPerspective(tile, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        image[horizon:] = floor[horizon:]
    else:
        image[horizon:] = _gradient(rng, width, height - horizon)
    outdoors = rng.random() < 0.45
    for _ in range(int(rng.integers(1, 9))):
        x, w = int(rng.integers(-width // 12, width)), int(rng.uniform(0.04, 0.3) * width)
        top = horizon - int(rng.uniform(0.1, 1.0) * horizon)
        if outdoors and rng.random() < 0.6:  # a tree
            bark = (x + w // 2 - w // 12, top), (x + w // 2 + w // 12, horizon + height // 60)
            cv2.rectangle(image, *bark, tuple(float(v) for v in np.array([35, 55, 80]) * rng.uniform(0.5, 1.3)), -1)
            green = np.array([rng.uniform(25, 80), rng.uniform(70, 150), rng.uniform(30, 110)])
            for _ in range(9):
                at = (x + int(rng.uniform(0, w)), top + int(rng.uniform(-0.5, 0.5) * w))
                shade = tuple(float(v) for v in green * rng.uniform(0.6, 1.2))
                cv2.circle(image, at, max(2, int(w * rng.uniform(0.12, 0.3))), shade, -1, cv2.LINE_AA)
        else:  # a window, a picture, a house, a cupboard
            bottom = horizon + int(rng.uniform(-0.4, 0.15) * height)
            cv2.rectangle(image, (x, top), (x + w, bottom), _tone(rng), -1)
            if rng.random() < 0.6:
                frame = _tone(rng, float(rng.uniform(0.4, 1.0)))
                cv2.rectangle(image, (x, top), (x + w, bottom), frame, int(rng.integers(1, 6)))
                for step in range(1, int(rng.integers(2, 6))):
                    y = top + (bottom - top) * step // 5
                    cv2.line(image, (x, y), (x + w, y), frame, 1)
                cv2.line(image, (x + w // 2, top), (x + w // 2, bottom), frame, 2)
    return image


def camera_faults(rng: np.random.Generator, image: Image) -> Image:
    """Light falling off across the picture, other contrast, blur, noise and JPEG blocks, each sometimes."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        ramp = rng.uniform(150, 255, (2, 2)).astype(np.float32)
        small = cv2.resize(ramp, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        image = np.asarray(cv2.multiply(image, cv2.cvtColor(small, cv2.COLOR_GRAY2BGR), scale=1 / 215))
    if rng.random() < 0.3:
        gain = float(rng.uniform(0.5, 1.1))
        image = np.asarray(cv2.convertScaleAbs(image, alpha=gain, beta=float(rng.uniform(0, 255 * (1.1 - gain)))))
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.6))))
    if rng.random() < 0.55:
        strength = float(rng.uniform(0.02, 0.13))
        image = np.asarray(cv2.addWeighted(image, 1.0, _bytes(rng, image.shape), strength, -127 * strength))
    if rng.random() < 0.06:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR))
    if rng.random() < 0.3:
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        image = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return image
