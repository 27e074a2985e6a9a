"""Which share of every map cell a polygon covers, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.window import image_to_cells

_CHECK_WH = (64, 64)
"""Cells in which a polygon is laid out to see whether it crosses itself: loops below 1/4096 of its frame may pass."""
_ROUNDING = 1e-9
"""Shares are sums of some hundred products of numbers of the size of a map: rounding leaves less than this."""


def as_polygon(polygon_px: ArrayLike) -> NDArray[np.float64]:
    """Check a polygon and return it as (P, 2) float64.

    Raises `InputError` for fewer than three corners, coordinates that are not finite, no area, or a border that crosses
    itself.
    """
    try:
        polygon = np.array(polygon_px, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"A polygon must be P corners [x, y] in image pixels: {error}. Pass numbers.") from error
    if polygon.ndim != 2 or polygon.shape[1:] != (2,) or len(polygon) < 3:
        raise InputError(
            f"A polygon must have shape (P, 2) with at least 3 corners [x, y] in image pixels, got {polygon.shape}. "
            "Pass its corners in order; the last is joined to the first."
        )
    if not np.isfinite(polygon).all():
        raise InputError("A polygon must be finite, but a corner has NaN or an infinity. Correct that corner.")
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    if (high <= low).any():
        raise _no_area(polygon)
    frame = np.concatenate([(low + high) / 2, high - low])
    shares = _signed_shares(polygon, frame[None], _CHECK_WH)[0]
    if np.abs(shares).max() <= _ROUNDING:
        raise _no_area(polygon)
    both_ways = shares.min() < -_ROUNDING and shares.max() > _ROUNDING
    if both_ways or np.abs(shares).max() > 1 + _ROUNDING:
        raise InputError(
            "The border of a polygon must not cross itself. Put its corners in order around it, or ask for its parts "
            "one by one."
        )
    return polygon


def polygon_shares(
    polygon_px: ArrayLike, windows: NDArray[np.floating], heatmap_wh: tuple[int, int]
) -> NDArray[np.float64]:
    """Share of the area of every cell that lies inside a polygon.

    polygon_px: (P, 2) corners in image pixels, in order, either way round; it need not be convex and may reach beyond
        the image. windows: (N, 4) ``[center_x, center_y, width, height]`` px, over which the maps lie.
    heatmap_wh: cells of a map, width first.

    A cell is the part of the window that is nearer to its center than to any other: a rectangle, half as wide at the
    border, whose outer cells have their centers on the border (see `cell_borders`). Returns (N, H, W) float64 in
    [0, 1]. The areas are exact but for float64 rounding (every edge is cut at the borders of the cells, and the signed
    areas right of the pieces are summed), not sampled. Raises `InputError` as `as_polygon` does.
    """
    shares = np.abs(_signed_shares(as_polygon(polygon_px), np.asarray(windows, np.float64), heatmap_wh))
    return np.where(shares < _ROUNDING, 0, np.minimum(shares, 1))


def cell_borders(cells: int) -> NDArray[np.float64]:
    """(cells + 1,) borders along one axis of a map, in cells: 0, 0.5, 1.5, … cells - 1.5, cells - 1."""
    return np.clip(np.arange(cells + 1) - 0.5, 0, cells - 1)


def _signed_shares(
    polygon: NDArray[np.float64], windows: NDArray[np.float64], heatmap_wh: tuple[int, int]
) -> NDArray[np.float64]:
    """(N, H, W) covered share of each cell times how often, and which way round, the border goes around it."""
    n, (width, height) = len(windows), heatmap_wh
    borders_x, borders_y = cell_borders(width), cell_borders(height)
    start = image_to_cells(np.broadcast_to(polygon, (n, *polygon.shape)), windows, heatmap_wh)
    step = np.roll(start, -1, axis=1) - start
    # Where each edge crosses a border, as a share of its length; an edge along a border crosses none.
    with np.errstate(divide="ignore", invalid="ignore"):
        cuts = [
            (borders - start[..., axis, None]) / step[..., axis, None]
            for axis, borders in enumerate((borders_x, borders_y))
        ]
    ends = np.broadcast_to([0.0, 1.0], (*start.shape[:2], 2))
    at = np.sort(np.clip(np.nan_to_num(np.concatenate([*cuts, ends], axis=2), nan=0.0), 0, 1), axis=2)
    x, y = (start[..., axis, None] + at * step[..., axis, None] for axis in (0, 1))
    fall, mean_x, mean_y = np.diff(y), (x[..., 1:] + x[..., :-1]) / 2, (y[..., 1:] + y[..., :-1]) / 2
    column = np.searchsorted(borders_x, mean_x, side="right") - 1
    row = np.searchsorted(borders_y, mean_y, side="right") - 1
    # A piece counts for what is on its right: part of its own cell, and the whole of all cells after that.
    seen = (row >= 0) & (row < height) & (column < width) & (fall != 0)
    person = np.broadcast_to(np.arange(n)[:, None, None], seen.shape)[seen]
    row, column, fall, mean_x = row[seen], column[seen], fall[seen], mean_x[seen]
    inner = column >= 0
    cell = (person * height + row) * width + np.maximum(column, 0)
    own = np.where(inner, borders_x[column + 1] - mean_x, np.diff(borders_x)[0])
    size = n * height * width
    # Without a piece, bincount counts in whole numbers.
    area = np.bincount(cell, fall * own, minlength=size).astype(np.float64).reshape(n, height, width)
    after = np.bincount(cell, fall, minlength=size).reshape(n, height, width).cumsum(axis=2)
    area[:, :, 1:] += after[:, :, :-1] * np.diff(borders_x)[1:]
    return np.asarray(area / (np.diff(borders_y)[:, None] * np.diff(borders_x)))


def _no_area(polygon: NDArray[np.float64]) -> InputError:
    return InputError(
        f"A polygon must have an area, but the {len(polygon)} corners of this one lie on one line. Pass corners around "
        "a region."
    )
