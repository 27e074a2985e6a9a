"""The table of both rates of error by threshold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from probpose_eval.calibration.measure_presence_rates import THRESHOLDS, measure_presence_rates


def test_rates_are_counted_at_every_threshold() -> None:
    rng = np.random.default_rng(0)
    present = rng.random(500) < 0.8
    probability = 1 / (1 + np.exp(-rng.normal(np.where(present, 3, -1), 2)))
    probability[:40] = np.round(THRESHOLDS[30], 7)  # exactly at a threshold: said to be present
    rows = np.array(json.loads(measure_presence_rates(probability, present)))
    assert rows.shape == (73, 3)
    assert (np.diff(rows[:, 0]) > 0).all()
    for threshold, made_up, missed in rows:
        said = probability >= threshold
        assert made_up == pytest.approx(said[~present].mean(), abs=1e-5)
        assert missed == pytest.approx((~said)[present].mean(), abs=1e-5)
    assert rows[0, 1] > 0.9
    assert rows[-1, 2] > 0.9
    assert (rows[:, 0] < 1).all()


def test_the_text_is_short() -> None:
    rng = np.random.default_rng(0)
    assert len(measure_presence_rates(rng.random(10_000), rng.random(10_000) < 0.5)) < 3000
