"""A self-test of a model file: the network's answers to two drawn crops against numbers that were recorded before."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.read_contract import read_contract
from probpose_edge.drawn_crops import drawn_crops
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import MetadataError
from probpose_edge.weights import shipped_model

KEYPOINT_TOLERANCE = 0.012
"""Share of the crop's height by which a sure keypoint may move: 3 px of 256. Other versions and kernels of a runtime
move one by up to 1.8 px in the shipped INT8 files."""
PROBABILITY_TOLERANCE = 0.06
"""Other kernels shift a probability by up to 0.037; red and blue swapped shift one by 0.25."""
SURE_OKS = 0.25
"""Keypoints are compared where the recorded expected OKS is at least this: others may have several places alike."""
_SCALARS = ("presence", "visibility", "quality")


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """What a file answered, and how far that is from the record.

    Attributes
    ----------
    moved: the largest move of a sure keypoint, as a share of the crop's height; None without a record.
    shifted: the largest difference of a presence, visibility or quality, before calibration; None without a record or
        from a model that has none of them.
    compared: how many keypoints were compared.
    seconds: for one crop, the better of two runs.
    passed: whether both are within `KEYPOINT_TOLERANCE` and `PROBABILITY_TOLERANCE`; None without a record.
    """

    moved: float | None
    shifted: float | None
    compared: int
    seconds: float
    passed: bool | None


def self_test_numbers(estimator: PoseEstimator) -> dict[str, Any]:
    """What a model answers to `drawn_crops`, as plain lists to be recorded: (2, K, 2) keypoints in pixels of the crop,
    (2, K) expected OKS, and (2, K) presence, visibility and quality as the network gives them, if it does.

    Calibration does not change these numbers. Raises as `PoseEstimator.decode_outputs`.
    """
    return {name: np.round(values, 4).tolist() for name, values in _answers(estimator)[0].items()}


def run_self_test(estimator: PoseEstimator, record: Mapping[str, Any] | None) -> SelfTest:
    """Run `drawn_crops` and compare with a record of `self_test_numbers`; None only runs them.

    Raises `MetadataError` for a record of another form, and as `PoseEstimator.decode_outputs` for unusable outputs.
    """
    found, seconds = _answers(estimator)
    if not record:
        return SelfTest(moved=None, shifted=None, compared=0, seconds=seconds, passed=None)
    known = _read(record, found)
    sure = known["expected_oks"] >= SURE_OKS
    distance = np.hypot(*np.moveaxis(found["keypoints"] - known["keypoints"], -1, 0)) / estimator.contract.input_wh[1]
    moved = float(distance[sure].max(initial=0))
    shifts = [float(np.abs(found[name] - known[name]).max()) for name in _SCALARS if name in known]
    shifted = max(shifts) if shifts else None
    passed = moved <= KEYPOINT_TOLERANCE and (shifted is None or shifted <= PROBABILITY_TOLERANCE)
    return SelfTest(moved=moved, shifted=shifted, compared=int(sure.sum()), seconds=seconds, passed=passed)


def recorded_numbers(path: Path, estimator: PoseEstimator) -> Mapping[str, Any] | None:
    """The record of a file: in its metadata, or, of a shipped file or a copy of one, in the package; else None.

    A copy is known by its metadata, which nobody else's file has to the letter, not by its bytes: one that was damaged
    on the way must not pass for a file without a record.
    """
    if estimator.contract.self_test:
        return estimator.contract.self_test
    if path.suffix in (".onnx", ".tflite"):
        shipped = shipped_model(path.suffix[1:])
        if estimator.contract == read_contract(shipped):
            records: dict[str, Any] = json.loads(shipped.with_name("self_test.json").read_text(encoding="utf-8"))
            return records.get(shipped.name)
    return None


def _answers(estimator: PoseEstimator) -> tuple[dict[str, NDArray[np.float64]], float]:
    width, height = estimator.contract.input_wh
    crops = drawn_crops((width, height))
    # A window of one pixel per pixel of the crop.
    windows = np.array([[(width - 1) / 2, (height - 1) / 2, width - 1, height - 1]] * len(crops), dtype=np.float64)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        raw = estimator.runtime.run(crops)
        seconds.append((time.perf_counter() - start) / len(crops))
    poses = estimator.decode_outputs(raw, windows)
    scalars = {name: getattr(raw, name) for name in _SCALARS}
    answers = {"keypoints": poses.keypoints, "expected_oks": poses.expected_oks, **scalars}
    found = {name: values.astype(np.float64) for name, values in answers.items() if values is not None}
    return found, min(seconds)


def _read(record: Mapping[str, Any], found: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    try:
        known = {name: np.array(values, dtype=np.float64) for name, values in record.items()}
    except (TypeError, ValueError):
        known = {}
    wanted = {name: values.shape for name, values in found.items()}
    shapes = {name: values.shape for name, values in known.items()}
    if shapes != wanted or not all(np.isfinite(values).all() for values in known.values()):
        raise MetadataError(
            f"The recorded self-test must have the arrays {wanted}, got {shapes or 'something else'}. Record it again "
            "with `probpose-edge doctor MODEL --record`."
        )
    return known
