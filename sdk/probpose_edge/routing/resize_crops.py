"""Crops and maps in another size: the same window, seen with other pixels or cells."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_crops(crops: NDArray[np.uint8], input_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8 crops as (N, H_in, W_in, 3), bilinearly, with UDP alignment: corners stay corners."""
    n, height, width, _ = crops.shape
    if (width, height) == input_wh:
        return crops
    resized = np.empty((n, input_wh[1], input_wh[0], 3), dtype=np.uint8)
    matrix = np.array([[(input_wh[0] - 1) / (width - 1), 0, 0], [0, (input_wh[1] - 1) / (height - 1), 0]])
    for crop, target in zip(crops, resized, strict=True):
        cv2.warpAffine(crop, matrix, input_wh, dst=target, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return resized


def resize_maps(maps: NDArray[np.float32], heatmap_wh: tuple[int, int]) -> NDArray[np.float32]:
    """(N, K, H, W) maps in cells of another size, bilinearly, with UDP alignment; each keeps its sum."""
    height, width = maps.shape[2:]
    if (width, height) == heatmap_wh:
        return maps
    resized = _between(height, heatmap_wh[1]) @ maps @ _between(width, heatmap_wh[0]).T
    before, after = (np.asarray(each.sum(axis=(2, 3), keepdims=True)) for each in (maps, resized))
    return np.asarray(resized * np.divide(before, after, out=np.ones_like(after), where=after > 0), dtype=np.float32)


def _between(cells: int, wanted: int) -> NDArray[np.float32]:
    """(wanted, cells) weights of linear interpolation from the first to the last cell."""
    place = np.linspace(0, cells - 1, wanted)
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells))), dtype=np.float32)
