"""INT8 files of a transformer: even channels, and deconvolutions that stay integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("torchao")

from probpose_convert.export_config import ExportConfig, even_network  # noqa: E402
from probpose_convert.onnx_export import export_onnx  # noqa: E402
from probpose_models.checkpoint import checkpoint_contract  # noqa: E402
from probpose_models.probpose_s import ProbPoseS  # noqa: E402
from probpose_quant.quantization import Quantization  # noqa: E402
from probpose_quant.recipes import RECIPES  # noqa: E402
from probpose_quant.smooth_channels import normalisations, scale_channels  # noqa: E402


@pytest.fixture(scope="module")
def network() -> ProbPoseS:
    """With channels that reach a hundred times as far as others."""
    torch.manual_seed(0)
    model = ProbPoseS(channels=24, depth=1, heads=2, deconvolutions=(8, 8))
    torch.nn.init.normal_(model.map_head.final.weight, std=0.5)
    with torch.no_grad():
        for norm, readers in normalisations(model):
            factor = torch.ones(24)
            factor[3] = 0.01
            scale_channels(norm, readers, factor)
    return model.eval()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExportConfig:
    coarse = np.random.default_rng(0).integers(0, 256, (10, 16, 12, 3), dtype=np.uint8)
    crops = coarse.repeat(16, axis=1).repeat(16, axis=2)
    out = tmp_path_factory.mktemp("onnx") / "s.onnx"
    return ExportConfig(out=out, precision="int8", calibration_crops=crops[:8], parity_crops=crops[8:])


def test_only_int8_activations_need_even_channels(network: ProbPoseS, config: ExportConfig) -> None:
    for recipe in ("int8-static", "int8-dynamic"):
        changed = even_network(network, config, recipe)
        assert not torch.equal(changed.backbone.norm.weight, network.backbone.norm.weight)
    assert even_network(network, config, "int8-weights") is network
    quantization = Quantization(recipe=RECIPES["int8-static"], ranges={}, origin={})
    saved = ExportConfig(
        out=config.out,
        precision="int8",
        calibration_crops=config.calibration_crops,
        parity_crops=config.parity_crops,
        quantization=quantization,
    )
    assert even_network(network, saved, "int8-static") is network


def test_an_onnx_file_follows_a_network_with_large_channels(network: ProbPoseS, config: ExportConfig) -> None:
    result = export_onnx(network, checkpoint_contract(network), config)
    assert result.parity.logits_relative < 0.1
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(Path(config.out).with_name("optimised.onnx"))
    options.log_severity_level = 4
    ort.InferenceSession(str(config.out), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(options.optimized_model_filepath).graph
    made_by = {name: node for node in graph.node for name in node.output}
    kinds = [node.op_type for node in graph.node]
    assert "ConvTranspose" not in kinds
    assert kinds.count("DepthToSpace") == 2
    crops = [node for node in graph.node if node.op_type == "Slice" and made_by[node.input[0]].op_type != "Split"]
    assert len(crops) >= 2
    for node in graph.node:
        if node.op_type == "DepthToSpace" or node in crops:
            assert made_by[node.input[0]].op_type != "DequantizeLinear"
