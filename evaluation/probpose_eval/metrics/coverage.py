"""Coverage of probability maps: how many keypoints lie in the smallest region that holds a given share of the mass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = np.arange(1, 20) / 20
"""The q at which coverage is measured: 5 %, 10 %, … 95 %."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Standing:
    """Where M keypoints stand in their maps of C cells each.

    Attributes
    ----------
    above: (M,) float64, mass of the cells more probable than the keypoint's own.
    own: (M,) float64, mass of its own cell and of those exactly as probable.
    cells_above, cells_own: (M,) int64, how many cells these are.
    cells: C.
    """

    above: NDArray[np.float64]
    own: NDArray[np.float64]
    cells_above: NDArray[np.int64]
    cells_own: NDArray[np.int64]
    cells: int

    def __len__(self) -> int:
        return len(self.above)

    def select(self, keypoints: NDArray[np.bool_]) -> Standing:
        """The standing of some of the keypoints, by an (M,) mask."""
        return Standing(
            above=self.above[keypoints],
            own=self.own[keypoints],
            cells_above=self.cells_above[keypoints],
            cells_own=self.cells_own[keypoints],
            cells=self.cells,
        )

    def spread(self, lost_share: float) -> Standing:
        """The standing in the same maps after `calibrated_maps.spread`, which keeps the cells' order."""
        return Standing(
            above=(1 - lost_share) * self.above + lost_share * self.cells_above / self.cells,
            own=(1 - lost_share) * self.own + lost_share * self.cells_own / self.cells,
            cells_above=self.cells_above,
            cells_own=self.cells_own,
            cells=self.cells,
        )


def standing(maps: NDArray[np.floating], cells: NDArray[np.intp]) -> Standing:
    """Where keypoints stand: (M, C) maps with sum 1, one per keypoint, and the (M,) cells the keypoints lie in."""
    own = maps[np.arange(len(maps)), cells][:, None]
    above, alike = maps > own, maps == own
    cells_above, cells_own = above.sum(axis=1), alike.sum(axis=1)
    return Standing(
        above=np.where(above, maps, 0).sum(axis=1, dtype=np.float64),
        own=cells_own * own[:, 0].astype(np.float64),
        cells_above=cells_above,
        cells_own=cells_own,
        cells=maps.shape[1],
    )


def coverage(keypoints: Standing) -> NDArray[np.float64]:
    """(19,) share of the keypoints in the region that holds q of the mass, for every q of `LEVELS`.

    The region is made of the most probable cells; so that it holds exactly q, its last cell, with all that are exactly
    as probable, counts in part, and keypoints in it count by that part. Where the map says zero and the mass of the
    other cells is 1, the keypoint is in no region. NaN without keypoints.
    """
    return region_shares(keypoints).mean(axis=0) if len(keypoints) else np.full(len(LEVELS), np.nan)


def region_shares(keypoints: Standing) -> NDArray[np.float64]:
    """(M, 19) how far each keypoint is in the region of every q of `LEVELS`, in [0, 1]; `coverage` is the mean."""
    # A mass of 1 that was summed in float32 is not exactly 1.
    certain = np.maximum(keypoints.own, 1e-9)[:, None]
    return np.asarray(np.clip((LEVELS - keypoints.above[:, None]) / certain, 0, 1))


def coverage_error(shares: NDArray[np.float64]) -> float:
    """Mean of |q - share| over `LEVELS`, as a share (0.03 is 3 points)."""
    return float(np.abs(shares - LEVELS).mean())
