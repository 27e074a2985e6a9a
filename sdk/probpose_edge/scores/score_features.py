"""What the score of a keypoint is learned from: numbers that every file of the family gives, of any format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.probabilities.calibrated_maps import (
    LOST_SHARE_KEY,
    TEMPERATURE_KEY,
    coverage_numbers,
    softmax_rows,
    spread,
)
from probpose_edge.probabilities.map_covariance import map_covariances
from probpose_edge.scores.promised_oks import falloff_px2, promised_oks, promised_oks_of_heatmaps

KEYPOINT_FEATURES = (
    "presence",
    "visibility",
    "quality",
    "expected_oks",
    "promised_oks",
    "peak",
    "spread",
    "height",
    "off_center",
    "partner",
)
"""Of each keypoint: the first three as logits; the OKS the decoded and the calibrated map expect; logarithms of the
largest value of the map, of its standard deviation over the falloff of the OKS, and of the network's raw peak; how far
from the middle of the window it is; and the OKS between it and its mirror partner, which is large where one limb was
taken for both."""
PERSON_FEATURES = (
    "presence_mean",
    "quality_mean",
    "expected_mean",
    "promised_mean",
    "quality_least",
    "box_px",
    "box_share",
)
"""The same for every keypoint of a person: means and the least of some of them, the logarithm of the height of the
window in pixels, and the share of the window that the box has."""
FEATURES = KEYPOINT_FEATURES + PERSON_FEATURES
_EDGE = 1e-4


def score_features(
    logits: NDArray[np.floating],
    contract: ModelContract,
    *,
    keypoints_px: NDArray[np.floating],
    presence: NDArray[np.floating],
    visibility: NDArray[np.floating],
    quality: NDArray[np.floating],
    expected_oks: NDArray[np.floating],
    boxes_xyxy: NDArray[np.floating],
    windows: NDArray[np.floating],
) -> NDArray[np.float64]:
    """(N, K, F) float64, in the order of `FEATURES`.

    logits: (N, K, H, W) as the network gives them, over the (N, 4) activation windows, px. Everything else as in
    `Poses` of the same persons. Raises `InputError` for logits that are not finite.
    """
    falloff = falloff_px2(boxes_xyxy, contract.sigmas)
    maps = _maps(logits, contract)
    if contract.map_kind == "heatmap":
        promised = promised_oks_of_heatmaps(logits, windows, falloff)
    else:
        promised = promised_oks(maps, windows, keypoints_px, falloff)
    variance = np.trace(map_covariances(maps, windows), axis1=2, axis2=3)
    n, k = promised.shape
    flat = maps.max(axis=(2, 3))
    raw_peak = logits.max(axis=(2, 3))
    middle = np.abs(keypoints_px - windows[:, None, :2]) / (windows[:, None, 2:] / 2)
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    columns = [
        _logit(presence),
        _logit(visibility),
        _logit(quality),
        expected_oks,
        promised,
        np.log(flat + 1e-9),
        np.log((variance + 1e-9) / falloff) / 2,
        np.sign(raw_peak) * np.log1p(np.abs(raw_peak)),
        np.minimum(middle.max(axis=2), 2),
        _partners(keypoints_px, falloff, contract.flip_pairs),
    ]
    weight = np.maximum(presence, _EDGE)
    share = weight / weight.sum(axis=1, keepdims=True)
    person = [
        presence.mean(axis=1),
        (share * quality).sum(axis=1),
        (share * expected_oks).sum(axis=1),
        (share * promised).sum(axis=1),
        quality.min(axis=1),
        np.log(windows[:, 3]),
        sides.prod(axis=1) / windows[:, 2:].prod(axis=1),
    ]
    return np.stack([*columns, *(np.broadcast_to(each[:, None], (n, k)) for each in person)], axis=2).astype(np.float64)


def _maps(logits: NDArray[np.floating], contract: ModelContract) -> NDArray[np.float32]:
    """(N, K, H, W) maps with sum 1: calibrated where the file was, else softmax; heatmaps as their shares."""
    n, k, height, width = logits.shape
    rows = logits.reshape(n * k, height * width)
    if contract.map_kind == "heatmap":
        positive = np.maximum(np.nan_to_num(rows), 0) + 1e-6
        return np.asarray(positive / positive.sum(axis=1, keepdims=True), dtype=np.float32).reshape(logits.shape)
    if {TEMPERATURE_KEY, LOST_SHARE_KEY} <= set(contract.calibration):
        temperature, lost_share = coverage_numbers(contract)
        return spread(softmax_rows(rows, temperature), lost_share).reshape(logits.shape)
    return softmax_rows(rows, contract.temperature).reshape(logits.shape)


def _partners(
    keypoints_px: NDArray[np.floating], falloff: NDArray[np.float64], pairs: tuple[tuple[int, int], ...]
) -> NDArray[np.float64]:
    """(N, K) OKS between a keypoint and its mirror partner; 0 without one."""
    found = np.zeros(falloff.shape)
    left, right = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    squared = ((keypoints_px[:, left] - keypoints_px[:, right]) ** 2).sum(axis=2)
    found[:, left] = found[:, right] = np.exp(-squared / (2 * falloff[:, left]))
    return found


def _logit(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    p = np.clip(np.asarray(probability, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p / (1 - p)))
