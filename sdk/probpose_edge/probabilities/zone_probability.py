"""How probable it is that a keypoint lies in a part of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.poses import Poses
from probpose_edge.probabilities.credible_regions import maps_of
from probpose_edge.probabilities.polygon_shares import as_polygon, polygon_shares


@dataclass(frozen=True, kw_only=True, eq=False)
class ZoneProbability:
    """Whether keypoints lie in a zone, of N persons with K keypoints; (N, K) float64 each, in [0, 1].

    Attributes
    ----------
    given_present: probability of lying in the zone, if the keypoint is in the activation window at all.
    inside: the same without that condition, ``presence * given_present``. What lies beyond the window is not counted.
    at_most: `inside`, and where the zone reaches beyond the activation window also ``1 - presence``: there the model
        says nothing of a keypoint but that it is beyond the window, and it may be in that part of the zone.
    """

    given_present: NDArray[np.float64]
    inside: NDArray[np.float64]
    at_most: NDArray[np.float64]

    def certainly_elsewhere(self, risk: float) -> NDArray[np.bool_]:
        """(N, K) bool: whether each keypoint is outside the zone but for a remaining probability of at most `risk`.

        risk: in (0, 1), compared with `at_most`. No person, no answer: the empty array says nothing about a person whom
        the detector missed. Raises `InputError` for another risk.
        """
        if isinstance(risk, bool) or not isinstance(risk, (int, float, np.number)) or not 0 < risk < 1:
            raise InputError(f"The risk must lie between 0 and 1, got {risk!r}. Pass 0.01 for one percent.")
        return np.asarray(self.at_most <= risk)


def zone_probability(poses: Poses, zone_px: ArrayLike) -> ZoneProbability:
    """Probability that each keypoint lies inside a polygon.

    poses: a result with ``return_maps="calibrated"``. zone_px: (P, 2) corners x, y in image pixels, in order, either
    way round; not necessarily convex, and it may reach beyond the image.

    The probability of a cell is taken as even over its rectangle, and counts by the share of the area that is in the
    zone, computed exactly (see `polygon_shares`). It includes the mass that calibration spreads evenly over the window,
    for keypoints that the network has lost: a zone that covers a tenth of the window holds at least a tenth of the lost
    share. Raises `InputError` for a polygon with fewer than three corners, without area or that crosses itself, and
    for poses without calibrated maps.
    """
    zone, maps = as_polygon(zone_px), maps_of(poses)
    n, k, height, width = maps.shape
    shares = polygon_shares(zone, poses.windows, (width, height))
    given = np.matmul(maps.reshape(n, k, height * width), shares.reshape(n, height * width, 1))[..., 0].clip(0, 1)
    presence = poses.presence.astype(np.float64)
    inside = presence * given
    # Windows are convex: a polygon is within one if its corners are.
    away = np.abs(zone - poses.windows[:, None, :2]) - poses.windows[:, None, 2:] / 2
    beyond = np.any(away > 0, axis=(1, 2))[:, None]
    return ZoneProbability(given_present=given, inside=inside, at_most=inside + np.where(beyond, 1 - presence, 0))
