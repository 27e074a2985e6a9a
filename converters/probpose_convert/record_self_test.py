"""Record in a finished file what it answers to the drawn crops of the self-test."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from probpose_convert.export_result import ExportResult
from probpose_convert.pending_output import size_on_disk
from probpose_convert.write_contract import write_contract
from probpose_edge import PoseEstimator, read_contract
from probpose_edge.contract.self_test import self_test_numbers
from probpose_edge.exceptions import InputError


def record_self_test(path: Path, estimator: PoseEstimator) -> None:
    """Put `self_test_numbers` of a .onnx, .tflite or .mlpackage file into its metadata; the network stays the same.

    estimator: that file, opened, on a machine where it is known to work. Raises `InputError` for other files, and as
    `self_test_numbers` and `write_contract`.
    """
    check_recordable(path)
    write_contract(path, estimator.contract.replace(self_test=self_test_numbers(estimator)))


def check_recordable(path: Path) -> None:
    """Raise `InputError` for a file that takes no self-test."""
    if path.suffix not in (".onnx", ".tflite", ".mlpackage"):
        raise InputError(
            f"A self-test is recorded in .onnx, .tflite and .mlpackage files, got {path.name!r}. Convert the "
            "checkpoint first: every file has answers of its own."
        )


def with_self_test(result: ExportResult) -> ExportResult:
    """Record the self-test of a file that was just converted: in the runtime it is made for, a CoreML package elsewhere
    than on macOS in the executor of this project.
    """
    with _open(result.path) as estimator:
        record_self_test(result.path, estimator)
    return dataclasses.replace(result, contract=read_contract(result.path), size_bytes=size_on_disk(result.path))


def _open(path: Path) -> PoseEstimator:
    if path.suffix == ".mlpackage" and sys.platform != "darwin":
        from probpose_convert.mil_executor import open_simulated

        return open_simulated(path)
    return PoseEstimator.open(path)
