"""Presence thresholds for a wanted rate of errors, from what calibration measured."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import InputError

PRESENCE_RATES_KEY = "presence_rates"
"""In ``ModelContract.calibration``: JSON rows [threshold, false-positive rate, miss rate], thresholds rising."""
_ONE_SIDED_95 = 1.6449
"""The normal distribution holds 95 % below this many standard deviations."""


@dataclass(frozen=True, kw_only=True)
class PresenceThreshold:
    """A threshold of the presence, and how often it is wrong.

    Attributes
    ----------
    threshold: a keypoint is reported present where its calibrated presence is at least this.
    false_positive_rate: share of the absent keypoints that are reported present (made up).
    miss_rate: share of the present keypoints that are reported absent.
    false_positive_rate_upper, miss_rate_upper: what the rates are at most, with 95 % confidence, by their number
        (Wilson 1927, one-sided). Keypoints of one person are not independent, so that the true bounds are wider.
    absent, present: how many keypoints the rates were measured on.
    """

    threshold: float
    false_positive_rate: float
    miss_rate: float
    false_positive_rate_upper: float
    miss_rate_upper: float
    absent: int
    present: int


def presence_threshold_for(
    contract: ModelContract, *, false_positive_rate: float | None = None, miss_rate: float | None = None
) -> PresenceThreshold:
    """The presence threshold of a model for a wanted rate of one kind of error.

    false_positive_rate: in (0, 1): the lowest threshold of the table at which at most this share of the absent
        keypoints was reported present. miss_rate: in (0, 1): the highest one at which at most this share of the present
        keypoints was reported absent. Give one of them.

    The table was measured by ``probpose-edge calibrate`` on held-out pictures, over all keypoints together, and holds
    for persons like those. Use it with ``PoseEstimator.open(path, presence_threshold=found.threshold)``.

    Raises `InputError` for both rates or none, a rate outside (0, 1), one that no threshold of the table reaches, and
    for a model whose calibration has no table or that has no presence.
    """
    if (false_positive_rate is None) == (miss_rate is None):
        raise InputError("Give either false_positive_rate or miss_rate: one threshold cannot be chosen for both.")
    name = "miss_rate" if false_positive_rate is None else "false_positive_rate"
    wanted = miss_rate if false_positive_rate is None else false_positive_rate
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float, np.number)) or not 0 < wanted < 1:
        raise InputError(f"{name} must lie between 0 and 1, got {wanted!r}. Pass 0.05 for five percent.")
    table = presence_rates(contract)
    rates = table[:, 1] if name == "false_positive_rate" else table[:, 2]
    fitting = np.flatnonzero(rates <= wanted)
    if not len(fitting):
        raise InputError(
            f"No presence threshold of this {contract.model} reaches a {name} of {wanted:g}: the lowest measured is "
            f"{rates.min():g}. Ask for that or more, or calibrate on more pictures."
        )
    row = table[fitting[0] if name == "false_positive_rate" else fitting[-1]]
    absent, present = (int(_count(contract, which)) for which in ("absent", "present"))
    return PresenceThreshold(
        threshold=float(row[0]),
        false_positive_rate=float(row[1]),
        miss_rate=float(row[2]),
        false_positive_rate_upper=_upper(float(row[1]), absent),
        miss_rate_upper=_upper(float(row[2]), present),
        absent=absent,
        present=present,
    )


def presence_rates(contract: ModelContract) -> NDArray[np.float64]:
    """(T, 3) rows ``[threshold, false-positive rate, miss rate]`` stored in a contract, thresholds rising.

    Raises `InputError` if there are none.
    """
    if contract.map_kind == "heatmap":
        raise InputError(
            f"Presence thresholds need a presence, but {contract.model} is a plain heatmap network and has none. Use a "
            "ProbPose model."
        )
    text = contract.calibration.get(PRESENCE_RATES_KEY)
    if text is None:
        raise InputError(
            f"A threshold for a wanted rate needs the rates that calibration measures, but this {contract.model} has "
            f"no {PRESENCE_RATES_KEY!r} in its metadata. Run `probpose-edge calibrate` on the file first."
        )
    try:
        table = np.array(json.loads(str(text)), dtype=np.float64)
    except (ValueError, TypeError):
        table = np.zeros(0)
    sound = table.ndim == 2 and len(table) > 0 and table.shape[1] == 3
    if not sound or not ((table >= 0) & (table <= 1)).all() or (np.diff(table[:, 0]) <= 0).any():
        raise InputError(
            f"The metadata must have rows of three shares with rising thresholds in {PRESENCE_RATES_KEY!r}, got "
            f"{str(text)[:60]!r}. Run `probpose-edge calibrate` on the file again."
        )
    return table


def _count(contract: ModelContract, which: str) -> Any:
    count = contract.calibration.get(f"presence_keypoints_{which}")
    if isinstance(count, bool) or not isinstance(count, (int, float)) or not count >= 1:
        raise InputError(
            f"The metadata must say on how many keypoints the rates were measured, but 'presence_keypoints_{which}' is "
            f"{count!r}. Run `probpose-edge calibrate` on the file again."
        )
    return count


def _upper(rate: float, count: int) -> float:
    """Upper end of the one-sided 95 % Wilson interval of a share of `count` cases."""
    z = _ONE_SIDED_95
    middle, spread = rate + z * z / (2 * count), z * math.sqrt(rate * (1 - rate) / count + (z / (2 * count)) ** 2)
    return min((middle + spread) / (1 + z * z / count), 1.0)
