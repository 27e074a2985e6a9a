"""Probability maps to keypoints: the place with the largest expected OKS, refined below the cell.

The expected OKS of a place is the map's mean of the OKS between that place and every cell, so its map is the
probability map convolved with the OKS kernel (ProbPose, section 3.2). The kernel is a Gaussian, hence the convolution
with mirrored borders is a product with one matrix per axis, ``Ky @ P @ Kx.T``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError

_PUBLISHED_PADDING = 1.25
_PUBLISHED_SPREAD_RANGE = (0.55, 3.0)


def decode_maps(
    maps: NDArray[np.floating], sigmas: Sequence[float], kernel: str = "published"
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keypoints, in heatmap cells, and their expected OKS.

    Parameters
    ----------
    maps: (N, K, H, W) float, probabilities, each map sums to 1.
    sigmas: K OKS sigmas.
    kernel: ``"published"``, the kernel of the published ProbPose code.

    Returns ``points_cell`` (N, K, 2) float32, x before y, in cells (the center of the first cell is 0); and
    ``expected_oks`` (N, K) float32 in [0, 1], the mean OKS of the peak cell over the map: 1 if all probability is in
    that cell. The peak is the largest cell of `expected_oks_maps`, moved by one Newton step per axis from central
    differences (at most half a cell); a peak on the border stays where it is. Every person is computed by itself, so
    results do not depend on the batch. Raises `InputError` for other shapes or kernels.
    """
    maps, spread = _check(maps, sigmas, kernel)
    n, k, height, width = maps.shape
    to_rows, to_columns_t = _smoothing(spread, height, width)
    raw_rows, raw_columns = _oks_along(spread, height), _oks_along(spread, width)
    peaks_xy = np.empty((n, k, 2), dtype=np.intp)
    crosses = np.empty((n, k, 5), dtype=np.float32)
    expected = np.empty((n, k), dtype=np.float32)
    keypoint = np.arange(k)
    cross = np.array([0, -1, 1, -width, width])
    smoothed, blurred = np.empty((2, k, height, width), dtype=np.float32)
    for person, probability in enumerate(maps):
        np.matmul(probability, to_columns_t, out=blurred)
        np.matmul(to_rows, blurred, out=smoothed)
        peak = smoothed.reshape(k, -1).argmax(axis=1)
        y, x = np.divmod(peak, width)
        peaks_xy[person, :, 0], peaks_xy[person, :, 1] = x, y
        # On the border the cross wraps around to cells that are not neighbours; `_refine` leaves those peaks alone.
        crosses[person] = smoothed.take((keypoint * height * width + peak)[:, None] + cross, mode="wrap")
        along_x = np.matmul(probability, raw_columns[keypoint, x][:, :, None])
        expected[person] = (along_x[:, :, 0] * raw_rows[keypoint, y]).sum(axis=1)
    return _refine(peaks_xy, crosses, (width, height)), np.minimum(expected, 1)


def expected_oks_maps(
    maps: NDArray[np.floating], sigmas: Sequence[float], kernel: str = "published"
) -> NDArray[np.float32]:
    """The maps whose peaks are decoded: (N, K, H, W) float32, maps convolved with the kernel **normalised to sum 1**.

    Equal to the published convolution; a probability density smoothed by the kernel, proportional to the expected OKS
    away from the borders. Parameters and errors as in `decode_maps`.
    """
    maps, spread = _check(maps, sigmas, kernel)
    to_rows, to_columns_t = _smoothing(spread, maps.shape[2], maps.shape[3])
    return np.asarray(np.matmul(to_rows, np.matmul(maps, to_columns_t)))


def _refine(
    peaks_xy: NDArray[np.intp], crosses: NDArray[np.float32], heatmap_wh: tuple[int, int]
) -> NDArray[np.float32]:
    """(N, K, 2) peaks after one Newton step per axis: ``-f' / f''`` with central differences.

    crosses: (N, K, 5) the smoothed map at the peak and at its left, right, upper and lower neighbour.
    """
    f = crosses.astype(np.float64)
    before, after = f[..., 1::2], f[..., 2::2]
    curvature = before - 2 * f[..., :1] + after
    inside = ((peaks_xy > 0) & (peaks_xy < np.array(heatmap_wh) - 1)).all(axis=-1, keepdims=True)
    # The peak is the largest cell, so the curvature is negative, or zero on a plateau, where there is no step.
    step = np.divide((before - after) / 2, curvature, out=np.zeros_like(curvature), where=inside & (curvature != 0))
    return (peaks_xy + step).astype(np.float32)


def _check(
    maps: NDArray[np.floating], sigmas: Sequence[float], kernel: str
) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    if kernel != "published":
        raise InputError(
            f'The decode kernel must be "published", got {kernel!r}. Install a newer probpose-edge for others.'
        )
    if maps.ndim != 4 or maps.shape[1] != len(sigmas) or min(maps.shape[2:]) < 2:
        raise InputError(
            f"Maps must have shape (N, K, H, W) with K = {len(sigmas)} sigmas and at least 2 x 2 cells, got "
            f"{maps.shape}. Pass maps and sigmas of the same model."
        )
    spread = tuple(published_spread(sigma, (maps.shape[3], maps.shape[2])) for sigma in sigmas)
    return np.ascontiguousarray(maps, dtype=np.float32), spread


def published_spread(sigma: float, heatmap_wh: tuple[int, int]) -> float:
    """Variance ``s``, in squared cells, of the published kernel ``exp(-d^2 / (2 s))``.

    ``s = clip(2 * (2 sigma)^2 * sqrt(H / 1.25 * W / 1.25), 0.55, 3)``; the kernel is cut at ``ceil(3 s)`` cells.
    """
    area = heatmap_wh[1] / _PUBLISHED_PADDING * heatmap_wh[0] / _PUBLISHED_PADDING
    low, high = _PUBLISHED_SPREAD_RANGE
    return min(max(2 * (2 * sigma) ** 2 * math.sqrt(area), low), high)


@lru_cache(maxsize=8)
def _smoothing(spread: tuple[float, ...], height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Matrices (K, H, H) and, transposed, (K, W, W) that smooth along the rows and the columns axis."""
    to_rows = np.stack([_mirrored(value, height) for value in spread]).astype(np.float32)
    to_columns_t = np.stack([_mirrored(value, width).T for value in spread]).astype(np.float32)
    return to_rows, np.ascontiguousarray(to_columns_t)


def _mirrored(spread: float, size: int) -> NDArray[np.float64]:
    """(size, size) convolution with the kernel of one axis, sum 1, the border value repeated (scipy's "reflect")."""
    radius = math.ceil(3 * spread)
    offset = np.arange(-radius, radius + 1)
    weight = np.exp(-(offset**2) / (2 * spread))
    source = (np.arange(size)[:, None] + offset) % (2 * size)
    source = np.where(source < size, source, 2 * size - 1 - source)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], source), weight / weight.sum())
    return matrix


@lru_cache(maxsize=16)
def _oks_along(spread: tuple[float, ...], size: int) -> NDArray[np.float32]:
    """(K, size, size) factors of the OKS between cells along one axis: not normalised, not mirrored, cut alike."""
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    kernels = [np.where(np.abs(distance) <= math.ceil(3 * s), np.exp(-(distance**2) / (2 * s)), 0) for s in spread]
    return np.stack(kernels).astype(np.float32)
