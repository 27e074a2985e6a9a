"""Networks with two maps and plain heatmap networks, in every format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probpose_convert import ExportConfig, ExportResult, Parity, check_parity, measure_parity
from probpose_convert.convert_all import EXPORTERS, SUFFIXES
from probpose_convert.export_config import check_model
from probpose_convert.mil_executor import MilRuntime
from probpose_edge import PoseEstimator, RawOutputs, read_contract
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import CheckpointError, ConversionError
from probpose_edge.runtimes.open_runtime import open_runtime
from probpose_models.checkpoint import checkpoint_contract
from probpose_models.layers import conv_bn_relu
from probpose_models.outputs import PoseOutputs
from probpose_models.torch_runtime import TorchRuntime

LIBRARIES = {"onnx": ("onnx", "onnxruntime", "torchao"), "tflite": ("litert_torch",), "coreml": ("coremltools",)}


class Small(nn.Module):
    """A few convolutions over 24×32 pixels; subclasses say what they give."""

    input_wh, heatmap_wh, keypoints = (24, 32), (12, 16), 17

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn_relu(3, 8, 3), nn.MaxPool2d(2), conv_bn_relu(8, 16, 3))
        self.maps = nn.ModuleList(nn.Conv2d(16, 17, 1) for _ in range(2))
        self.scalars = nn.ModuleList(nn.Conv2d(16, 17, (16, 12)) for _ in range(3))


class TwoMaps(Small):
    name, temperature, window_ratio, presence_head = "small-dh", 0.5, 1.25, True

    def forward(self, x: Tensor) -> PoseOutputs:
        features = self.stem(x)
        large, expert = (head(features) for head in self.maps)
        return PoseOutputs(large, *(head(features).flatten(1) for head in self.scalars), expert_logits=expert)


class Heatmaps(Small):
    name, temperature, window_ratio, presence_head = "small-heatmap", 1.0, 1.0, None

    def forward(self, x: Tensor) -> PoseOutputs:
        return PoseOutputs(self.maps[0](self.stem(x)))


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    """(6, 32, 24, 3): blocks of colour."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 6, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="module", params=[TwoMaps, Heatmaps])
def model(request: pytest.FixtureRequest, crops: NDArray[np.uint8]) -> Any:
    torch.manual_seed(0)
    network = request.param()
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 32, 24))
    return network.eval()


@pytest.fixture(scope="module")
def contract(model: Any) -> ModelContract:
    return checkpoint_contract(model)


@pytest.fixture(scope="module")
def convert(
    model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], ExportResult]:
    folder = tmp_path_factory.mktemp("files")

    def do(form: str, precision: str) -> ExportResult:
        for library in LIBRARIES[form]:
            pytest.importorskip(library, reason="needs the extra convert")
        out = folder / f"{form}-{precision}{SUFFIXES[form]}"
        config = ExportConfig(out=out, precision=precision, parity_crops=crops[:3], calibration_crops=crops)
        return EXPORTERS[form](model, contract, config)

    return do


@pytest.mark.parametrize(
    "precision", [pytest.param("fp32", marks=pytest.mark.slow), pytest.param("fp16", marks=pytest.mark.slow), "int8"]
)
@pytest.mark.parametrize("form", ["onnx", "tflite", "coreml"])
def test_every_format_gives_what_the_contract_says(
    form: str,
    precision: str,
    convert: Callable[[str, str], ExportResult],
    model: Any,
    contract: ModelContract,
    crops: NDArray[np.uint8],
) -> None:
    result = convert(form, precision)
    written = read_contract(result.path)
    assert (written.window_ratio, written.map_kind) == (contract.window_ratio, contract.map_kind)
    assert written.output_names == contract.output_names
    runtime = MilRuntime(result.path) if form == "coreml" else open_runtime(result.path)
    raw, wanted = runtime.run(crops[:2]), TorchRuntime(model).run(crops[:2])
    assert tuple(raw.named()) == contract.output_names
    for name, values in wanted.named().items():
        assert raw.named()[name].shape == values.shape
        assert np.sqrt(np.mean((raw.named()[name] - values) ** 2)) < 0.1 * np.sqrt(np.mean(values**2)), name
    two_maps = contract.window_ratio > 1
    expert = (
        result.parity.expert_logits_relative,
        result.parity.expert_map_overlap,
        result.parity.expert_keypoint_shift_cell,
    )
    assert all((figure is not None) == two_maps for figure in expert)
    if two_maps:
        assert raw.expert_logits is not None
        assert np.abs(raw.expert_logits - raw.logits).max() > 0.1
    windows = np.array([[12.0, 16.0, 24.0, 32.0]] * 2)
    poses = PoseEstimator(runtime, written).predict_crops(crops[:2], windows)
    np.testing.assert_allclose(poses.windows[:, 2:], windows[:, 2:] * contract.window_ratio)
    assert np.isfinite(poses.keypoints).all()


