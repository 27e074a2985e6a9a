"""Bias correction: mean outputs of quantized layers become those in float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from probpose_models import ProbPoseS, checkpoint_contract
from probpose_models.torch_runtime import TorchRuntime

pytest.importorskip("torchao", reason="needs the extra convert")

from probpose_quant import RECIPES, find_ranges
from probpose_quant.correct_biases import correct_biases
from probpose_quant.graph_runtime import GraphRuntime
from probpose_quant.sensitivity import export_raw_graph, rounded_graph

STATIC = RECIPES["int8-static"]


def test_mean_outputs_come_back(noisy_crops: Callable[..., NDArray[np.uint8]]) -> None:
    crops = noisy_crops(8)
    torch.manual_seed(0)
    model: Any = ProbPoseS(channels=24, depth=1, heads=2, deconvolutions=(8, 8))
    nn.init.normal_(model.map_head.final.weight, std=0.5)
    model.eval()
    contract = checkpoint_contract(model)
    # Ranges that cut off the upper half of everything shift every mean.
    ranges = {name: (low, 0.5 * high) for name, (low, high) in find_ranges(model, crops, STATIC).items()}

    def means(network: nn.Module) -> np.ndarray[Any, Any]:
        graph = rounded_graph(export_raw_graph(network, contract), STATIC, ranges)
        return GraphRuntime(graph).run(crops).logits.mean((0, 2, 3))

    before = {name: value.clone() for name, value in model.state_dict().items()}
    corrected = correct_biases(model, contract, crops, STATIC, ranges)
    wanted = TorchRuntime(model).run(crops).logits.mean((0, 2, 3))
    assert np.abs(means(corrected) - wanted).max() < 0.05 * np.abs(means(model) - wanted).max()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    changed = [name for name, value in corrected.state_dict().items() if not torch.equal(value, before[name])]
    assert changed
    assert all(name.endswith(".bias") for name in changed)
