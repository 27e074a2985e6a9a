"""TFLite files of networks with transposed convolutions: kept, or made convolutions, whichever multiplies faster."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if find_spec("litert_torch") is None:
    pytest.skip("needs the extra convert", allow_module_level=True)

from torch import Tensor, nn  # noqa: E402

from probpose_convert import tflite_graph  # noqa: E402
from probpose_convert.export_config import ExportConfig  # noqa: E402
from probpose_convert.tflite_deconvolution import replace_deconvolutions  # noqa: E402
from probpose_convert.tflite_export import export_tflite  # noqa: E402
from probpose_convert.tflite_flatbuffer import operator_name, read_flatbuffer  # noqa: E402
from probpose_edge.runtimes.litert import LiteRTRuntime  # noqa: E402
from probpose_models.checkpoint import checkpoint_contract  # noqa: E402
from probpose_models.outputs import PoseOutputs  # noqa: E402


def operators(content: bytes) -> list[str]:
    model = read_flatbuffer(content)
    return [operator_name(model, operator) for operator in model.subgraphs[0].operators]


class UpsamplingNetwork(nn.Module):
    """48×64 pixels to maps of 12×16 cells, by the transposed convolutions of probpose-s."""

    name = "probpose-s"
    keypoints = 17
    input_wh = (48, 64)
    heatmap_wh = (12, 16)
    temperature = 0.5
    window_ratio, presence_head = 1.0, True

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 16, stride=16, padding=2)
        self.deconvolutions = nn.Sequential(
            *(
                layer
                for _ in range(2)
                for layer in (
                    nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(16),
                    nn.ReLU(inplace=True),
                )
            )
        )
        self.final = nn.Conv2d(16, 17, 1)
        self.heads = nn.ModuleList(nn.Conv2d(16, 17, (4, 3)) for _ in range(3))

    def forward(self, x: Tensor) -> PoseOutputs:
        features = self.embed(x)
        logits = self.final(self.deconvolutions(features))
        return PoseOutputs(logits, *(head(features).flatten(1) for head in self.heads))


def test_transposed_convolutions_stay_in_the_partition(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = UpsamplingNetwork()
    with torch.no_grad():
        model.train()(torch.randn(8, 3, 64, 48))
    model.eval()
    contract = checkpoint_contract(model)  # type: ignore[arg-type]
    coarse = np.random.default_rng(0).integers(0, 256, (12, 8, 6, 3), dtype=np.uint8)
    crops = coarse.repeat(8, axis=1).repeat(8, axis=2)
    for recipe in ("int8-static", None):
        config = ExportConfig(
            out=tmp_path / "m.tflite",
            precision="int8",
            recipe=recipe,
            calibration_crops=crops[:8],
            parity_crops=crops[8:],
        )
        result = export_tflite(model, contract, config)
        assert result.parity.logits_relative < 0.1
        kinds = operators(result.path.read_bytes())
        # Dynamic int8 multiplies convolutions faster.
        wanted = (2, 0) if recipe == "int8-static" else (0, 2)
        assert (kinds.count("TRANSPOSE_CONV"), kinds.count("DEPTH_TO_SPACE")) == wanted
        runtime = LiteRTRuntime(result.path)
        assert [d["op_name"] for d in runtime._session.get()._get_ops_details()].count("DELEGATE") == 1
        runtime.close()
    assert result.recipe == "int8-dynamic"  # the default for a transformer


def test_deconvolutions_equal_their_convolutions() -> None:
    from ai_edge_litert.interpreter import Interpreter

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.ConvTranspose2d(5, 6, 4, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1)
    )
    example = {"x": torch.randn(1, 5, 4, 3)}
    before = tflite_graph.translate(Named(network).eval(), example)
    after = replace_deconvolutions(before)
    assert replace_deconvolutions(after) == after
    kinds = operators(after)
    assert kinds.count("CONV_2D") == 2
    assert "TRANSPOSE_CONV" not in kinds
    given, got = (
        Interpreter(model_content=content, num_threads=1).get_signature_runner()(x=example["x"].numpy())["y"]
        for content in (before, after)
    )
    np.testing.assert_allclose(got, given, rtol=1e-5, atol=1e-6)
    # The kernels that are read no more are gone.
    assert len(after) < len(before) + 4_000


class Named(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": self.network(x)}
