"""Quantization-aware training on a tiny transformer: order of the calls, learned ranges, resume, what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import CheckpointError, InputError, TrainingError
from probpose_models import ProbPoseS, checkpoint_contract, load_checkpoint
from probpose_models.deploy import Deployable
from probpose_models.torch_runtime import TorchRuntime

pytest.importorskip("torchao", reason="needs the extra convert")

from probpose_quant import RECIPES, quantize_static
from probpose_quant.frozen_norms import freeze_norms, thaw_norms
from probpose_quant.qat import QuantizationAwareTraining
from probpose_quant.qat_config import QatConfig
from probpose_quant.quantization import Quantization, read_quantization, save_quantized
from probpose_quant.ranges import find_ranges

STATIC = RECIPES["int8-static"]


@pytest.fixture(scope="module")
def crops(noisy_crops: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(12, 256, 192, 3): smooth colours and noise."""
    return noisy_crops(12)


@pytest.fixture(scope="module")
def model(crops: NDArray[np.uint8]) -> nn.Module:
    torch.manual_seed(0)
    network = ProbPoseS(channels=24, depth=2, heads=2, deconvolutions=(8, 8))
    nn.init.normal_(network.map_head.final.weight, std=0.5)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            Deployable(network)(torch.from_numpy(crops[:6]))
    return network.eval()


@pytest.fixture(scope="module")
def contract(model: Any) -> ModelContract:
    return checkpoint_contract(model).replace(checkpoint_sha256="ab" * 32)


def start(model: nn.Module, contract: ModelContract, **settings: Any) -> QuantizationAwareTraining:
    config = QatConfig(**{"steps": 6, "batch_size": 4, "learning_rate": 1e-3, **settings})
    return QuantizationAwareTraining(model, contract, STATIC, config)


def batch(crops: NDArray[np.uint8], step: int) -> torch.Tensor:
    return torch.from_numpy(np.roll(crops[:8], step, axis=0)[:4])


@pytest.fixture(scope="module")
def trained(model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]) -> QuantizationAwareTraining:
    """After six steps and a report."""
    run = start(model, contract)
    run.prepare(crops[:8])
    for step in range(6):
        run.step(batch(crops, step))
    run.report(crops[8:])
    return run


def relative_error(got: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)))


def test_frozen_norms_compute_the_same_and_go_back(model: nn.Module, crops: NDArray[np.uint8]) -> None:
    frozen = freeze_norms(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    a, b = (TorchRuntime(network).run(crops[:2]) for network in (model, frozen))
    for name, value in a.named().items():
        assert relative_error(b.named()[name], value) < 1e-4
    parameters = dict(frozen.named_parameters())
    with torch.no_grad():
        for value in parameters.values():
            value.mul_(1.1)
    c, d = (TorchRuntime(network).run(crops[:2]) for network in (frozen, thaw_norms(model, parameters)))
    for name, value in c.named().items():
        assert relative_error(d.named()[name], value) < 1e-4
    assert relative_error(c.logits, a.logits) > 0.01


def test_the_fake_quantized_network_is_the_quantized_one(
    model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]
) -> None:
    run = start(model, contract)
    run.prepare(crops[:8])
    ranges = find_ranges(model, crops[:8], STATIC)
    assert run.ranges.keys() <= ranges.keys()
    for name, limits in run.ranges.items():
        np.testing.assert_allclose(limits, ranges[name], rtol=1e-5, atol=1e-6)
    got = run.graph_runtime().run(crops[8:])
    graph = quantize_static(model, crops[:8], STATIC, int32_bias=False)
    with torch.no_grad():
        outputs = graph(torch.from_numpy(crops[8:]))
    for value, expected in zip(got.named().values(), outputs, strict=True):
        # Sums in another order now and then cross the border between two steps.
        assert relative_error(value, expected.numpy()) < 0.03


