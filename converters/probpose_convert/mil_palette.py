"""Weights of a CoreML package as 6-bit places in a table of 64 values per layer, found by k-means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 6
SMALLEST_PALETTE_WEIGHT = 8_192
"""Weights with fewer values stay float16. Of probpose-m they are 3 % of the size, and with a table of 64 values for
each of them as well (down to 512 values) the maps overlap those of full precision by 0.71 instead of 0.92."""
_STEPS = 100
_SETTLED = 1e-7
"""A step that moves no value by more than this share of the range ends the search."""


def palettize(package: Any, skip: tuple[str, ...] = ()) -> Any:
    """A coremltools MLModel with palettised weights; depthwise weights and operations named in `skip` stay float16.

    One table serves a whole layer, and the channels of a depthwise convolution differ too much for that.
    """
    from coremltools.optimize import coreml as optimize

    def table_and_places(weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        table = nearest_values(weight, 2**BITS).astype(weight.dtype)
        return table, _nearest(table.astype(np.float64), weight.astype(np.float64).reshape(-1))

    # coremltools' own k-means needs scikit-learn; in one dimension it is a few lines.
    weights = optimize.OpPalettizerConfig(
        mode="custom", lut_function=table_and_places, weight_threshold=SMALLEST_PALETTE_WEIGHT
    )
    config = optimize.OptimizationConfig(global_config=weights)
    for name, entry in optimize.get_weights_metadata(package, weight_threshold=SMALLEST_PALETTE_WEIGHT).items():
        depthwise = entry.val.ndim == 4 and entry.val.shape[1] == 1
        if depthwise or any(part in name for part in skip):
            config.set_op_name(name, None)
    return optimize.palettize_weights(package, config)


def nearest_values(weights: NDArray[Any], count: int) -> NDArray[np.float64]:
    """(count,) rising values with a small mean squared distance from the nearest of them to every weight.

    k-means in one dimension (Lloyd, IEEE Trans. Inf. Theory 1982): sorted, a cluster is a run of weights, so that its
    mean comes from sums that are made once. Starts half at quantiles, for the many, and half at even steps, for the
    large. weights: any shape, at least one value.
    """
    ordered = np.sort(weights.astype(np.float64), axis=None)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    places = np.arange(count)
    quantiles = np.quantile(ordered, (places + 0.5) / count)
    values = np.sort(np.where(places % 2 == 1, quantiles, np.linspace(ordered[0], ordered[-1], count)))
    for _ in range(_STEPS):
        inner = np.searchsorted(ordered, (values[1:] + values[:-1]) / 2)
        edges = np.concatenate([[0], inner, [len(ordered)]])
        sizes = np.diff(edges)
        means = np.where(sizes > 0, np.diff(sums[edges]) / np.maximum(sizes, 1), values)
        moved = np.abs(means - values).max()
        values = np.sort(means)
        if moved <= _SETTLED * (ordered[-1] - ordered[0]):
            break
    return values


def _nearest(table: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.searchsorted((table[1:] + table[:-1]) / 2, weights).astype(np.int64)
