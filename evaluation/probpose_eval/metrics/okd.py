"""Object keypoint distance (OKD): how far a pose is from the truth, without the ceiling that OKS has.

OKS of two bad poses is 0 for both, however unlike they are; a distance still tells them apart. After DynPose (CVPR
2025): ``D = Σ dⁱ ρⁱ vⁱ / Σ vⁱ`` over the keypoints i. The source leaves ρ open. Here ``dⁱ ρⁱ`` is the distance in the
units of OKS, ``ρⁱ = 1 / (2 σⁱ √area)``: the keypoint's own falloff and the person's size, so that the OKS of a keypoint
is ``exp(-(dⁱ ρⁱ)² / 2)``. ``vⁱ`` is COCO's level, so a visible keypoint (2) weighs twice as much as a hidden one (1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError


def okd(
    truth_keypoints: NDArray[np.floating],
    areas: NDArray[np.floating],
    keypoints: NDArray[np.floating],
    sigmas: Sequence[float],
) -> NDArray[np.float64]:
    """OKD of P results, each with the person of its row, in standard deviations of the OKS kernel.

    Parameters
    ----------
    truth_keypoints: (P, K, 3) x, y in px and visibility level; 0 and 3 do not count. areas: (P,) px², above 0.
    keypoints: (P, K, 2 or more) x, y in the same px; further columns are not read. sigmas: K, above 0.

    Returns (P,) float64, 0 for a perfect pose and without upper limit; NaN for a person without a counted keypoint.
    Raises `InputError` for other shapes, areas or sigmas that are not positive, and results that are not finite.
    """
    truth = np.asarray(truth_keypoints, dtype=np.float64)
    area, scale = np.asarray(areas, dtype=np.float64), np.asarray(sigmas, dtype=np.float64)
    found = np.asarray(keypoints, dtype=np.float64)
    if truth.ndim != 3 or truth.shape[2] != 3 or found.ndim != 3 or found.shape[:2] != truth.shape[:2]:
        raise InputError(
            f"OKD compares keypoints (P, K, 2) with a truth of shape (P, K, 3), got {found.shape} and {truth.shape}. "
            "Pass one result per person."
        )
    if found.shape[2] < 2 or area.shape != truth.shape[:1] or scale.shape != truth.shape[1:2]:
        raise InputError(
            f"OKD of keypoints {found.shape} needs x and y, one area per person and one sigma per keypoint, got "
            f"{area.shape} and {scale.shape}. Pass all of them."
        )
    if not ((area > 0).all() and (scale > 0).all()):
        raise InputError("OKD divides by areas and sigmas, so all of them must be above 0. Leave such persons out.")
    weights = np.where(np.isin(truth[..., 2], (1, 2)), truth[..., 2], 0.0)
    if not np.isfinite(found[weights > 0, :2]).all():
        raise InputError("OKD needs finite keypoints, but a result has NaN or infinity. Check the model file.")
    # Places of uncounted keypoints are unknown and may be anything.
    apart = np.where(weights[..., None] > 0, found[..., :2] - truth[..., :2], 0.0)
    distance = np.linalg.norm(apart, axis=2) / (2 * scale * np.sqrt(area)[:, None])
    total = weights.sum(axis=1)
    summed = (distance * weights).sum(axis=1)
    return np.asarray(np.divide(summed, total, out=np.full(len(total), np.nan), where=total > 0))


def relative_gain(small: NDArray[np.floating], large: NDArray[np.floating]) -> NDArray[np.float64]:
    """``(D_s - D_l) / D_s`` clipped to [0, 1], elementwise: the share of its distance that a small model would lose.

    DynPose's target of a router, kept within the range of a sigmoid: where the large model is worse, nothing is to be
    gained. small, large: OKD, not negative. 0 where the small model is perfect; NaN stays NaN.
    """
    d_s, d_l = np.asarray(small, dtype=np.float64), np.asarray(large, dtype=np.float64)
    gain = np.divide(d_s - d_l, d_s, out=np.zeros(np.broadcast(d_s, d_l).shape), where=(d_s > 0) | np.isnan(d_s))
    return np.clip(gain, 0.0, 1.0)
