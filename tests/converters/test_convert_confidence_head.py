"""A confidence head beside a network: the same answers in every format, and nothing else changed by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probpose_convert import ExportConfig
from probpose_convert.convert_all import EXPORTERS, SUFFIXES, convert_network
from probpose_convert.mil_executor import MilRuntime
from probpose_edge import PoseEstimator
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.runtimes.open_runtime import open_runtime
from probpose_models.checkpoint import checkpoint_contract
from probpose_models.confidence_head import ConfidenceHead
from probpose_models.deploy import Deployable, deployed_outputs
from probpose_models.layers import conv_bn_relu
from probpose_models.outputs import PoseOutputs
from probpose_models.torch_runtime import TorchRuntime
from probpose_quant.blocks import block_names

LIBRARIES = {"onnx": ("onnx", "onnxruntime", "torchao"), "tflite": ("litert_torch",), "coreml": ("coremltools",)}
PARITY = 1e-3
"""Asked of every format in full precision; the order of float32 sums makes 1e-6 of it."""


class Small(nn.Module):
    """A few convolutions over 24×32 pixels, with maps, scalars and a confidence head, or with heatmaps and the head."""

    input_wh, heatmap_wh, keypoints, window_ratio, name = (24, 32), (12, 16), 17, 1.0, "small"

    def __init__(self, *, scalars: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn_relu(3, 8, 3), nn.MaxPool2d(2), conv_bn_relu(8, 16, 3))
        self.final = nn.Conv2d(16, 17, 1)
        self.scalars = nn.ModuleList(nn.Conv2d(16, 17, (16, 12)) for _ in range(3 if scalars else 0))
        self.presence_head, self.temperature = self.scalars if scalars else None, 0.5 if scalars else 1.0
        self.confidence_head: Any = ConfidenceHead(16, 17, (16, 12), scalars=len(self.scalars), sharpness=2.0)

    def forward(self, x: Tensor) -> PoseOutputs:
        features = self.stem(x)
        logits, said = self.final(features), [head(features).flatten(1) for head in self.scalars]
        head = self.confidence_head
        return PoseOutputs(logits, *said, confidence=None if head is None else head(features, logits, said))


def network(*, scalars: bool = True) -> Small:
    torch.manual_seed(0)
    model = Small(scalars=scalars).eval()
    nn.init.normal_(model.final.weight, std=0.5)
    for layer in (model.confidence_head.layers.out, *model.confidence_head.layers.inputs):
        nn.init.normal_(layer.weight, std=0.5)
    return model


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (8, 32, 24, 3), dtype=np.uint8)


def config(path: Path, precision: str, crops: NDArray[np.uint8], recipe: str | None = None) -> ExportConfig:
    return ExportConfig(out=path, precision=precision, recipe=recipe, calibration_crops=crops, parity_crops=crops)


@pytest.mark.parametrize("scalars", [True, False])
@pytest.mark.parametrize("form", EXPORTERS)
def test_every_format_gives_what_the_head_gives(
    form: str, scalars: bool, crops: NDArray[np.uint8], tmp_path: Path
) -> None:
    for library in LIBRARIES[form]:
        pytest.importorskip(library, reason="needs the extra convert")
    model = network(scalars=scalars)
    contract = checkpoint_contract(model).replace(
        confidence_head=True, scores={"kind": "ccnet"}, checkpoint_sha256="ab" * 32
    )
    path = tmp_path / f"m{SUFFIXES[form]}"
    result = EXPORTERS[form](model, contract, config(path, "fp32", crops))
    assert result.parity.confidence_max_abs is not None
    assert result.parity.confidence_max_abs < PARITY
    runtime = MilRuntime(path) if form == "coreml" else open_runtime(path)
    written, expected = read_contract(path), TorchRuntime(model).run(crops)
    assert written.output_names[-1] == "confidence"
    windows = np.tile([12.0, 16.0, 24.0, 32.0], (len(crops), 1))
    poses = PoseEstimator(runtime, written).predict_crops(crops, windows)
    oks, counting = np.moveaxis(expected.confidence.astype(np.float64), 2, 0)
    assert oks.std() > 0.01
    np.testing.assert_allclose(poses.scores, (oks * counting).sum(1) / counting.sum(1), atol=PARITY)
    # Another kind of score is only another word in the metadata.
    plain = PoseEstimator(runtime, written.replace(scores={})).predict_crops(crops, windows)
    assert np.abs(plain.scores - poses.scores).max() > 0.01
    if form == "onnx":
        decoded = convert_network(
            model, contract, [(form, "fp32")], tmp_path, calibration_crops=crops, parity_crops=crops, decoded=True
        )
        assert not decoded[0].contract.confidence_head
        assert model.confidence_head is not None


@pytest.mark.parametrize(
    ("form", "recipe"), [*((form, "int8-static") for form in EXPORTERS), ("tflite", "int8-dynamic")]
)
def test_in_int8_the_head_stays_in_float(form: str, recipe: str, crops: NDArray[np.uint8], tmp_path: Path) -> None:
    for library in (*LIBRARIES[form], "torchao"):
        pytest.importorskip(library, reason="needs the extra convert")
    model = network()
    assert "confidence_head" not in block_names(model)
    contract = checkpoint_contract(model).replace(confidence_head=True, checkpoint_sha256="ab" * 32)
    path = tmp_path / f"m{SUFFIXES[form]}"
    EXPORTERS[form](model, contract, config(path, "int8", crops, recipe))
    got = (MilRuntime(path) if form == "coreml" else open_runtime(path)).run(crops)
    # What the float head makes of the file's own maps and scalars and of nearly its features.
    with torch.no_grad():
        features = model.stem(Deployable(model).normalise(torch.from_numpy(crops)))
        said = [
            torch.logit(torch.from_numpy(getattr(got, n)).clamp(1e-6, 1 - 1e-6))
            for n in ("presence", "visibility", "quality")
        ]
        wanted = model.confidence_head(features, torch.from_numpy(got.logits), said).sigmoid().numpy()
    assert np.abs(got.confidence - wanted).mean() < 0.02


def test_the_head_changes_no_value_of_the_quantized_network(crops: NDArray[np.uint8]) -> None:
    pytest.importorskip("torchao", reason="needs the extra convert")
    from probpose_quant import RECIPES
    from probpose_quant.calibrate import quantize_static

    answers = []
    for with_head in (True, False):
        model = network()
        if not with_head:
            model.confidence_head = None
        graph = quantize_static(model, crops, RECIPES["int8-static"], int32_bias=False)
        answers.append(graph(torch.from_numpy(crops)))
    names = list(deployed_outputs(model(Deployable(model).normalise(torch.from_numpy(crops)))))
    for name, one, other in zip(names, *answers, strict=False):
        assert torch.equal(one, other), name
    assert len(answers[0]) == len(names) + 1