def test_training_moves_weights_and_ranges_towards_full_precision(
    trained: QuantizationAwareTraining, model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]
) -> None:
    first = start(model, contract, steps=12, range_rate=0.2)
    first.prepare(crops[:8])
    moved = [name for name, limits in trained.ranges.items() if not np.allclose(limits, first.ranges[name], rtol=1e-6)]
    assert len(moved) > len(first.ranges) / 2
    # Ranges four times too small cut most values off; training has to widen them again.
    with torch.no_grad():
        for name, value in first._graph.named_parameters():
            if name.endswith("log2_scale"):
                value.sub_(2)
    losses = [first.step(torch.from_numpy(crops[:4]))["teacher_map"] for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]
    # A range that began at zero, behind a ReLU, still does.
    for name, (low, _) in trained.ranges.items():
        if ":relu" in name:
            assert low == 0


def test_the_result_is_a_checkpoint_that_carries_its_ranges(
    trained: QuantizationAwareTraining, contract: ModelContract, crops: NDArray[np.uint8], tmp_path: Path
) -> None:
    expected = trained.graph_runtime().run(crops[8:])
    ranges = trained.ranges
    network, quantization = trained.finalize()
    assert quantization.ranges == ranges
    save_quantized(tmp_path / "q.safetensors", network, contract, quantization)
    loaded, _ = load_checkpoint(tmp_path / "q.safetensors")
    read = read_quantization(tmp_path / "q.safetensors")
    assert read == quantization
    graph = quantize_static(loaded, crops[:1], read.recipe, int32_bias=False, ranges=read.ranges)
    with torch.no_grad():
        outputs = graph(torch.from_numpy(crops[8:]))
    for value, wanted in zip(outputs, expected.named().values(), strict=True):
        assert relative_error(value.numpy(), wanted) < 0.03
    trained._last = "report"


def test_calls_out_of_order(model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]) -> None:
    run = start(model, contract)
    order = r"goes prepare, step, report, finalize, in this order, but "
    with pytest.raises(TrainingError, match=order + r"step was called first\. Call prepare"):
        run.step(batch(crops, 0))
    with pytest.raises(TrainingError, match=order + r"report was called first\. Call step"):
        run.report(crops)
    with pytest.raises(TrainingError, match=order + r"finalize was called first\. Call report before it"):
        run.finalize()
    run.prepare(crops[:8])
    with pytest.raises(TrainingError, match=order + r"prepare was called after prepare\. Call it on a new run"):
        run.prepare(crops[:8])
    with pytest.raises(TrainingError, match=order + r"finalize was called after prepare"):
        run.finalize()
    run.step(batch(crops, 0))
    with pytest.raises(TrainingError, match=order + r"finalize was called after step\. Call report before it"):
        run.finalize()


def test_a_resumed_run_is_the_uninterrupted_one(
    trained: QuantizationAwareTraining,
    model: nn.Module,
    contract: ModelContract,
    crops: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    run = start(model, contract)
    run.prepare(crops[:8])
    for step in range(3):
        run.step(batch(crops, step))
    torch.save(run.state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = start(model, contract)
    again.restore(state)
    assert again.steps_done == 3
    for step in range(3, 6):
        again.step(batch(crops, step))
    for name, limits in trained.ranges.items():
        np.testing.assert_allclose(again.ranges[name], limits, rtol=1e-6)
    other = QuantizationAwareTraining(model, contract, dataclasses.replace(STATIC, linear=False), run.config)
    with pytest.raises(TrainingError, match=r"resumed with the recipe it began with, .*linear=True.*linear=False"):
        other.restore(state)
    with pytest.raises(TrainingError, match=r"resumed with the settings it began with"):
        start(model, contract, steps=7).restore(state)
    with pytest.raises(TrainingError, match=r"resumed with the checkpoint it began with, abab"):
        start(model, contract.replace(checkpoint_sha256="cd" * 32)).restore(state)


def test_blocks_in_float_stay_as_they_are(model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]) -> None:
    recipe = dataclasses.replace(STATIC, float_blocks=("backbone.blocks.1", "map_head.final"))
    run = QuantizationAwareTraining(model, contract, recipe, QatConfig(steps=1))
    run.prepare(crops[:8])
    assert not any(name.startswith("backbone.blocks.1.attn:matmul") for name in run.ranges)
    assert any(name.startswith("backbone.blocks.0.attn:") for name in run.ranges)


def test_what_training_refuses(model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]) -> None:
    def run(**changes: Any) -> QuantizationAwareTraining:
        return QuantizationAwareTraining(
            model, contract, dataclasses.replace(STATIC, **changes), QatConfig(steps=1, batch_size=2)
        )

    with pytest.raises(InputError, match=r"it has no backbone\.blocks\.9\. Its blocks: backbone\.patch_embed, .*bl"):
        run(float_blocks=("backbone.blocks.9",))
    with pytest.raises(InputError, match=r"Ranges need at least 8 example crops, got 3\. Give a set with more"):
        run().prepare(crops[:3])
    with pytest.raises(InputError, match=r"every pixel of all 8 has the value 0: .* Give photographs of people"):
        run().prepare(np.zeros_like(crops[:8]))
    broken = load_broken(model)
    with pytest.raises(CheckpointError, match=r"The weights must be finite, but map_head\.final\.weight of probpose-s"):
        QuantizationAwareTraining(broken, contract, STATIC, QatConfig())
    with pytest.raises(InputError, match=r"steps must be at least 1, got 0\. Usual is 300"):
        QatConfig(steps=0)
    with pytest.raises(InputError, match=r"needs probability maps and presence, and probpose-s gives plain heatmaps"):
        QuantizationAwareTraining(
            model, contract.replace(map_kind="heatmap", decode_kernel="argmax"), STATIC, QatConfig()
        )


