"""Calibrated maps: the maps of which the smallest region holding q of the mass contains q of the keypoints.

Sparsemax maps, from which keypoints are decoded, have exact zeros: where the network is wrong, no temperature gives
the true place a probability. The calibrated map is therefore the softmax of the same logits at a temperature of its
own, of which a small share, that of keypoints the network has lost, is spread over the whole window::

    p = (1 - lost_share) * softmax(logits / coverage_temperature) + lost_share / cells

Both numbers are fitted by ``probpose-edge calibrate`` and travel in the ``calibration`` field of the metadata.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import InputError

TEMPERATURE_KEY = "coverage_temperature"
LOST_SHARE_KEY = "lost_share"


def calibrated_maps(logits: NDArray[np.floating], contract: ModelContract) -> NDArray[np.float32]:
    """Probability maps for credible regions, with the numbers that calibration stored in `contract`.

    logits: (N, K, H, W) float, finite, as the network gives them (``RawOutputs.logits``: over the activation window,
    not the sparsemax maps of `Poses`, which no longer know what they were cut from). Returns (N, K, H, W) float32,
    every cell above 0 if the lost share is, every map with sum 1. The input is not changed.

    The cells with the largest values whose sum is q, the last one counted in part, hold the keypoint with probability
    q, over persons and keypoints like those it was calibrated on, given that the keypoint is in the window at all.

    Raises `InputError` for a model that was not calibrated or has plain heatmaps, and for other logits.
    """
    temperature, lost_share = coverage_numbers(contract)
    if logits.ndim != 4:
        raise InputError(
            f"Logits must have shape (N, K, H, W), got {logits.shape}. Pass the network's logits as they come."
        )
    n, k, height, width = logits.shape
    rows = softmax_rows(logits.reshape(n * k, height * width), temperature)
    return spread(rows, lost_share).reshape(logits.shape)


def coverage_numbers(contract: ModelContract) -> tuple[float, float]:
    """Temperature and lost share that were stored in a contract; raises `InputError` if there are none."""
    if contract.map_kind == "heatmap":
        raise InputError(
            f"Calibrated maps need probability maps, but {contract.model} is a plain heatmap network and has none. Use "
            "a ProbPose model."
        )
    temperature, lost_share = (contract.calibration.get(key) for key in (TEMPERATURE_KEY, LOST_SHARE_KEY))
    if temperature is None or lost_share is None:
        raise InputError(
            f"Calibrated maps need a calibrated model, but this {contract.model} has no {TEMPERATURE_KEY!r} and "
            f"{LOST_SHARE_KEY!r} in its metadata. Run `probpose-edge calibrate` on the file first."
        )
    values = [value if isinstance(value, (int, float)) else math.nan for value in (temperature, lost_share)]
    if not (math.isfinite(values[0]) and values[0] > 0 and 0 <= values[1] < 1):
        raise InputError(
            f"The metadata must have a positive {TEMPERATURE_KEY!r} and a {LOST_SHARE_KEY!r} in [0, 1), got "
            f"{temperature!r} and {lost_share!r}. Run `probpose-edge calibrate` on the file again."
        )
    return values[0], values[1]


def softmax_rows(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """(M, C) softmax of ``logits / temperature`` along each row; raises `InputError` if a number is not finite."""
    rows = np.array(logits, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise InputError(
            "Logits must be finite, but a map has a NaN or an infinity. The model file gives unusable numbers: convert "
            "the checkpoint again, or run another precision."
        )
    rows -= rows.max(axis=1, keepdims=True, initial=-np.inf)
    # Multiplied: divisions take longer.
    rows *= np.float32(1 / temperature)
    np.exp(rows, out=rows)
    rows *= 1 / rows.sum(axis=1, keepdims=True)
    return rows


def spread(rows: NDArray[np.float32], lost_share: float) -> NDArray[np.float32]:
    """(M, C) maps with `lost_share` of their mass taken off in proportion and given to all cells alike."""
    mixed = rows * np.float32(1 - lost_share)
    mixed += np.float32(lost_share / rows.shape[1])
    return mixed
