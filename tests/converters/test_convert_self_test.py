"""Converted files carry the numbers of their self-test, and doctor's comparison finds them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra convert")
pytest.importorskip("onnx", reason="needs the extra convert")
pytest.importorskip("coremltools", reason="needs the extra convert")

import torch
from torch import nn

from probpose_convert.convert_all import convert_network
from probpose_convert.export_result import ExportResult
from probpose_convert.mil_executor import open_simulated
from probpose_convert.record_self_test import check_recordable, record_self_test
from probpose_edge import InputError, PoseEstimator, read_contract
from probpose_edge.contract.self_test import recorded_numbers, run_self_test
from probpose_models.checkpoint import checkpoint_contract
from probpose_models.layers import conv_bn_relu
from probpose_models.outputs import PoseOutputs


class Small(nn.Module):
    """A few convolutions over 24 x 32 pixels."""

    input_wh, heatmap_wh, keypoints = (24, 32), (12, 16), 17
    name, temperature, window_ratio, presence_head = "small", 0.5, 1.0, "scalars"

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn_relu(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 17, 1))
        self.scalars = nn.ModuleList(nn.Conv2d(17, 17, (16, 12)) for _ in range(3))

    def forward(self, x: torch.Tensor) -> PoseOutputs:
        maps = self.stem(x)
        return PoseOutputs(maps, *(head(maps).flatten(1) for head in self.scalars))


@pytest.mark.parametrize("form", ["onnx", "coreml"])
def test_converted_files_record_their_answers(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = Small().eval()
    contract = checkpoint_contract(model)
    crops = np.random.default_rng(0).integers(0, 256, (8, 32, 24, 3)).astype(np.uint8)
    (result,) = convert_network(
        model, contract, [(form, "fp32")], tmp_path, calibration_crops=crops, parity_crops=crops
    )
    assert isinstance(result, ExportResult)
    assert result.contract == read_contract(result.path)
    assert np.shape(result.contract.self_test["keypoints"]) == (2, 17, 2)
    simulated = form == "coreml" and sys.platform != "darwin"
    with open_simulated(result.path) if simulated else PoseEstimator.open(result.path) as estimator:
        found = run_self_test(estimator, recorded_numbers(result.path, estimator))
        # Recorded again it is the same.
        record_self_test(result.path, estimator)
    assert (found.passed, found.moved) == (True, pytest.approx(0, abs=1e-5))
    assert read_contract(result.path) == result.contract


def test_checkpoints_are_refused() -> None:
    with pytest.raises(InputError, match=r"recorded in \.onnx, \.tflite and \.mlpackage files, got 'a\.safetensors'\."):
        check_recordable(Path("a.safetensors"))
