"""Ranges narrowed by what that does to the outputs, on a tiny convolutional head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import InputError
from probpose_models import ProbPoseS, checkpoint_contract
from probpose_models.torch_runtime import TorchRuntime

pytest.importorskip("torchao", reason="needs the extra convert")

from probpose_quant import RECIPES, find_ranges
from probpose_quant.drift import output_drift
from probpose_quant.graph_runtime import GraphRuntime
from probpose_quant.narrow_ranges import narrow_ranges, recipe_ranges
from probpose_quant.sensitivity import export_raw_graph, rounded_graph

STATIC = RECIPES["int8-static"]


@pytest.fixture(scope="module")
def crops(noisy_crops: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return noisy_crops(8)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """The value before the last layer has one channel thirty times the others, which no output reads."""
    torch.manual_seed(0)
    network = ProbPoseS(channels=24, depth=1, heads=2, deconvolutions=(8, 8))
    nn.init.normal_(network.map_head.final.weight, std=2.0)
    with torch.no_grad():
        last = [module for module in network.map_head.modules() if isinstance(module, nn.BatchNorm2d)][-1]
        last.weight[0] *= 30
        network.map_head.final.weight[:, 0] = 0
    return network.eval()


@pytest.fixture(scope="module")
def contract(model: Any) -> ModelContract:
    return checkpoint_contract(model)


def test_only_ranges_that_help_are_narrowed(
    model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]
) -> None:
    ranges = find_ranges(model, crops, STATIC)
    calls: list[tuple[int, int]] = []
    narrowed = narrow_ranges(model, contract, crops[:4], STATIC, ranges, progress=lambda *done: calls.append(done))
    assert narrowed.keys() == ranges.keys()
    assert calls[-1][0] == calls[-1][1] > 0
    shares = {name: narrowed[name][1] / ranges[name][1] for name in ranges}
    assert max(shares.values()) == pytest.approx(1, rel=1e-4)
    assert all(share == pytest.approx(1, rel=1e-4) for name, share in shares.items() if name.startswith("backbone"))
    assert min(share for name, share in shares.items() if name.startswith("map_head")) < 0.2
    reference = TorchRuntime(model).run(crops[4:])
    graph = export_raw_graph(model, contract)
    before, after = (
        output_drift(reference, GraphRuntime(rounded_graph(graph, STATIC, each)).run(crops[4:]), contract)
        for each in (ranges, narrowed)
    )
    assert after.size < before.size
    assert after.map_overlap > before.map_overlap
    for name, (low, high) in narrowed.items():
        if low < 0 < high:
            assert high / low == pytest.approx(ranges[name][1] / ranges[name][0], rel=0.05)


def test_a_recipe_says_whether_ranges_are_narrowed(
    model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]
) -> None:
    plain = recipe_ranges(model, contract, crops, STATIC)
    assert plain == find_ranges(model, crops, STATIC)
    narrowed = recipe_ranges(model, contract, crops, dataclasses.replace(STATIC, narrowed=True))
    assert any(narrowed[name][1] < 0.9 * plain[name][1] for name in plain)
    with pytest.raises(InputError, match=r"Ranges need at least 8 example crops, got 3"):
        recipe_ranges(model, contract, crops[:3], dataclasses.replace(STATIC, narrowed=True))
