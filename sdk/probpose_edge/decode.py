"""Maps to keypoints: the best place of each map, refined below the cell.

The expected OKS of a place is a probability map's mean of the OKS between that place and every cell, so its map is the
probability map convolved with the OKS kernel (ProbPose, section 3.2). The kernel is a Gaussian, hence the convolution
is a product with one matrix per axis, ``Ky @ P @ Kx.T``, with mirrored borders or without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import KERNELS
from probpose_edge.exceptions import InputError

_PADDING = 1.25
BODY_SHARE = 0.53
"""Area of a person over that of its box, as COCO's evaluation takes it where there is no mask."""
_PUBLISHED_SPREAD_RANGE = (0.55, 3.0)


def decode_maps(
    maps: NDArray[np.floating], sigmas: Sequence[float], kernel: str = "published", *, padding: float = _PADDING
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keypoints, in heatmap cells, and their expected OKS.

    Parameters
    ----------
    maps: (N, K, H, W) float, probabilities, each map sums to 1.
    sigmas: K OKS sigmas.
    kernel: ``"published"``, of the published ProbPose code (see `published_spread`): maps are smoothed with borders
        mirrored. ``"oks"``: the true OKS kernel (see `oks_variance`), neither normalised nor mirrored, so that the
        smoothed map is the expected OKS of every place. ``"argmax"``: the largest cell of the map itself.
    padding: factor from the box of a person to the window that the maps lie over; it gives a person's area in cells.

    Returns ``points_cell`` (N, K, 2) float32, x before y, in cells (the center of the first cell is 0); and
    ``expected_oks`` (N, K) float32 in [0, 1], the mean OKS of the peak cell over the map: 1 if all probability is in
    that cell. Its OKS is that of the kernel, for ``"argmax"`` the true one. The peak is the largest cell of
    `expected_oks_maps`, moved by one Newton step per axis from central differences (at most half a cell); a peak on the
    border stays where it is. Every person is computed by itself, so results do not depend on the batch. Raises
    `InputError` for other shapes, kernels or paddings.
    """
    maps, variances = _check(maps, sigmas, kernel, padding)
    n, k, height, width = maps.shape
    smoothing = _smoothing(kernel, variances, height, width)
    oks_rows, oks_columns = (_oks_along(kernel, variances, size) for size in (height, width))
    peaks_xy = np.empty((n, k, 2), dtype=np.intp)
    crosses = np.empty((n, k, 5), dtype=np.float32)
    expected = np.empty((n, k), dtype=np.float32)
    keypoint = np.arange(k)
    smoothed, blurred = np.empty((2, k, height, width), dtype=np.float32)
    for person, probability in enumerate(maps):
        if smoothing is not None:
            np.matmul(probability, smoothing[1], out=blurred)
            np.matmul(smoothing[0], blurred, out=smoothed)
        x, y, crosses[person] = _peaks(probability if smoothing is None else smoothed)
        peaks_xy[person, :, 0], peaks_xy[person, :, 1] = x, y
        along_x = np.matmul(probability, oks_columns[keypoint, x][:, :, None])
        expected[person] = (along_x[:, :, 0] * oks_rows[keypoint, y]).sum(axis=1)
    return _refine(peaks_xy, crosses, (width, height)), np.minimum(expected, 1)


def decode_heatmaps(heatmaps: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keypoints of plain heatmaps, such as those of ViTPose, in cells, and their confidence.

    heatmaps: (N, K, H, W) float, finite, as the network gives them. Returns ``points_cell`` (N, K, 2) float32, x before
    y: the largest cell, refined as in `decode_maps`; and ``confidence`` (N, K) float32, its value, clipped to [0, 1].
    Raises `InputError` for maps of another shape or with values that are not finite.
    """
    if heatmaps.ndim != 4 or min(heatmaps.shape[2:]) < 2:
        raise InputError(
            f"Heatmaps must have shape (N, K, H, W) with at least 2 x 2 cells, got {heatmaps.shape}. Pass the "
            "network's heatmaps as they come."
        )
    maps = np.ascontiguousarray(heatmaps, dtype=np.float32)
    if not np.isfinite(maps).all():
        raise InputError(
            "Heatmaps must be finite, but one has NaN or infinite values. The model file gives unusable numbers: "
            "convert the checkpoint again, or run another precision."
        )
    n, k, height, width = maps.shape
    x, y, crosses = _peaks(maps.reshape(n * k, height, width))
    peaks_xy, crosses = np.stack([x, y], axis=1).reshape(n, k, 2), crosses.reshape(n, k, 5)
    return _refine(peaks_xy, crosses, (width, height)), np.clip(crosses[..., 0], 0, 1)


def expected_oks_maps(
    maps: NDArray[np.floating], sigmas: Sequence[float], kernel: str = "published", *, padding: float = _PADDING
) -> NDArray[np.float32]:
    """The maps whose peaks are decoded, (N, K, H, W) float32.

    ``"oks"``: the expected OKS of every cell, in [0, 1]. ``"published"``: maps convolved with the kernel **normalised
    to sum 1**, equal to the published convolution; a probability density smoothed by the kernel, proportional to an
    expected OKS away from the borders. ``"argmax"``: the maps themselves. Parameters and errors as in `decode_maps`.
    """
    maps, variances = _check(maps, sigmas, kernel, padding)
    smoothing = _smoothing(kernel, variances, maps.shape[2], maps.shape[3])
    return maps.copy() if smoothing is None else np.asarray(np.matmul(smoothing[0], np.matmul(maps, smoothing[1])))


def kernel_variances(
    kernel: str, sigmas: Sequence[float], heatmap_wh: tuple[int, int], padding: float = _PADDING
) -> tuple[float, ...]:
    """K variances, in squared cells, of the OKS that a kernel means: `published_spread`, or else `oks_variance`."""
    variance = published_spread if kernel == "published" else oks_variance
    return tuple(variance(sigma, heatmap_wh, padding) for sigma in sigmas)


def smoothing_matrices(
    kernel: str, variances: tuple[float, ...], heatmap_wh: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """``Ky`` (K, H, H) and ``Kx.T`` (K, W, W), float32: a map smoothed by the kernel is ``Ky @ P @ Kx.T``; None for
    ``"argmax"``, which smooths nothing. The arrays are shared and must not be changed.
    """
    return _smoothing(kernel, variances, heatmap_wh[1], heatmap_wh[0])


def published_spread(sigma: float, heatmap_wh: tuple[int, int], padding: float = _PADDING) -> float:
    """Variance ``s``, in squared cells, of the published kernel ``exp(-d^2 / (2 s))``.

    ``s = clip(2 * (2 sigma)^2 * sqrt(H / padding * W / padding), 0.55, 3)``; the kernel is cut at ``ceil(3 s)`` cells.
    """
    low, high = _PUBLISHED_SPREAD_RANGE
    return min(max(2 * (2 * sigma) ** 2 * math.sqrt(_box_area(heatmap_wh, padding)), low), high)


def oks_variance(sigma: float, heatmap_wh: tuple[int, int], padding: float = _PADDING) -> float:
    """Variance, in squared cells, of the OKS ``exp(-d^2 / (2 (2 sigma)^2 area))`` of a person whose box, padded, is the
    window: ``area = 0.53 * H / padding * W / padding``.
    """
    return (2 * sigma) ** 2 * BODY_SHARE * _box_area(heatmap_wh, padding)


def _box_area(heatmap_wh: tuple[int, int], padding: float) -> float:
    return heatmap_wh[1] / padding * heatmap_wh[0] / padding


def _peaks(maps: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Column and row, (M,) each, of the largest cell of (M, H, W) maps, and (M, 5) the map there and at the cells on
    its left, on its right, above and below.
    """
    count, height, width = maps.shape
    peak = maps.reshape(count, height * width).argmax(axis=1)
    y, x = np.divmod(peak, width)
    if count == 0:
        return x, y, np.zeros((0, 5), np.float32)
    # On the border the cross wraps around to cells that are not neighbours; `_refine` leaves those peaks alone.
    return x, y, maps.take(_crosses(count, height, width) + peak[:, None], mode="wrap")


@lru_cache(maxsize=8)
def _crosses(count: int, height: int, width: int) -> NDArray[np.intp]:
    """(M, 5) flat indices of the cross around the first cell of each of M maps."""
    first = np.arange(count) * (height * width)
    return np.asarray(first[:, None] + np.array([0, -1, 1, -width, width]))


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
    maps: NDArray[np.floating], sigmas: Sequence[float], kernel: str, padding: float
) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """The maps as float32, and the K variances of the kernel's OKS."""
    if kernel not in KERNELS:
        raise InputError(
            f"The decode kernel must be one of {', '.join(KERNELS)}, got {kernel!r}. Install a newer probpose-edge for "
            "others."
        )
    if not (math.isfinite(padding) and padding > 0):
        raise InputError(f"The padding must be positive, got {padding}. Take it from the model's metadata.")
    if maps.ndim != 4 or maps.shape[1] != len(sigmas) or min(maps.shape[2:]) < 2:
        raise InputError(
            f"Maps must have shape (N, K, H, W) with K = {len(sigmas)} sigmas and at least 2 x 2 cells, got "
            f"{maps.shape}. Pass maps and sigmas of the same model."
        )
    variances = kernel_variances(kernel, sigmas, (maps.shape[3], maps.shape[2]), padding)
    return np.ascontiguousarray(maps, dtype=np.float32), variances


@lru_cache(maxsize=8)
def _smoothing(
    kernel: str, variances: tuple[float, ...], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Matrices (K, H, H) and, transposed, (K, W, W) that smooth along the rows and the columns axis; None for none."""
    if kernel == "argmax":
        return None
    if kernel == "oks":
        # Symmetric, hence its own transpose.
        return _oks_along(kernel, variances, height), _oks_along(kernel, variances, width)
    to_rows = np.stack([_mirrored(value, height) for value in variances]).astype(np.float32)
    to_columns_t = np.stack([_mirrored(value, width).T for value in variances]).astype(np.float32)
    return to_rows, np.ascontiguousarray(to_columns_t)


def _mirrored(variance: float, size: int) -> NDArray[np.float64]:
    """(size, size) convolution with the kernel of one axis, sum 1, the border value repeated (scipy's "reflect")."""
    radius = math.ceil(3 * variance)
    offset = np.arange(-radius, radius + 1)
    weight = np.exp(-(offset**2) / (2 * variance))
    source = (np.arange(size)[:, None] + offset) % (2 * size)
    source = np.where(source < size, source, 2 * size - 1 - source)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], source), weight / weight.sum())
    return matrix


@lru_cache(maxsize=16)
def _oks_along(kernel: str, variances: tuple[float, ...], size: int) -> NDArray[np.float32]:
    """(K, size, size) factors of the OKS between cells along one axis: not normalised, not mirrored; the published one
    is cut as its kernel is."""
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    reach = [math.ceil(3 * value) if kernel == "published" else size for value in variances]
    kernels = [
        np.where(distance <= radius, np.exp(-(distance**2) / (2 * value)), 0)
        for radius, value in zip(reach, variances, strict=True)
    ]
    return np.stack(kernels).astype(np.float32)