class Altered:
    """A runtime that answers as the network does, except for a change."""

    name, provenance = "altered", "measured"

    def __init__(self, model: nn.Module, **changes: Any) -> None:
        self._runtime, self._changes = TorchRuntime(model), changes

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        return dataclasses.replace(self._runtime.run(crops), **self._changes)

    def close(self) -> None:
        """Nothing to release."""


def test_parity_sees_each_map(model: Any, contract: ModelContract, crops: NDArray[np.uint8]) -> None:
    same = measure_parity(Altered(model), model, contract, crops)
    check_parity(same, "fp32")
    assert same.map_overlap == pytest.approx(1, abs=1e-6)
    reference = TorchRuntime(model).run(crops)
    name = contract.output_names[-1]
    factor = 3.0 if name == "expert_logits" else 1.5
    changed = Altered(model, **{name: reference.named()[name] * np.float32(factor)})
    off = measure_parity(changed, model, contract, crops)
    if name == "expert_logits":
        assert off.expert_logits_relative == pytest.approx(2, rel=1e-5)
        assert (off.logits_relative, off.map_overlap) == (0, same.map_overlap)
        message = r"expert_logits_relative 2 \(at most 0\.4\)"
    else:
        peaks = np.clip(reference.logits.max(axis=(2, 3)), 0, 1)
        moved = np.clip(1.5 * reference.logits.max(axis=(2, 3)), 0, 1) - peaks
        for figure in (off.presence_max_abs, off.visibility_max_abs, off.quality_max_abs):
            assert figure == pytest.approx(moved.max(), abs=1e-6)
        assert off.probability_mean_abs == pytest.approx(moved.mean(), abs=1e-6)
        # 2 · 1 / (1 + 1.5) where anything is above zero.
        assert off.map_overlap == pytest.approx(np.where(peaks > 0, 0.8, 1).mean(), abs=1e-5)
        message = r"probability_mean_abs 0\.\d+ \(at most 0\.1\)"
    with pytest.raises(ConversionError, match=message):
        check_parity(off, "int8")


def test_a_file_that_lost_a_map(model: Any, contract: ModelContract, crops: NDArray[np.uint8]) -> None:
    if contract.window_ratio == 1:
        altered = Altered(model, expert_logits=TorchRuntime(model).run(crops).logits)
        message = "must give logits, but gives logits, expert_logits in altered"
    else:
        altered = Altered(model, expert_logits=None)
        message = "must give logits, presence, visibility, quality, expert_logits, but gives logits, presence"
    with pytest.raises(ConversionError, match=message):
        measure_parity(altered, model, contract, crops)


def test_nan_in_the_expert_figures_is_over_every_bound() -> None:
    figures = {field.name: 0.0 for field in dataclasses.fields(Parity) if field.name != "crops"}
    parity = Parity(crops=1, **{**figures, "expert_keypoint_shift_cell": float("nan")})
    with pytest.raises(ConversionError, match="expert_keypoint_shift_cell nan"):
        check_parity(parity, "int8")


def test_a_contract_of_another_network_is_refused(
    model: Any, contract: ModelContract, crops: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = ExportConfig(out=tmp_path / "a.onnx", precision="fp32", parity_crops=crops)
    check_model(model, contract, config)
    other = contract.replace(window_ratio=1.0, map_kind="probability", decode_kernel="published")
    with pytest.raises(CheckpointError, match=r"window_ratio 1, small-\w+ must give logits, presence, .* but the netw"):
        check_model(model, other, config)
