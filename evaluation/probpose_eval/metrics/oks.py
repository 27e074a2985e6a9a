"""Object keypoint similarity (OKS) and its extension to absent keypoints (Ex-OKS), over pairs of person and result.

OKS is COCO's: ``exp(-d² / (2 · (2σ)² · area))`` per keypoint, averaged over the labelled ones. Ex-OKS (ProbPose,
section 4.1, eq. 5 and 6) replaces d where the truth or the result says "not in the activation window":

====================  ======================  ========================
d                     result: present         result: absent
====================  ======================  ========================
truth: present        to the result           truth to the window edge
truth: absent         result to window edge   0
====================  ======================  ========================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_eval.annotations.windows import person_windows, window_corners

DEFINITIONS = ("paper", "exococotools")
_SMALLEST_AREA = float(np.spacing(1))
"""Added to the area as in COCO's evaluation, so that an area of 0 divides nothing by zero."""


@dataclass(frozen=True, kw_only=True)
class OksRule:
    """Which similarity is meant.

    Attributes
    ----------
    extended: Ex-OKS over keypoints with v > 0, else OKS over those with v = 1 and 2.
    definition: of Ex-OKS. ``"paper"``: a labelled keypoint outside the window is absent, as is every v = 3; the
        distance to the window is the Euclidean distance to its border. ``"exococotools"`` reproduces exococotools
        1.0.0: only v = 3 is absent; the distance joins the nearest vertical and the nearest horizontal border,
        ``min(dx)² + min(dy)²``; persons without a counted keypoint are compared with the window instead of the
        enlarged box; and its AP, extended or not, leaves out images whose every person is ignored.
    presence_threshold: a result keypoint with at least this presence is present.
    padding, input_wh: the activation window is that of the true box: aspect of `input_wh`, then `padding`, which is a
        contract's `activation_padding`.
    """

    extended: bool = False
    definition: str = "paper"
    presence_threshold: float = 0.5
    padding: float = 1.25
    input_wh: tuple[int, int] = (192, 256)

    def __post_init__(self) -> None:
        if self.definition not in DEFINITIONS:
            raise InputError(
                f"The definition of Ex-OKS must be one of {', '.join(DEFINITIONS)}, got {self.definition!r}. "
                'Use "paper", or "exococotools" to compare with published numbers.'
            )
        if not 0 <= self.presence_threshold <= 1:
            raise InputError(
                f"The presence threshold must lie in [0, 1], got {self.presence_threshold}. Use for example 0.5."
            )
        if not (self.padding > 0 and min(self.input_wh) > 0):
            raise InputError(
                f"Padding and input size must be positive, got {self.padding} and {self.input_wh}. "
                "Use 1.25 and (192, 256)."
            )

    @property
    def levels(self) -> tuple[int, ...]:
        """Visibility levels whose keypoints count."""
        return (1, 2, 3) if self.extended else (1, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """G persons: keypoints (G, K, 3) x, y px and visibility level; boxes (G, 4) px; areas (G,) px²; K sigmas."""

    keypoints: NDArray[np.float64]
    boxes_xyxy: NDArray[np.float64]
    areas: NDArray[np.float64]
    sigmas: tuple[float, ...]

    def counted(self, levels: Sequence[int]) -> NDArray[np.bool_]:
        """(G, K) bool: keypoints whose visibility is one of `levels`."""
        return np.isin(self.keypoints[..., 2], levels)

    def select(self, index: NDArray[np.intp]) -> Truth:
        """Some of the persons."""
        return Truth(
            keypoints=self.keypoints[index],
            boxes_xyxy=self.boxes_xyxy[index],
            areas=self.areas[index],
            sigmas=self.sigmas,
        )


def oks(
    truth_keypoints: NDArray[np.float64],
    truth_boxes_xyxy: NDArray[np.float64],
    areas: NDArray[np.float64],
    keypoints: NDArray[np.float64],
    sigmas: Sequence[float],
    *,
    rule: OksRule | None = None,
) -> NDArray[np.float64]:
    """OKS, or Ex-OKS if `rule` says so, of P pairs of a person and a result.

    Parameters
    ----------
    truth_keypoints: (P, K, 3) x, y in image px and visibility level. truth_boxes_xyxy: (P, 4) px. areas: (P,) px².
    keypoints: (P, K, 3) x, y in image px and presence probability, the results. sigmas: K.

    Returns (P,) float64 in [0, 1]. For a person without a counted keypoint it is the OKS of the distance to the box
    enlarged by its own size on every side, COCO's rule for results that may be ignored.
    """
    rule = rule or OksRule()
    truth = Truth(keypoints=truth_keypoints, boxes_xyxy=truth_boxes_xyxy, areas=areas, sigmas=tuple(sigmas))
    pair = np.arange(len(areas))
    values: NDArray[np.float64] = pair_oks(truth, keypoints, rule, pair, pair, [truth.counted(rule.levels)])[0]
    return values


def keypoint_oks(
    truth: Truth, keypoints: NDArray[np.float64], rule: OksRule, counted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(P, K) OKS (or Ex-OKS) of the keypoints of P results, (P, K, 3), each with the person of its row.

    counted: (P, K) bool; NaN elsewhere.
    """
    pair = np.arange(len(keypoints))
    return np.where(counted, _similarity(_distance2(truth, keypoints, rule, pair, pair), truth, pair), np.nan)


def pair_oks(
    truth: Truth,
    keypoints: NDArray[np.float64],
    rule: OksRule,
    person: NDArray[np.intp],
    result: NDArray[np.intp],
    masks: Sequence[NDArray[np.bool_]],
) -> NDArray[np.float64]:
    """(V, P) OKS of P pairs (person index, result index), once per (G, K) mask of the keypoints that count (V of them).

    keypoints: (N, K, 3) results, as in `oks`.
    """
    # Matching comes here once per group of images: only their persons need windows.
    chosen, person = np.unique(person, return_inverse=True)
    truth, masks = truth.select(chosen), [mask[chosen] for mask in masks]
    bare = [np.asarray(~mask.any(axis=1)) for mask in masks]
    similarity = _similarity(_distance2(truth, keypoints, rule, person, result), truth, person)
    values = np.empty((len(masks), len(person)))
    for row, mask in zip(values, masks, strict=True):
        counted = mask[person]
        row[:] = np.where(counted, similarity, 0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    needed = np.flatnonzero(np.asarray(np.any(bare, axis=0))[person])
    if needed.size:
        outside2 = _region_distance2(truth, keypoints, rule, person[needed], result[needed])
        around = _similarity(outside2, truth, person[needed]).mean(axis=1)
        for row, without in zip(values, bare, strict=True):
            row[needed] = np.where(without[person[needed]], around, row[needed])
    return values


def _distance2(
    truth: Truth,
    keypoints: NDArray[np.float64],
    rule: OksRule,
    person: NDArray[np.intp],
    result: NDArray[np.intp],
) -> NDArray[np.float64]:
    """(P, K) squared distances of eq. 5, or of plain OKS."""
    x, y = truth.keypoints[..., 0], truth.keypoints[..., 1]
    plain: NDArray[np.float64] = (keypoints[..., 0][result] - x[person]) ** 2
    plain += (keypoints[..., 1][result] - y[person]) ** 2
    if not rule.extended:
        return plain
    edge2 = _border_distance2 if rule.definition == "paper" else _nearest_edges_distance2
    corners = window_corners(person_windows(truth.boxes_xyxy, input_wh=rule.input_wh, padding=rule.padding))
    left, top, right, bottom = (corners[:, index, None] for index in range(4))
    truth_present = truth.counted((1, 2))
    if rule.definition == "paper":
        truth_present &= (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    truth_edge2 = edge2(x, y, left, top, right, bottom)
    is_present = truth_present[person]
    said_present = (keypoints[..., 2] >= rule.presence_threshold)[result]
    distance2 = np.where(said_present, plain, truth_edge2[person])
    distance2[~is_present & ~said_present] = 0
    # Few keypoints are known to be absent, so their distances are computed one by one.
    p, k = np.nonzero(truth.counted((1, 2, 3))[person] & ~is_present & said_present)
    g, n = person[p], result[p]
    distance2[p, k] = edge2(keypoints[n, k, 0], keypoints[n, k, 1], *corners[g].T)
    return distance2


def _region_distance2(
    truth: Truth,
    keypoints: NDArray[np.float64],
    rule: OksRule,
    person: NDArray[np.intp],
    result: NDArray[np.intp],
) -> NDArray[np.float64]:
    """(P, K) squared distances to the region that stands for a person without counted keypoints."""
    boxes = truth.boxes_xyxy
    if rule.extended and rule.definition == "exococotools":
        region = window_corners(person_windows(boxes, input_wh=rule.input_wh, padding=rule.padding))
    else:
        sides = boxes[:, 2:] - boxes[:, :2]
        region = np.concatenate([boxes[:, :2] - sides, boxes[:, 2:] + sides], axis=1)
    distance2: NDArray[np.float64] = np.zeros((len(person), keypoints.shape[1]))
    for axis in (0, 1):
        point = keypoints[..., axis][result]
        low, high = region[person, axis, None], region[person, 2 + axis, None]
        distance2 += (np.maximum(0, low - point) + np.maximum(0, point - high)) ** 2
    return distance2


def _similarity(distance2: NDArray[np.float64], truth: Truth, person: NDArray[np.intp]) -> NDArray[np.float64]:
    variances = (2 * np.asarray(truth.sigmas, dtype=np.float64)) ** 2
    exponent = distance2 / variances
    exponent /= (truth.areas + _SMALLEST_AREA)[person, None]
    exponent /= -2
    return np.exp(exponent, out=exponent)


def _border_distance2(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    left: NDArray[np.float64],
    top: NDArray[np.float64],
    right: NDArray[np.float64],
    bottom: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Squared Euclidean distance of points to the border of their rectangle, inside it or out; arrays broadcast."""
    inward_x = np.minimum(x - left, right - x)
    inward_y = np.minimum(y - top, bottom - y)
    inside = (inward_x > 0) & (inward_y > 0)
    outward2 = np.minimum(inward_x, 0) ** 2 + np.minimum(inward_y, 0) ** 2
    return np.where(inside, np.minimum(inward_x, inward_y) ** 2, outward2)


def _nearest_edges_distance2(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    left: NDArray[np.float64],
    top: NDArray[np.float64],
    right: NDArray[np.float64],
    bottom: NDArray[np.float64],
) -> NDArray[np.float64]:
    """``min(dx)² + min(dy)²`` to the nearest vertical and the nearest horizontal border line; arrays broadcast."""
    dx = np.minimum(np.abs(x - left), np.abs(x - right))
    dy = np.minimum(np.abs(y - top), np.abs(y - bottom))
    return np.asarray(dx**2 + dy**2)
