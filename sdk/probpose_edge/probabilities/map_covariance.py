"""How far a map spreads: its covariance in image pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError


def map_covariances(maps: NDArray[np.floating], windows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Covariance of the place of each keypoint under its map, ``E[(p - E p)(p - E p)^T]``.

    maps: (N, K, H, W) with sum 1 each, over the windows: the calibrated maps, whose regions hold what they say (see
        `calibrated_maps` and ``return_maps="calibrated"``). Sparsemax maps may have no spread at all.
    windows: (N, 4) ``[center_x, center_y, width, height]`` px, over which the maps lie (`Poses.windows`).

    Returns (N, K, 2, 2) float64, px², rows and columns x, y. Raises `InputError` for other shapes.
    """
    if maps.ndim != 4 or np.shape(windows) != (len(maps), 4):
        raise InputError(
            f"Maps must have shape (N, K, H, W) and windows (N, 4), got {maps.shape} and {np.shape(windows)}. Pass "
            "those of one result."
        )
    n, k, height, width = maps.shape
    x, y = np.arange(width, dtype=maps.dtype) - (width - 1) / 2, np.arange(height, dtype=maps.dtype) - (height - 1) / 2
    rows = maps.reshape(n * k, height, width)
    # Moments along the columns first, so that nothing of the size of the maps is made.
    moments = (rows.reshape(-1, width) @ np.stack([np.ones_like(x), x, x * x], axis=1)).reshape(n * k, height, 3)
    moments = moments.astype(np.float64)
    mean_x, mean_y = moments[..., 1].sum(axis=1), moments[..., 0] @ y
    covariance = np.empty((n * k, 2, 2))
    covariance[:, 0, 0] = moments[..., 2].sum(axis=1) - mean_x**2
    covariance[:, 1, 1] = moments[..., 0] @ (y * y) - mean_y**2
    covariance[:, 0, 1] = covariance[:, 1, 0] = moments[..., 1] @ y - mean_x * mean_y
    steps = np.asarray(windows, dtype=np.float64)[:, 2:] / (width - 1, height - 1)
    return np.asarray(covariance.reshape(n, k, 2, 2) * (steps[:, None, :, None] * steps[:, None, None, :]))