def load_broken(model: nn.Module) -> nn.Module:
    import copy

    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.map_head.final.weight[0, 0] = float("nan")
    return broken


def test_a_loss_that_is_not_finite(model: nn.Module, contract: ModelContract, crops: NDArray[np.uint8]) -> None:
    run = start(model, contract)
    run.prepare(crops[:8])
    with torch.no_grad():
        next(run._graph.parameters()).fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"must stay finite, but at step 1 they are"):
        run.step(batch(crops, 0))


def test_saved_quantizations_are_checked() -> None:
    with pytest.raises(CheckpointError, match=r"must be one that this version wrote, but reading it failed"):
        Quantization.from_json('{"recipe": {"name": "x"}}')
    with pytest.raises(InputError, match=r"from a smaller to a larger finite number, got 1\.0 to 1\.0 for a"):
        Quantization(recipe=STATIC, ranges={"a": (1.0, 1.0)})
    with pytest.raises(InputError, match=r"Every block that stays in float must have a reason"):
        Quantization(recipe=dataclasses.replace(STATIC, float_blocks=("x",)), ranges={})


@torch.no_grad()
@pytest.mark.parametrize("limits", [(0.0, 6.0), (-1.0, 3.0), (-4.0, 1.0)])
def test_a_learned_range_rounds_as_the_file_does(limits: tuple[float, float]) -> None:
    from probpose_quant.fixed_ranges import KnownRange, LearnedRange

    x = torch.linspace(-5, 7, 997)
    grid = {"dtype": torch.int8, "quant_min": -128, "quant_max": 127}
    scale, zero_point = (float(value) for value in KnownRange(*limits, **grid).calculate_qparams())
    expected = ((x / scale).round() + zero_point).clamp(-128, 127).sub(zero_point) * scale
    torch.testing.assert_close(LearnedRange(*limits, **grid)(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("limits", [(0.0, 6.0), (-3.0, 5.0)])
def test_the_gradient_of_a_learned_range(limits: tuple[float, float]) -> None:
    from probpose_quant.fixed_ranges import LearnedRange

    torch.manual_seed(0)
    module = LearnedRange(*limits, torch.int8, -128, 127)
    x = (torch.randn(999) * 4).requires_grad_()
    gradient = torch.randn(999)
    module(x).backward(gradient)
    scale, zero_point = float(module.log2_scale.detach().exp2()), float(module.zero_point)
    steps = (x.detach() / scale).round()
    inside = (steps + zero_point >= -128) & (steps + zero_point <= 127)
    torch.testing.assert_close(x.grad, gradient * inside)
    # Esser et al., eq. 3: the rounding inside of the grid, the nearer end of it outside.
    moved = torch.where(inside, steps - x.detach() / scale, (steps + zero_point).clamp(-128, 127) - zero_point)
    expected = float((gradient * moved).sum()) * (999 * 127) ** -0.5 * scale * float(np.log(2))
    assert float(module.log2_scale.grad) == pytest.approx(expected, rel=1e-3)
