"""Conversions that fail say where in the network, by how much, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probpose_convert import ExportConfig, export_coreml, export_onnx, export_tflite
from probpose_convert.explain_drift import explain_drift
from probpose_convert.explain_operator import operator_place
from probpose_convert.parity import measure_parity
from probpose_edge.exceptions import ConversionError
from probpose_models.checkpoint import checkpoint_contract
from probpose_models.layers import conv_bn_relu
from probpose_models.outputs import PoseOutputs

for module in ("onnx", "torchao", "coremltools", "litert_torch"):
    pytest.importorskip(module, reason="needs the extra convert")

CROPS = np.random.default_rng(0).integers(0, 256, (9, 4, 3, 3)).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
EXPORTERS = {
    "ONNX": (export_onnx, ".onnx"),
    "TFLite": (export_tflite, ".tflite"),
    "CoreML": (export_coreml, ".mlpackage"),
}


class Strange(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "bessel":
            return x + torch.special.bessel_j0(x)
        if self.kind == "branch" and bool(x.sum() > 0):
            return x * 2
        return x


class Network(nn.Module):
    """Three blocks, and one in which something may be wrong."""

    name, input_wh, heatmap_wh, temperature, keypoints = "net", (24, 32), (12, 16), 0.5, 17
    window_ratio, presence_head = 1.0, True

    def __init__(self, kind: str = "") -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 16, 3)
        self.middle = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), Strange(kind), nn.Conv2d(16, 16, 1), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.final = nn.Conv2d(16, 17, 1)

    def forward(self, x: Tensor) -> PoseOutputs:
        logits = self.final(self.pool(self.middle(self.stem(x))))
        return PoseOutputs(logits, *(logits.amax((2, 3)),) * 3)


def network(kind: str = "") -> Any:
    torch.manual_seed(0)
    return Network(kind).eval()


def config(out: Path, precision: str, **changes: Any) -> ExportConfig:
    return ExportConfig(
        **{"out": out, "precision": precision, "calibration_crops": CROPS, "parity_crops": CROPS[:4]} | changes
    )


def spoiled() -> Any:
    """One output channel of a middle layer is 3,000 times as large as the others; the next layer makes up for it."""
    made = network()
    with torch.no_grad():
        made.middle[0].weight[3] *= 3000
        made.middle[0].bias[3] *= 3000
        made.middle[2].weight[:, 3] /= 3000
    return made


@pytest.mark.parametrize("format", EXPORTERS)
def test_an_operator_that_a_format_lacks(format: str, tmp_path: Path) -> None:
    export, suffix = EXPORTERS[format]
    model = network("bessel")
    with pytest.raises(ConversionError) as caught:
        export(model, checkpoint_contract(model), config(tmp_path / f"a{suffix}", "fp32"))
    text = str(caught.value)
    assert f"operators that {format} has, but bessel_j0 in middle.1 (Strange) could not be translated" in text
    assert "Write that part of the network with other operators, or choose another format." in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("format", "precision"), [("ONNX", "int8"), ("CoreML", "int8"), ("TFLite", "fp32")])
def test_what_torch_cannot_record(format: str, precision: str, tmp_path: Path) -> None:
    export, suffix = EXPORTERS[format]
    model = network("branch")
    with pytest.raises(ConversionError, match=r"but what middle\.1 \(Strange\) does could not be translated"):
        export(model, checkpoint_contract(model), config(tmp_path / f"a{suffix}", precision))
    assert not list(tmp_path.iterdir())


def test_an_error_that_names_nothing() -> None:
    assert operator_place(network(), (24, 32), RuntimeError("out of memory")) == ""


@pytest.mark.parametrize("format", EXPORTERS)
def test_the_block_that_int8_ruins(format: str, tmp_path: Path) -> None:
    export, suffix = EXPORTERS[format]
    model = spoiled()
    with pytest.raises(ConversionError) as caught:
        export(model, checkpoint_contract(model), config(tmp_path / f"a{suffix}", "int8", recipe="int8-static"))
    text = str(caught.value)
    assert "A int8 file must follow the network it came from" in text
    assert "logits_relative" in text
    assert "the block middle moves the outputs most (off by " in text
    assert "`probpose-edge quantize CHECKPOINT --float-block middle`, then convert what that writes" in text
    assert "calibration crops (--calib)" in text
    assert not list(tmp_path.iterdir())


def test_values_beyond_float16(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model.middle[0].weight *= 1e7
        model.middle[2].weight *= 1e-7
    with pytest.raises(ConversionError) as caught:
        export_onnx(model, checkpoint_contract(model), config(tmp_path / "a.onnx", "fp16"))
    text = str(caught.value)
    assert "must give finite logits" in text
    assert "the block middle moves the outputs most (NaN or infinity" in text
    assert "in it the Conv2d middle.0. Its values are too large or too fine for float16: use fp32" in text


def test_small_weights_and_files_that_are_wrong_elsewhere(tmp_path: Path) -> None:
    model, contract = network(), checkpoint_contract(network())
    settings = config(tmp_path / "a.onnx", "int8")
    assert "the translation itself is at fault: report this" in explain_drift(
        model, contract, settings, "fp32", measure_parity, None
    )
    text = explain_drift(model, contract, settings, "int8-weights", measure_parity, None)
    assert "--float-block" in text
    assert "with --precision int8; or use fp16" in text
    near = measure_parity_of_a_broken_file(model, contract)
    text = explain_drift(model, contract, settings, "int8-weights", measure_parity, near)
    assert "Rounded alone, no block explains that (the worst, " in text


def measure_parity_of_a_broken_file(model: Any, contract: Any) -> Any:
    from probpose_models.torch_runtime import TorchRuntime

    other = network()
    nn.init.normal_(other.final.weight)
    return measure_parity(TorchRuntime(other), model, contract, CROPS[:2])
