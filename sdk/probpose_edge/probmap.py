"""Sparsemax over the cells of each map: logits to probability maps with exact zeros."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError

_GROUPS = 256
"""How many maxima stand for a map when its threshold is bounded from below; more are closer but take longer to sort."""
_PERSONS_AT_ONCE = 2
"""More make fewer calls, but their arrays leave the processor's cache where maps are flat."""


def sparsemax_maps(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """Sparsemax of ``logits / temperature`` over all cells of each map (Martins & Astudillo 2016, eq. 2).

    logits: (N, K, H, W) float, finite (-inf is allowed and gives 0). Returns (N, K, H, W) float32; every map is >= 0
    and sums to 1. The input is not changed. Raises `InputError` if a map has a NaN, an infinity or no finite cell.

    The result is ``max(z - tau, 0)`` with the one threshold tau that makes it sum to 1. Instead of sorting every cell
    (algorithm 1 there), tau is bounded from below by the threshold of a few group maxima, because the threshold of a
    subset never exceeds that of the whole; only the cells above that bound take part in Michelot's iteration
    (Michelot 1986; Condat 2016), which ends, after finitely many steps, at the exact support.
    """
    if logits.ndim != 4:
        raise InputError(
            f"Logits must have shape (N, K, H, W), got {logits.shape}. Pass the network's logits as they come."
        )
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"The temperature must be positive, got {temperature}. Take it from the model's metadata.")
    maps = np.zeros(logits.shape, dtype=np.float32)
    if maps.size == 0:
        return maps
    # A few persons at a time, so that the passes below stay in the processor's cache.
    for first in range(0, len(logits), _PERSONS_AT_ONCE):
        part = np.ascontiguousarray(logits[first : first + _PERSONS_AT_ONCE], dtype=np.float32)
        _sparsemax_rows(
            part.reshape(-1, maps[0, 0].size), temperature, maps[first : first + _PERSONS_AT_ONCE].reshape(-1)
        )
    return maps


def _sparsemax_rows(z: NDArray[np.float32], temperature: float, out: NDArray[np.float32]) -> None:
    """Sparsemax of each row of (M, C) logits, written to the zeros of `out` (M * C)."""
    above = z > _lower_bound(z, temperature)[:, None]
    count = np.count_nonzero(above, axis=1)
    index = np.flatnonzero(above)
    values = z.reshape(-1)[index].astype(np.float64)
    tau = _michelot(values, count, temperature)
    out[index] = np.maximum(values - np.repeat(tau, count), 0) / temperature


def _lower_bound(z: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """(M,) a number per row of (M, C) logits that is below the row's threshold, and close to it."""
    rows, cells = z.shape
    groups = min(_GROUPS, cells)
    whole = cells // groups * groups
    # Strided groups: neighbouring cells, which peaks are made of, fall into different groups and all survive.
    maxima = z[:, :whole].reshape(rows, -1, groups).max(axis=1)
    if whole < cells:
        maxima[:, : cells - whole] = np.maximum(maxima[:, : cells - whole], z[:, whole:])
    maxima.sort(axis=1)
    if not np.isfinite(maxima[:, -1]).all():
        raise InputError(
            "Logits must be finite, but a map has a NaN, an infinity or no finite cell. The model file gives unusable "
            "numbers: convert the checkpoint again, or run another precision."
        )
    bound = _sorted_threshold(maxima, temperature).astype(np.float32)
    # Rounded down, so that every cell of the support is strictly above it.
    return np.nextafter(bound, np.float32(-np.inf))


def _sorted_threshold(ascending: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """(M,) thresholds of (M, C) sorted values (Martins & Astudillo 2016, algorithm 1)."""
    rows, cells = ascending.shape
    top = ascending[:, -1:].astype(np.float64)
    # Relative to the largest, so that sums keep their digits whatever the offset of the logits.
    z = ascending[:, ::-1] - top
    sums = z.cumsum(axis=1)
    support = (temperature + np.arange(1, cells + 1) * z > sums).sum(axis=1)
    return np.asarray((sums[np.arange(rows), support - 1] - temperature) / support + top[:, 0])


def _michelot(values: NDArray[np.float64], count: NDArray[np.intp], temperature: float) -> NDArray[np.float64]:
    """(M,) thresholds: drop what is not above the mean-based threshold until nothing is dropped.

    values: cells of all rows one after another; count: (M,) how many each row has, at least 1. A row's largest cell is
    always above its threshold, so that no row runs empty.
    """
    while True:
        first = np.cumsum(count) - count
        tau = (np.add.reduceat(values, first) - temperature) / count
        kept = values > np.repeat(tau, count)
        if kept.all():
            return np.asarray(tau)
        values, count = values[kept], np.add.reduceat(kept, first, dtype=np.intp)
