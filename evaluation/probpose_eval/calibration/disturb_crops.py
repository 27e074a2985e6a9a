"""Boxes and crops made worse on purpose, so that a network errs on pictures it was trained on, too."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SHIFT, STRETCH = 0.08, 0.15
"""Standard deviations of the shift of a box, as a share of its sides, and of the logarithm of their stretch."""
_SMALLER, _BLURRED, _REPAINTED, _COVERED = 0.35, 0.25, 0.5, 0.5
"""Chances of the four steps of `disturb_crop`."""


def jitter_box(box_xyxy: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(4,) a box like that of a careless detector."""
    sides = box_xyxy[2:] - box_xyxy[:2]
    center = box_xyxy[:2] + sides / 2 + rng.normal(0, SHIFT, 2) * sides
    half = sides * np.exp(rng.normal(0, STRETCH, 2)) / 2
    return np.concatenate([center - half, center + half])


def disturb_crop(crop: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 copy with, each by chance: fewer pixels, blur, other contrast and noise, covered rectangles."""
    height, width = crop.shape[:2]
    changed = crop.copy()
    if rng.random() < _SMALLER:
        factor = rng.uniform(1.5, 6)
        size = (max(2, int(width / factor)), max(2, int(height / factor)))
        changed = cv2.resize(cv2.resize(changed, size, interpolation=cv2.INTER_AREA), (width, height)).astype(np.uint8)
    if rng.random() < _BLURRED:
        changed = cv2.GaussianBlur(changed, (0, 0), rng.uniform(0.5, 3)).astype(np.uint8)
    if rng.random() < _REPAINTED:
        values = (changed.astype(np.float32) - 128) * rng.uniform(0.4, 1.3) + 128 + rng.uniform(-50, 50)
        changed = np.clip(values + rng.normal(0, rng.uniform(0, 20), crop.shape), 0, 255).astype(np.uint8)
    if rng.random() < _COVERED:
        for _ in range(int(rng.integers(1, 4))):
            (x, y), (w, h) = rng.uniform(-0.1, 0.9, 2), rng.uniform(0.08, 0.4, 2)
            left, top = (max(0, int(value)) for value in (x * width, y * height))
            part = slice(top, max(top, int((y + h) * height))), slice(left, max(left, int((x + w) * width)))
            changed[part] = crop[::-1, ::-1][part] if rng.random() < 0.5 else rng.integers(0, 256, 3)
    return changed
