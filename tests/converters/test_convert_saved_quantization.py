"""One saved quantization, three formats: the same numbers, the same blocks in float; and Ex-AP held with blocks."""

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

from probpose_convert import ExportConfig, export_coreml, export_onnx, export_tflite
from probpose_convert.export_config import resolve_recipe
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import ConversionError, InputError
from probpose_edge.runtimes.base import RawOutputs
from probpose_edge.runtimes.litert import LiteRTRuntime
from probpose_edge.runtimes.onnx import OnnxRuntime
from probpose_eval.synth.set import write_synth_set
from probpose_models import ProbPoseS, checkpoint_contract
from probpose_models.torch_runtime import TorchRuntime

pytest.importorskip("onnx", reason="needs the extra convert")
pytest.importorskip("torchao", reason="needs the extra convert")
pytest.importorskip("coremltools", reason="needs the extra convert")
pytest.importorskip("litert_torch", reason="needs the extra convert")

from probpose_convert import keep_accuracy as gate
from probpose_convert.mil_executor import MilRuntime
from probpose_convert.tflite_carry import carry_ranges
from probpose_convert.tflite_graph import float_tflite
from probpose_quant import RECIPES, Quantization, find_ranges
from probpose_quant.graph_runtime import GraphRuntime
from probpose_quant.sensitivity import export_raw_graph, rounded_graph

FLOAT_BLOCK = "backbone.blocks.0"
EXPORTS = {
    "onnx": (export_onnx, "onnx", OnnxRuntime),
    "tflite": (export_tflite, "tflite", LiteRTRuntime),
    "coreml": (export_coreml, "mlpackage", MilRuntime),
}


@pytest.fixture(scope="module")
def crops(noisy_crops: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return noisy_crops(10)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    network = ProbPoseS(channels=24, depth=1, heads=2, deconvolutions=(8, 8))
    nn.init.normal_(network.map_head.final.weight, std=0.5)
    return network.eval()


@pytest.fixture(scope="module")
def contract(model: Any) -> ModelContract:
    return checkpoint_contract(model).replace(checkpoint_sha256="ab" * 32)


@pytest.fixture(scope="module")
def quantization(model: nn.Module, crops: NDArray[np.uint8]) -> Quantization:
    """Ranges that no calibration would find, and a block in float."""
    ranges = {
        name: (0.7 * low, 0.7 * high) for name, (low, high) in find_ranges(model, crops, RECIPES["int8-static"]).items()
    }
    recipe = dataclasses.replace(RECIPES["int8-static"], name="mixed-qat", float_blocks=(FLOAT_BLOCK,))
    return Quantization(recipe=recipe, ranges=ranges, reasons={FLOAT_BLOCK: "asked for"})


@pytest.fixture(scope="module")
def simulated(
    model: nn.Module, contract: ModelContract, quantization: Quantization, crops: NDArray[np.uint8]
) -> RawOutputs:
    graph = rounded_graph(export_raw_graph(model, contract), quantization.recipe, quantization.ranges)
    return GraphRuntime(graph).run(crops[:3])


def relative_error(got: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)))


@pytest.mark.parametrize("form", EXPORTS)
def test_every_format_computes_what_was_simulated(
    form: str,
    model: nn.Module,
    contract: ModelContract,
    quantization: Quantization,
    crops: NDArray[np.uint8],
    simulated: RawOutputs,
    tmp_path: Path,
) -> None:
    export, suffix, runtime = EXPORTS[form]
    config = ExportConfig(
        out=tmp_path / f"m.{suffix}", precision="int8", recipe="mixed", parity_crops=crops[:3],
        quantization=quantization,
    )  # fmt: skip
    result = export(model, contract, config)
    assert result.recipe == result.contract.recipe == "mixed-qat"
    outputs = runtime(result.path).run(crops[:3])
    away = relative_error(TorchRuntime(model).run(crops[:3]).logits, simulated.logits)
    # The cut ranges are far from float; the file has them, up to roundings that fall the other way.
    assert relative_error(outputs.logits, simulated.logits) < 0.25 * away
    for name in ("presence", "visibility", "quality"):
        assert np.abs(getattr(outputs, name) - getattr(simulated, name)).max() < 0.02


def test_mixed_needs_blocks_to_keep(quantization: Quantization, crops: NDArray[np.uint8], tmp_path: Path) -> None:
    whole = dataclasses.replace(quantization, recipe=RECIPES["int8-static"], reasons={})
    for saved in (None, whole):
        config = ExportConfig(
            out=tmp_path / "m.onnx", precision="int8", recipe="mixed", parity_crops=crops[:3], calibration_crops=crops,
            quantization=saved,
        )  # fmt: skip
        with pytest.raises(InputError, match=r"blocks in float, and this checkpoint names none\. Name them with `prob"):
            resolve_recipe(config, default="int8-static", supported=("int8-static",), format="ONNX")


def test_tflite_tensors_are_recognised(model: nn.Module, quantization: Quantization, crops: NDArray[np.uint8]) -> None:
    content = float_tflite(model, (192, 256))
    carried = carry_ranges(content, model, quantization, crops[0])
    assert carried.carried > 15
    assert any("blocks" in name or "/0/" in name for name in carried.float_outputs)
    other = dataclasses.replace(quantization, ranges={**quantization.ranges})
    with pytest.raises(ConversionError, match=r"must have a range of the quantized network, but \d+ have none: "):
        torch.manual_seed(1)
        carry_ranges(content, ProbPoseS(channels=24, depth=1, heads=2, deconvolutions=(8, 8)).eval(), other, crops[0])


def test_blocks_go_back_to_float_until_ex_ap_holds(
    model: nn.Module,
    contract: ModelContract,
    quantization: Quantization,
    crops: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_synth_set(tmp_path / "set", count=2, seed=3, width=320, height=320, persons=(1, 1))
    check = f"{tmp_path / 'set' / 'annotations.json'}:{tmp_path / 'set' / 'images'}"
    figures = iter([0.50, 0.40, 0.45, 0.497])
    monkeypatch.setattr(gate, "evaluate", lambda *_, **__: {"Ex-AP": next(figures)})
    plain = dataclasses.replace(quantization, recipe=RECIPES["int8-static"], reasons={})
    kept = gate.keep_accuracy(model, contract, plain, check, 0.5, crops=crops[:2])
    assert kept.reference == 50
    assert kept.steps == pytest.approx((40, 45, 49.7))
    blocks = kept.quantization.recipe.float_blocks
    assert blocks == tuple(entry.block for entry in kept.sensitivity[:2])
    assert kept.quantization.recipe.name == "mixed"
    assert "with 0 blocks in float Ex-AP was 40.00, 10.00 below full precision" in kept.quantization.reasons[blocks[0]]
    assert "with 1 blocks in float Ex-AP was 45.00" in kept.quantization.reasons[blocks[1]]
    figures = iter([0.50, 0.499])
    untouched = gate.keep_accuracy(model, contract, plain, check, 0.5, crops=crops[:2])
    assert untouched.quantization == plain
    assert untouched.sensitivity == ()
    with pytest.raises(InputError, match=r"is written annotations\.json:images/, got 'x'"):
        gate.keep_accuracy(model, contract, plain, "x", 0.5, crops=crops[:2])
