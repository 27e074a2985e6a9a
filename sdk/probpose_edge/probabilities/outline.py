"""Outlines of masks along the borders of their cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mask_outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Closed outlines of the true cells of an (H, W) mask.

    Returns rings of (P, 2) corners x, y: cell (0, 0) has the corners (0, 0) and (1, 1). Outer rings run clockwise as
    seen in a picture, y down, rings around holes the other way. Cells that touch at a corner only are apart.
    """
    inside = np.pad(mask, 1)
    outgoing: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Borders between a cell and the one before it; the true cell is always on the right hand of the edge.
    for axis, ahead in ((0, (1, 0)), (1, (0, -1))):
        change = np.diff(inside.astype(np.int8), axis=axis)
        for sign in (1, -1):
            direction = ahead if sign == 1 else (-ahead[0], -ahead[1])
            rows, columns = np.nonzero(change == sign)
            x, y = (columns - 1, rows) if axis == 0 else (columns, rows - 1)
            # An edge leftwards starts at its right end, one upwards at its lower end.
            for corner in zip((x + (direction[0] < 0)).tolist(), (y + (direction[1] < 0)).tolist(), strict=True):
                outgoing.setdefault(corner, []).append(direction)
    rings = []
    while outgoing:
        corner, (direction, *_) = next(iter(outgoing.items()))
        ring: list[tuple[int, int]] = []
        while ways := outgoing.get(corner):
            right = (-direction[1], direction[0])
            way = right if right in ways else ways[0]
            ways.remove(way)
            if not ways:
                del outgoing[corner]
            if way != direction or not ring:
                ring.append(corner)
            corner, direction = (corner[0] + way[0], corner[1] + way[1]), way
        if len(ring) > 4 and _straight(ring[-1], ring[0], ring[1]):
            ring = ring[1:]
        rings.append(np.array(ring, dtype=np.intp))
    return rings


def _straight(before: tuple[int, int], corner: tuple[int, int], after: tuple[int, int]) -> bool:
    return before[0] == corner[0] == after[0] or before[1] == corner[1] == after[1]
