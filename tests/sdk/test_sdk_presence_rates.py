"""Thresholds for a wanted rate of errors, from the table that calibration stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from probpose_edge import InputError, ModelContract, presence_threshold_for

ROWS = [[0.1, 0.9, 0.0], [0.5, 0.4, 0.02], [0.7, 0.2, 0.05], [0.9, 0.05, 0.2], [0.99, 0.01, 0.5]]


def calibrated(contract: ModelContract, rows: Any = ROWS, **changes: Any) -> ModelContract:
    text = rows if isinstance(rows, str) else json.dumps(rows)
    record = {"presence_rates": text, "presence_keypoints_absent": 200, "presence_keypoints_present": 5000, **changes}
    return contract.replace(calibration={name: value for name, value in record.items() if value is not None})


def test_the_lowest_threshold_that_keeps_the_false_positive_rate(contract: ModelContract) -> None:
    found = presence_threshold_for(calibrated(contract), false_positive_rate=0.2)
    assert (found.threshold, found.false_positive_rate, found.miss_rate) == (0.7, 0.2, 0.05)
    assert (found.absent, found.present) == (200, 5000)
    # Wilson, one-sided 95 %, of 40 of 200 and of 250 of 5000.
    assert found.false_positive_rate_upper == pytest.approx(0.2505, abs=2e-4)
    assert found.miss_rate_upper == pytest.approx(0.0553, abs=2e-4)
    assert presence_threshold_for(calibrated(contract), false_positive_rate=0.199).threshold == 0.9


def test_the_highest_threshold_that_keeps_the_miss_rate(contract: ModelContract) -> None:
    assert presence_threshold_for(calibrated(contract), miss_rate=0.2).threshold == 0.9
    assert presence_threshold_for(calibrated(contract), miss_rate=0.001).threshold == 0.1
    assert presence_threshold_for(calibrated(contract), miss_rate=0.99).threshold == 0.99


def test_rates_that_are_not_reached_are_said(contract: ModelContract) -> None:
    with pytest.raises(
        InputError,
        match=r"No presence threshold of this tiny reaches a false_positive_rate of 0\.001: the lowest measured is "
        r"0\.01\. Ask for that or more, or calibrate on more pictures",
    ):
        presence_threshold_for(calibrated(contract), false_positive_rate=0.001)


def test_one_wanted_rate_is_needed(contract: ModelContract) -> None:
    for rates in ({}, {"false_positive_rate": 0.1, "miss_rate": 0.1}):
        with pytest.raises(InputError, match="Give either false_positive_rate or miss_rate: one threshold cannot"):
            presence_threshold_for(calibrated(contract), **rates)
    for rate in (0, 1, 5, float("nan"), True, "0.1"):
        with pytest.raises(InputError, match=r"miss_rate must lie between 0 and 1, got .* Pass 0\.05 for five percent"):
            presence_threshold_for(calibrated(contract), miss_rate=rate)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "rows", ["no json", "[]", "[[0.1, 0.2]]", "[[0.5, 0.1, 0.1], [0.5, 0.1, 0.1]]", "[[0.5, 2, 0.1]]", '[["a", 0, 0]]']
)
def test_damaged_tables_are_refused(contract: ModelContract, rows: str) -> None:
    with pytest.raises(
        InputError, match=r"rows of three shares with rising thresholds .* got '.*Run `probpose-edge cal"
    ):
        presence_threshold_for(calibrated(contract, rows), miss_rate=0.1)


def test_files_without_a_table_are_refused(contract: ModelContract) -> None:
    with pytest.raises(
        InputError, match=r"this tiny has no 'presence_rates' in its metadata\. Run `probpose-edge calib"
    ):
        presence_threshold_for(contract, miss_rate=0.1)
    with pytest.raises(InputError, match=r"'presence_keypoints_absent' is None\. Run `probpose-edge calibrate`"):
        presence_threshold_for(calibrated(contract, presence_keypoints_absent=None), miss_rate=0.1)
    plain = calibrated(contract).replace(map_kind="heatmap", decode_kernel="argmax")
    with pytest.raises(
        InputError, match=r"need a presence, but tiny is a plain heatmap network and has none\. Use a Pro"
    ):
        presence_threshold_for(plain, miss_rate=0.1)
