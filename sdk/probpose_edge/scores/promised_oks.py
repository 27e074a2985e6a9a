"""The OKS a map promises its keypoint, from how the map spreads and how large the person is; nothing is trained.

Gu et al. 2024, "On the calibration of human pose estimation", section 4: the OKS of a keypoint is
``exp(-d^2 / (2 k))`` with ``k = (2 sigma)^2 area``. If the true place is distributed as a map says, its mean over the
map is the score the keypoint should have. Of an isotropic Gaussian of variance ``v`` per axis about the estimate it is
``k / (k + v)`` (equation 11 in two dimensions).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probpose_edge.decode import BODY_SHARE
from probpose_edge.exceptions import InputError

_SMALLEST_PEAK = 1e-3
_SMALLEST_AREA = 1e-9


def falloff_px2(boxes_xyxy: NDArray[np.floating], sigmas: Sequence[float]) -> NDArray[np.float64]:
    """(N, K) float64, px²: the variance ``k`` of the OKS of K keypoints with these sigmas, of (N, 4) boxes, px."""
    sides = np.asarray(boxes_xyxy, dtype=np.float64)[:, 2:] - np.asarray(boxes_xyxy, dtype=np.float64)[:, :2]
    areas = np.maximum(BODY_SHARE * sides.prod(axis=1), _SMALLEST_AREA)
    return np.asarray((2 * np.asarray(sigmas)) ** 2 * areas[:, None])


def promised_oks(
    maps: NDArray[np.floating],
    windows: NDArray[np.floating],
    keypoints_px: NDArray[np.floating],
    falloff: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Mean OKS of each keypoint over its probability map, (N, K) float64 in [0, 1].

    maps: (N, K, H, W), sum 1 each, over the windows. windows: (N, 4) ``[center_x, center_y, width, height]`` px.
    keypoints_px: (N, K, 2) px, the estimates. falloff: (N, K) px², see `falloff_px2`. Raises `InputError` for other
    shapes.
    """
    if maps.ndim != 4 or np.shape(windows) != (len(maps), 4) or np.shape(keypoints_px) != (*maps.shape[:2], 2):
        raise InputError(
            f"Maps must have shape (N, K, H, W), windows (N, 4) and keypoints (N, K, 2), got {maps.shape}, "
            f"{np.shape(windows)} and {np.shape(keypoints_px)}. Pass those of one result."
        )
    weights = []
    for axis, size in ((0, maps.shape[3]), (1, maps.shape[2])):
        cells = np.linspace(-0.5, 0.5, size) * windows[:, 2 + axis, None] + windows[:, axis, None]
        distance = cells[:, None, :] - keypoints_px[:, :, axis, None]
        weights.append(np.exp(-(distance**2) / (2 * falloff[..., None])).astype(np.float32))
    along_x = np.matmul(maps.astype(np.float32, copy=False), weights[0][..., None])[..., 0]
    return np.asarray(np.minimum((along_x * weights[1]).sum(axis=2, dtype=np.float64), 1))


def promised_oks_of_heatmaps(
    heatmaps: NDArray[np.floating], windows: NDArray[np.floating], falloff: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The same for plain heatmaps, (N, K) float64 in [0, 1], from a Gaussian fitted to each peak.

    A heatmap network that was trained on Gaussians of variance ``r`` gives, where the true place varies by ``v`` per
    axis, a peak of height ``r / (r + v)`` (equation 17), so ``v = r (1 / height - 1)``. ``r`` is the variance of the
    Gaussian fitted to the peak, from the second difference of its logarithm, mean of both axes; where a peak is at the
    border, or its neighbours are not positive, the mean of the person's others stands in, or else one cell.
    heatmaps: (N, K, H, W); the rest as in `promised_oks`.
    """
    if heatmaps.ndim != 4 or min(heatmaps.shape[2:]) < 3 or np.shape(windows) != (len(heatmaps), 4):
        raise InputError(
            f"Heatmaps must have shape (N, K, H, W) with at least 3 x 3 cells and windows (N, 4), got "
            f"{heatmaps.shape} and {np.shape(windows)}. Pass those of one result."
        )
    n, k, height, width = heatmaps.shape
    rows = heatmaps.reshape(n, k, height * width).astype(np.float64)
    at = rows.argmax(axis=2)
    y, x = np.divmod(at, width)
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    at = np.where(inside, at, width + 1)
    peak, *around = (
        np.take_along_axis(rows, (at + step)[..., None], axis=2)[..., 0] for step in (0, -1, 1, -width, width)
    )
    usable = inside & (peak >= _SMALLEST_PEAK) & (np.min(around, axis=0) > 0)
    logs = np.log(np.where(usable, [peak, *around], 1.0))
    curvature = (4 * logs[0] - logs[1:].sum(axis=0)) / 2
    usable &= curvature > 0
    cells2 = np.divide(1.0, curvature, out=np.full((n, k), np.nan), where=usable)
    count = usable.sum(axis=1, keepdims=True)
    typical = np.where(count > 0, np.where(usable, cells2, 0).sum(axis=1, keepdims=True) / np.maximum(count, 1), 1.0)
    steps = windows[:, 2:] / (width - 1, height - 1)
    variance = np.where(usable, cells2, typical) * (steps[:, :1] * steps[:, 1:])
    height_of = np.clip(rows.max(axis=2), _SMALLEST_PEAK, 1)
    return np.asarray(falloff / (falloff + variance * (1 / height_of - 1)))
