"""Two crops of a drawn person, the same to the byte on every machine: what a self-test shows a network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GROUND, _WALL, _SKIN, _HAIR, _SHIRT, _TROUSERS, _SHOES, _DARK = (
    (128, 120, 108), (186, 196, 204), (224, 172, 140), (72, 48, 36), (176, 52, 48), (48, 64, 112), (36, 34, 32),
    (24, 24, 28),
)  # fmt: skip
_PARTS: tuple[tuple[float, float, float, float, float, tuple[int, int, int]], ...] = (
    (0.465, 0.55, 0.445, 0.71, 0.042, _TROUSERS), (0.445, 0.71, 0.435, 0.86, 0.032, _TROUSERS),
    (0.545, 0.55, 0.575, 0.70, 0.042, _TROUSERS), (0.575, 0.70, 0.590, 0.85, 0.032, _TROUSERS),
    (0.435, 0.885, 0.405, 0.895, 0.024, _SHOES), (0.592, 0.875, 0.625, 0.885, 0.024, _SHOES),
    (0.415, 0.315, 0.355, 0.43, 0.032, _SHIRT), (0.355, 0.43, 0.330, 0.54, 0.025, _SKIN),
    (0.330, 0.555, 0.328, 0.565, 0.027, _SKIN),
    (0.455, 0.34, 0.470, 0.53, 0.058, _SHIRT), (0.545, 0.34, 0.535, 0.53, 0.058, _SHIRT),
    (0.500, 0.33, 0.500, 0.52, 0.070, _SHIRT),
    (0.585, 0.315, 0.660, 0.41, 0.032, _SHIRT), (0.660, 0.41, 0.700, 0.31, 0.025, _SKIN),
    (0.702, 0.295, 0.704, 0.285, 0.027, _SKIN),
    (0.500, 0.255, 0.500, 0.285, 0.030, _SKIN), (0.500, 0.165, 0.500, 0.185, 0.058, _HAIR),
    (0.500, 0.185, 0.500, 0.215, 0.048, _SKIN), (0.448, 0.195, 0.448, 0.205, 0.012, _SKIN),
    (0.552, 0.195, 0.552, 0.205, 0.012, _SKIN), (0.478, 0.190, 0.482, 0.190, 0.007, _DARK),
    (0.518, 0.190, 0.522, 0.190, 0.007, _DARK), (0.500, 0.203, 0.500, 0.212, 0.007, _HAIR),
    (0.488, 0.236, 0.512, 0.236, 0.005, _DARK),
)  # fmt: skip
"""Limbs from back to front: ends x, y, x, y as shares of the crop's width and height, radius as a share of its height,
and colour."""


def drawn_crops(input_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """(2, H, W, 3) uint8 RGB: a whole person, and the same nearer, cut off by the left and lower border of a picture.

    input_wh: size of the crops, width first. Nothing but comparisons, sums and products of numbers makes them, so that
    no version of a drawing library changes a pixel.
    """
    return np.stack([_crop(input_wh, 1.0, (0.0, 0.0)), _crop(input_wh, 1.55, (-0.33, 0.12))])


def _crop(input_wh: tuple[int, int], zoom: float, moved: tuple[float, float]) -> NDArray[np.uint8]:
    width, height = input_wh
    x = ((np.arange(width) + 0.5) / width)[None, :]
    y = ((np.arange(height) + 0.5) / height)[:, None]
    picture = np.where((y < 0.8)[..., None], np.array(_WALL), np.array(_GROUND)) + np.zeros(
        (height, width, 1), np.int64
    )
    picture += (np.arange(height)[:, None, None] * 40 // height) - 20
    for x0, y0, x1, y1, radius, colour in _PARTS:
        ends = [((a - 0.5) * zoom + 0.5 + moved[0], (b - 0.5) * zoom + 0.5 + moved[1]) for a, b in ((x0, y0), (x1, y1))]
        # Squared distance to the line between the ends, in heights.
        aspect = width / height
        (ax, ay), (bx, by) = ends
        dx, dy = (bx - ax) * aspect, by - ay
        px, py = (x - ax) * aspect, y - ay
        along = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0, 1)
        away = (px - along * dx) * (px - along * dx) + (py - along * dy) * (py - along * dy)
        limb = away < (radius * zoom) * (radius * zoom)
        shade = (px * 60 / (radius * zoom)).astype(np.int64) // 3
        picture = np.where(limb[..., None], np.array(colour) - np.clip(shade, -24, 24)[..., None], picture)
    # A little grain, from whole numbers only.
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    picture += ((rows * 7919 + columns * 104729 + rows * columns * 31) % 11 - 5)[..., None]
    if moved != (0.0, 0.0):
        # Beyond the picture a crop is black.
        picture[:, : width // 8] = 0
        picture[height * 7 // 8 :] = 0
    return np.asarray(np.clip(picture, 0, 255), dtype=np.uint8)
