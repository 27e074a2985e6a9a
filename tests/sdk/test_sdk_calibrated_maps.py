"""Calibrated maps: a softmax of its own temperature with a share of the mass spread, from the stored numbers only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probpose_edge import InputError, ModelContract
from probpose_edge.probabilities.calibrated_maps import LOST_SHARE_KEY, TEMPERATURE_KEY, calibrated_maps

LOGITS = np.random.default_rng(0).normal(0, 1, (2, 3, 5, 4)).astype(np.float32)


@pytest.fixture
def contract() -> Callable[..., ModelContract]:
    def make(**calibration: Any) -> ModelContract:
        return ModelContract(
            model="test",
            format="onnx",
            precision="fp32",
            recipe="fp32",
            keypoint_names=("a", "b", "c"),
            skeleton=(),
            flip_pairs=(),
            sigmas=(0.1, 0.1, 0.1),
            input_wh=(192, 256),
            heatmap_wh=(4, 5),
            padding=1.25,
            decode_kernel="published",
            temperature=0.5,
            presence_scale=(1.0,) * 3,
            presence_bias=(0.0,) * 3,
            presence_threshold=0.5,
            checkpoint_sha256="",
            licence="Apache-2.0",
            calibration=calibration,
        )

    return make


def test_they_follow_their_formula(contract: Callable[..., ModelContract]) -> None:
    given = LOGITS.copy()
    maps = calibrated_maps(given, contract(**{TEMPERATURE_KEY: 0.25, LOST_SHARE_KEY: 0.1}))
    softmax = np.exp(LOGITS.astype(np.float64) / 0.25)
    softmax /= softmax.sum(axis=(2, 3), keepdims=True)
    assert maps.dtype == np.float32
    assert maps == pytest.approx(0.9 * softmax + 0.1 / 20, abs=1e-6)
    assert maps.sum(axis=(2, 3)) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(given, LOGITS)


def test_far_logits_do_not_overflow(contract: Callable[..., ModelContract]) -> None:
    maps = calibrated_maps(1e4 * LOGITS, contract(**{TEMPERATURE_KEY: 1e-3, LOST_SHARE_KEY: 0.0}))
    assert maps.sum(axis=(2, 3)) == pytest.approx(1)
    assert calibrated_maps(LOGITS[:0], contract(**{TEMPERATURE_KEY: 1.0, LOST_SHARE_KEY: 0.0})).shape == (0, 3, 5, 4)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({}, "need a calibrated model, but this test has no 'coverage_temperature' .* Run `probpose-edge calibrate`"),
        ({TEMPERATURE_KEY: 0.0, LOST_SHARE_KEY: 0.1}, r"must have a positive 'coverage_temperature' .* got 0\.0 and"),
        ({TEMPERATURE_KEY: 0.1, LOST_SHARE_KEY: 1.0}, r"'lost_share' in \[0, 1\), got 0\.1 and 1\.0"),
        ({TEMPERATURE_KEY: "0.1", LOST_SHARE_KEY: 0.1}, r"must have a positive .* got '0\.1' and 0\.1"),
    ],
)
def test_other_numbers_are_refused(
    contract: Callable[..., ModelContract], calibration: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        calibrated_maps(LOGITS, contract(**calibration))


def test_other_logits_are_refused(contract: Callable[..., ModelContract]) -> None:
    calibrated = contract(**{TEMPERATURE_KEY: 1.0, LOST_SHARE_KEY: 0.0})
    with pytest.raises(InputError, match=r"shape \(N, K, H, W\), got \(3, 5, 4\)"):
        calibrated_maps(LOGITS[0], calibrated)
    broken = LOGITS.copy()
    broken[1, 2, 3, 3] = np.nan
    with pytest.raises(InputError, match=r"Logits must be finite, but a map has a NaN .* convert the checkpoint again"):
        calibrated_maps(broken, calibrated)
