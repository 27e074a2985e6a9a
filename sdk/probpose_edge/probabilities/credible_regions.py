"""Credible regions: where a keypoint is with a wanted probability, given that it is in the activation window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.poses import Poses
from probpose_edge.probabilities.map_covariance import map_covariances
from probpose_edge.probabilities.outline import mask_outlines
from probpose_edge.probabilities.polygon_shares import cell_borders
from probpose_edge.window import cells_to_image

_ROUNDING = 1e-6
"""A map of float32 cells sums to 1 only this well."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CredibleRegions:
    """The smallest regions that hold `level` of the calibrated maps of N persons with K keypoints.

    Attributes
    ----------
    level: the wanted probability.
    mask: (N, K, H, W) bool, the cells of each region.
    mass: (N, K) float64, the probability that the whole cells hold: at least `level`.
    mean: (N, K, 2) float64, x and y in image pixels, the mean place under the whole map. It is not the keypoint of
        `Poses`, which is the place of the largest expected OKS.
    covariance: (N, K, 2, 2) float64, px², rows and columns x, y, of the whole map (see `map_covariances`).
    windows: (N, 4) ``[center_x, center_y, width, height]`` px, over which the masks lie.
    """

    level: float
    mask: NDArray[np.bool_]
    mass: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    windows: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.mask)

    def polygons(self, person: int, keypoint: int) -> list[NDArray[np.float64]]:
        """Outlines of one region: rings of (P, 2) corners x, y in image pixels, along the borders of the cells.

        Outer rings run clockwise as seen in a picture, rings around holes the other way; parts that touch at a corner
        only are apart. Filled together by the even-odd rule, as `cv2.fillPoly` does, they are the region exactly.
        """
        height, width = self.mask.shape[2:]
        window = self.windows[person]
        corner, size = window[:2] - window[2:] / 2, window[2:] / (width - 1.0, height - 1.0)
        borders = cell_borders(width), cell_borders(height)
        return [
            corner + np.stack([borders[0][ring[:, 0]], borders[1][ring[:, 1]]], axis=1) * size
            for ring in mask_outlines(self.mask[person, keypoint])
        ]


def credible_regions(poses: Poses, level: float) -> CredibleRegions:
    """The smallest regions that hold a wanted share of each keypoint's map.

    poses: a result with ``return_maps="calibrated"``. level: in (0, 1), e.g. 0.9.

    A region is made of the most probable cells until their sum reaches `level`; cells exactly as probable as the last
    one all belong to it, so that it holds at least `level`. The mass that calibration spreads evenly over the window
    counts like any other: with a lost share of 0.04, a region of level 0.96 and more is most of the window.

    The probability is that of the place **given that the keypoint is in the activation window**; whether it is, says
    `Poses.presence`. Of a model with two maps it is the larger window. Raises `InputError` for another level, and for
    poses without calibrated maps.
    """
    if isinstance(level, bool) or not isinstance(level, (int, float, np.number)) or not 0 < level < 1:
        raise InputError(f"The level of a region must lie between 0 and 1, got {level!r}. Pass 0.9 for 90 percent.")
    maps = maps_of(poses)
    n, k, height, width = maps.shape
    rows = maps.reshape(n * k, height * width)
    falling = np.sort(rows, axis=1)[:, ::-1]
    held = falling.cumsum(axis=1, dtype=np.float64)
    # The last cell that is needed; argmax finds the first that reaches the level, or 0 if rounding keeps all below.
    reached = held >= level - _ROUNDING
    last = np.where(reached[:, -1], reached.argmax(axis=1), height * width - 1)
    mask = rows >= falling[np.arange(n * k), last][:, None]
    mass = np.where(mask, rows, 0).sum(axis=1, dtype=np.float64)
    x, y = np.arange(width), np.arange(height)
    mean_cell = (
        np.stack([maps.sum(axis=2, dtype=np.float64) @ x, maps.sum(axis=3, dtype=np.float64) @ y], axis=2)
        / maps.sum(axis=(2, 3), dtype=np.float64)[..., None]
    )
    return CredibleRegions(
        level=float(level),
        mask=mask.reshape(maps.shape),
        mass=np.minimum(mass, 1).reshape(n, k),
        mean=cells_to_image(mean_cell, poses.windows, (width, height)),
        covariance=map_covariances(maps, poses.windows),
        windows=poses.windows,
    )


def maps_of(poses: Poses) -> NDArray[np.float32]:
    """The calibrated maps of a result; raises `InputError` if it has none, or others."""
    if poses.maps is not None and poses.map_kind == "calibrated":
        return poses.maps
    if poses.map_kind == "heatmap":
        raise InputError(
            "Regions and probabilities of places need probability maps, but these poses are of a plain heatmap model, "
            "which has none. Use a ProbPose model."
        )
    found = "no maps" if poses.maps is None else "maps that are not calibrated"
    raise InputError(
        f"Regions and probabilities of places need calibrated maps, but these poses have {found}. Call the estimator "
        'with return_maps="calibrated".'
    )
