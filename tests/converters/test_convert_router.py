"""Routers as files: the same scores in every format and precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probpose_convert.convert_router import convert_router
from probpose_convert.export_config import ExportConfig
from probpose_convert.router_network import DeployableRouter
from probpose_convert.router_onnx import export_router_onnx
from probpose_edge.exceptions import CheckpointError, ConversionError, InputError
from probpose_edge.routing.router import read_router_contract
from probpose_edge.routing.router_contract import RouterContract
from probpose_models.router import ProbPoseRouter, SpatialGroupEnhance, crop_scores, image_plane

SMALL = (96, 128)
CONTRACT = RouterContract(
    model="probpose-router",
    format="safetensors",
    precision="fp32",
    recipe="fp32",
    input_wh=SMALL,
    padding=1.25,
    small="a.onnx",
    large="b.onnx",
    keypoint_names=("nose",),
    score_quantiles=(0.0, 1.0),
    checkpoint_sha256="5" * 64,
    licence="Apache-2.0",
)
EXACT = 1e-3
"""Largest difference of a score in float32: what is asked of all exports; about 1e-7 is seen."""


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 8, 6, 3)).repeat(16, 1).repeat(16, 2)
    light = rng.uniform(0.1, 1, (24, 1, 1, 1))
    return np.asarray(((coarse + rng.integers(0, 40, coarse.shape)) * light).clip(0, 255), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(crops: np.ndarray) -> ProbPoseRouter:
    """A router whose every part does something, and whose scores differ."""
    torch.manual_seed(0)
    made = ProbPoseRouter(SMALL, channels=(8, 8, 16, 16), hidden=8)
    for layer in made.modules():
        if isinstance(layer, SpatialGroupEnhance):
            torch.nn.init.normal_(layer.scale)
            torch.nn.init.normal_(layer.shift)
        elif isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():  # normalise by what the crops give, as training would
        made.train()(torch.from_numpy(image_plane(crops)).float().unsqueeze(1))
    scores = crop_scores(made, crops)
    logits = np.log(scores / (1 - scores))
    made.second.weight.data /= logits.std()
    made.second.bias.data[:] = (made.second.bias.item() - logits.mean()) / logits.std()
    return made.eval()


def config(out: Path, crops: np.ndarray, precision: str = "fp32", **changes: Any) -> ExportConfig:
    values = {"out": out, "precision": precision, "parity_crops": crops[:8], "calibration_crops": crops[8:], **changes}
    return ExportConfig(**values)


def test_the_folded_network_gives_the_same_scores(model: ProbPoseRouter, crops: np.ndarray) -> None:
    (scores,) = DeployableRouter(model).eval()(torch.from_numpy(crops))
    np.testing.assert_allclose(scores[:, 0].numpy(), crop_scores(model, crops), atol=2e-5)


@pytest.mark.parametrize("form", ["onnx", "tflite", "coreml"])
def test_every_format_and_precision(form: str, model: ProbPoseRouter, crops: np.ndarray, tmp_path: Path) -> None:
    modules = {"onnx": "onnxscript", "tflite": "litert_torch", "coreml": "coremltools"}
    pytest.importorskip(modules[form], reason=f"needs {modules[form]} to write the file")
    told: list[tuple[int, int]] = []
    exact, half, integer = convert_router(
        model,
        CONTRACT,
        [(form, "fp32"), (form, "fp16"), (form, "int8")],
        tmp_path,
        name="r",
        calibration_crops=crops[8:],
        parity_crops=crops[:8],
        progress=lambda *done: told.append(done),
    )
    assert told == [(0, 3), (1, 3), (2, 3)]
    assert exact.parity.score_max_abs < EXACT
    assert half.parity.score_max_abs < 10 * EXACT
    assert integer.parity.rank_correlation is not None
    assert integer.parity.rank_correlation > 0.8
    assert integer.recipe == "int8-static"
    assert integer.size_bytes < exact.size_bytes
    for result in (exact, half, integer):
        contract = read_router_contract(result.path)
        assert contract == result.contract
        assert (contract.format, contract.small, contract.checkpoint_sha256) == (form, "a.onnx", "5" * 64)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(r.path.name for r in (exact, half, integer))


def test_int8_convolutions_run_as_integers_and_the_channels_are_summed_so(
    model: ProbPoseRouter, crops: np.ndarray, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx to look into the file")
    pytest.importorskip("onnxscript", reason="needs onnxscript to write the file")
    result = export_router_onnx(model, CONTRACT, config(tmp_path / "r.onnx", crops, "int8"))
    graph = onnx.load(str(result.path)).graph
    kinds = [node.op_type for node in graph.node]
    assert "MatMulInteger" in kinds
    assert "ReduceSum" not in kinds
    assert kinds.count("InstanceNormalization") == 2
    assert not {"LayerNormalization", "Shape"} & set(kinds)
    made = {name: node.op_type for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    integer = [node for node in convolutions if made.get(node.input[0]) == "DequantizeLinear"]
    assert len(convolutions) - len(integer) == 1  # the first, of one channel
    assert all(made.get(node.input[1]) == "DequantizeLinear" for node in integer)


def refused(change: Callable[[ProbPoseRouter], None], model: ProbPoseRouter) -> ProbPoseRouter:
    copy = ProbPoseRouter(SMALL, channels=model.channels, hidden=model.hidden)  # type: ignore[arg-type]
    copy.load_state_dict(model.state_dict())
    change(copy)
    return copy


def test_bad_input_leaves_no_file_and_keeps_the_old_one(
    model: ProbPoseRouter, crops: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript", reason="needs onnxscript to write the file")
    out = tmp_path / "r.onnx"
    out.write_bytes(b"old")
    broken = refused(lambda m: m.second.bias.data.fill_(float("nan")), model)
    with pytest.raises(CheckpointError, match=r"weights must be finite, but second.bias of probpose-router has NaN"):
        export_router_onnx(broken, CONTRACT, config(out, crops))
    with pytest.raises(InputError, match=r"Parity crops must have shape \(N, 128, 96, 3\) for this router, got"):
        export_router_onnx(model, CONTRACT, config(out, crops[:, :64]))
    with pytest.raises(InputError, match=r"A router gives no maps that a file could decode. Leave --decoded out"):
        export_router_onnx(model, CONTRACT, config(out, crops, decoded=True))
    with pytest.raises(InputError, match=r"int8-static takes its ranges from example crops and got none"):
        export_router_onnx(model, CONTRACT, config(out, crops, "int8", calibration_crops=None))
    with pytest.raises(InputError, match=r"The int8 recipe of ONNX routers must be one of int8-static"):
        export_router_onnx(model, CONTRACT, config(out, crops, "int8", recipe="int8-dynamic"))
    monkeypatch.setattr("probpose_convert.router_export.crop_scores", lambda _, given: np.zeros(len(given)))
    with pytest.raises(ConversionError, match=r"A fp32 router must follow the network it came from, but on 8 crops"):
        export_router_onnx(model, CONTRACT, config(out, crops))
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]
