"""The parity check, on runtimes whose answers are known."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probpose_convert import check_parity, measure_parity
from probpose_convert.export_result import Parity
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import ConversionError
from probpose_edge.runtimes.base import RawOutputs
from probpose_models.checkpoint import checkpoint_contract
from probpose_models.outputs import PoseOutputs
from probpose_models.torch_runtime import TorchRuntime

CROPS = np.random.default_rng(0).integers(0, 256, (3, 32, 24, 3)).astype(np.uint8)


class Peaks(nn.Module):
    """A hill per keypoint, somewhere inside the map; scalars from the colours of the crop."""

    name, input_wh, heatmap_wh, temperature, keypoints = "peaks", (24, 32), (12, 16), 0.5, 17
    window_ratio, presence_head = 1.0, True

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> PoseOutputs:
        rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(12.0), indexing="ij")
        center = torch.arange(17.0)[:, None, None]
        hills = -0.1 * ((rows - 3 - center % 10) ** 2 + (columns - 3 - center % 6) ** 2) * self.scale
        scalar = x.mean((1, 2, 3))[:, None] + torch.linspace(-1, 1, 17)
        return PoseOutputs(hills.repeat(len(x), 1, 1, 1), scalar, scalar, scalar)


class Altered:
    """A runtime that answers as the network does, except for a change."""

    name, provenance = "altered", "measured"

    def __init__(self, model: nn.Module, **changes: Any) -> None:
        self._runtime, self._changes = TorchRuntime(model), changes

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        outputs = self._runtime.run(crops)
        return dataclasses.replace(
            outputs, **{name: change(getattr(outputs, name)) for name, change in self._changes.items()}
        )

    def close(self) -> None:
        """Nothing to release."""


@pytest.fixture
def model() -> Any:
    return Peaks()


@pytest.fixture
def contract(model: Any) -> ModelContract:
    return checkpoint_contract(model)


def test_equal_outputs(model: Any, contract: ModelContract) -> None:
    parity = measure_parity(Altered(model), model, contract, CROPS)
    assert parity == Parity(
        crops=3,
        logits_max_abs=0,
        logits_relative=0,
        map_overlap=pytest.approx(1, abs=1e-6),
        keypoint_shift_cell=0,
        presence_max_abs=0,
        visibility_max_abs=0,
        quality_max_abs=0,
        probability_mean_abs=0,
    )
    check_parity(parity, "fp32")


def test_maps_moved_by_one_cell(model: Any, contract: ModelContract) -> None:
    parity = measure_parity(Altered(model, logits=lambda x: np.roll(x, 1, axis=3)), model, contract, CROPS)
    assert parity.keypoint_shift_cell == pytest.approx(1, abs=0.02)
    assert 0.3 < parity.map_overlap < 0.9
    assert parity.presence_max_abs == 0
    with pytest.raises(ConversionError, match=r"on 3 crops it is off: logits_relative 0\.\d+ \(at most 0\.06\), keyp"):
        check_parity(parity, "fp16")


def test_each_figure_is_of_its_own_output(model: Any, contract: ModelContract) -> None:
    logits = TorchRuntime(model).run(CROPS).logits
    altered = Altered(
        model,
        logits=lambda x: x * 1.25,
        presence=lambda x: x + np.float32(0.1),
        visibility=lambda x: x - np.float32(0.2),
        quality=lambda x: np.where(np.arange(17) == 3, x + np.float32(0.3), x),
    )
    parity = measure_parity(altered, model, contract, CROPS)
    assert parity.logits_relative == pytest.approx(0.25, rel=1e-6)
    assert parity.logits_max_abs == pytest.approx(0.25 * np.abs(logits).max())
    assert parity.presence_max_abs == pytest.approx(0.1, rel=1e-5)
    assert parity.visibility_max_abs == pytest.approx(0.2, rel=1e-5)
    assert parity.quality_max_abs == pytest.approx(0.3, rel=1e-5)
    assert parity.probability_mean_abs == pytest.approx((0.1 + 0.2 + 0.3 / 17) / 3, rel=1e-5)


def test_a_network_of_zeros(contract: ModelContract) -> None:
    model = Peaks()
    nn.init.zeros_(model.scale)
    assert measure_parity(Altered(model), model, contract, CROPS).logits_relative == 0
    off = measure_parity(Altered(model, logits=lambda x: x + np.float32(1)), model, contract, CROPS)
    assert off.logits_relative == float("inf")
    with pytest.raises(ConversionError, match="logits_relative inf"):
        check_parity(off, "int8")


@pytest.mark.parametrize("name", ["logits", "presence", "visibility", "quality"])
def test_outputs_that_are_not_finite(name: str, model: Any, contract: ModelContract) -> None:
    altered = Altered(model, **{name: lambda x: np.where(x == x.max(), np.float32("nan"), x)})
    with pytest.raises(ConversionError, match=rf"must give finite {name}, but gives NaN or infinity in altered"):
        measure_parity(altered, model, contract, CROPS)


def test_outputs_of_another_shape(model: Any, contract: ModelContract) -> None:
    altered = Altered(model, presence=lambda x: x[:, :5])
    with pytest.raises(ConversionError, match=r"presence of shape \(3, 17\), but gives \(3, 5\) in altered"):
        measure_parity(altered, model, contract, CROPS)


def test_nan_is_over_every_bound(model: Any, contract: ModelContract) -> None:
    parity = measure_parity(Altered(model), model, contract, CROPS)
    with pytest.raises(ConversionError, match="keypoint_shift_cell nan"):
        check_parity(dataclasses.replace(parity, keypoint_shift_cell=float("nan")), "int8")
