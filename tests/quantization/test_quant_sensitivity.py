"""Blocks: their names, what quantizing one alone does, and what stays in float."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from probpose_edge.exceptions import InputError
from probpose_models import ProbPoseS, build_model, checkpoint_contract
from probpose_models.torch_runtime import TorchRuntime

pytest.importorskip("torchao", reason="needs the extra convert")

from probpose_quant import RECIPES, find_ranges, quantize_static
from probpose_quant.blocks import block_names, check_blocks
from probpose_quant.drift import output_drift
from probpose_quant.graph_runtime import GraphRuntime
from probpose_quant.sensitivity import block_sensitivity, export_raw_graph, rounded_graph

STATIC = RECIPES["int8-static"]
BLOCKS = (
    "backbone.patch_embed", "backbone.pos_embed", "backbone.blocks.0", "backbone.blocks.1", "backbone.norm",
    "map_head.deconvolutions", "map_head.final", "presence_head", "visibility_head", "quality_head",
)  # fmt: skip


@pytest.fixture(scope="module")
def crops(noisy_crops: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return noisy_crops(10)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Two blocks; the second multiplies one channel by so much that eight bits cannot serve the others."""
    torch.manual_seed(0)
    network = ProbPoseS(channels=24, depth=2, heads=2, deconvolutions=(8, 8))
    nn.init.normal_(network.map_head.final.weight, std=2.0)
    with torch.no_grad():
        network.backbone.blocks[1].mlp.fc1.bias[0] = 200.0
        network.backbone.blocks[1].mlp.fc2.weight[:, 0] = 0.0
    return network.eval()


def test_blocks_of_both_networks(model: nn.Module) -> None:
    assert set(block_names(model)) == set(BLOCKS) - {"backbone.pos_embed"}
    names = block_names(build_model("probpose-m"))
    assert len([name for name in names if name.startswith("backbone.features.")]) == 19
    assert {"map_head.fuse4", "map_head.final", "presence_head", "quality_head"} <= set(names)
    check_blocks(model, ("backbone.blocks.1",))
    with pytest.raises(InputError, match=r"only blocks of the network in float, and it has no blocks\.1, head\. Its"):
        check_blocks(model, ("blocks.1", "backbone.blocks.0", "head"))


def test_the_worst_block_comes_first_and_helps_most(model: Any, crops: NDArray[np.uint8]) -> None:
    contract = checkpoint_contract(model)
    ranges = find_ranges(model, crops, dataclasses.replace(STATIC, observer="minmax"))
    calls: list[tuple[int, int]] = []
    drifts = block_sensitivity(model, contract, crops[:4], STATIC, ranges, progress=lambda *done: calls.append(done))
    assert drifts[0].block == "backbone.blocks.1"
    assert [entry.drift.size for entry in drifts] == sorted((entry.drift.size for entry in drifts), reverse=True)
    assert calls[-1] == (len(block_names(model)), len(block_names(model)))
    reference = TorchRuntime(model).run(crops[:4])
    graph = export_raw_graph(model, contract)

    def drift_with(*blocks: str) -> float:
        recipe = dataclasses.replace(STATIC, float_blocks=blocks)
        outputs = GraphRuntime(rounded_graph(graph, recipe, ranges)).run(crops[:4])
        return output_drift(reference, outputs, contract).size

    assert drift_with(drifts[0].block) < 0.7 * drift_with()
    assert drift_with(*block_names(model)) < 1e-3


def test_a_float_block_has_float_weights_in_the_file(model: nn.Module, crops: NDArray[np.uint8]) -> None:
    recipe = dataclasses.replace(STATIC, float_blocks=("backbone.blocks.1",))
    graph = quantize_static(model, crops[:8], recipe, int32_bias=True)
    kinds = {"blocks_0": [], "blocks_1": []}
    for node in graph.graph.nodes:
        if str(node.target) == "aten.linear.default":
            block = next(name for name in kinds if name in str(node.meta["nn_module_stack"]).replace(".", "_"))
            kinds[block].append("dequantize" in str(node.args[1].target))
    assert kinds == {"blocks_0": [True] * 4, "blocks_1": [False] * 4}
    with pytest.raises(InputError, match=r"it has no nothing\. Its blocks: backbone\.patch_embed"):
        quantize_static(model, crops[:8], dataclasses.replace(STATIC, float_blocks=("nothing",)), int32_bias=True)


def test_ranges_that_do_not_cover_the_network(model: nn.Module, crops: NDArray[np.uint8]) -> None:
    ranges = find_ranges(model, crops, STATIC)
    missing = next(name for name in ranges if ":relu" in name)
    del ranges[missing]
    with pytest.raises(InputError, match=rf"must cover every quantized value .* have none for {missing}\. Quantize"):
        quantize_static(model, crops, STATIC, int32_bias=True, ranges=ranges)
    with pytest.raises(InputError, match=r"Drift is measured on probability maps, and probpose-s gives plain heatmaps"):
        outputs = TorchRuntime(model).run(crops[:1])
        contract = checkpoint_contract(model)  # type: ignore[arg-type]
        output_drift(outputs, outputs, contract.replace(map_kind="heatmap", decode_kernel="argmax"))


@torch.no_grad()
def test_biases_are_rounded_as_files_store_them(model: nn.Module, crops: NDArray[np.uint8]) -> None:
    ranges = find_ranges(model, crops, STATIC)
    raw = export_raw_graph(model, checkpoint_contract(model))
    before = dict(raw.named_parameters())
    rounded = dict(rounded_graph(raw, STATIC, ranges).named_parameters())
    moved = {name for name in before if name.endswith("bias") and not torch.equal(before[name], rounded[name])}
    assert "model.map_head.final.bias" in moved or any("mlp.fc1.bias" in name for name in moved)
    assert not any("norm" in name for name in moved)
    for name in moved:
        assert float((before[name] - rounded[name]).abs().max()) < 0.01 * float(before[name].abs().max() + 0.1)
    stored = quantize_static(model, crops[:1], STATIC, int32_bias=True, ranges=ranges)
    expected = stored(torch.from_numpy(crops[:2]))[0].numpy()
    got = GraphRuntime(rounded_graph(raw, STATIC, ranges)).run(crops[:2]).logits
    assert float(np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2))) < 0.03
