"""probpose-m on small crops and as a plain heatmap network: shapes, and a checkpoint that brings them back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_models.checkpoint import build_model, checkpoint_contract, load_checkpoint, save_checkpoint
from probpose_models.probpose_m import ProbPoseM
from probpose_models.torch_runtime import TorchRuntime


def test_weights_of_both_input_sizes_have_the_same_names_and_shapes() -> None:
    small, usual = ProbPoseM(input_wh=(96, 128)), ProbPoseM()
    assert small.heatmap_wh == (24, 32)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (small, usual)]
    assert shapes[0] == shapes[1]
    with torch.no_grad():
        out = small.eval()(torch.randn(2, 3, 128, 96))
    assert out.logits.shape == (2, 17, 32, 24)
    assert out.presence is not None
    assert out.presence.shape == (2, 17)


def test_a_small_heatmap_network_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model("probpose-m", 17, input_wh=(96, 128), scalar_heads=False).eval()
    contract = checkpoint_contract(model)
    assert (contract.map_kind, contract.decode_kernel, contract.input_wh) == ("heatmap", "argmax", (96, 128))
    save_checkpoint(tmp_path / "m.safetensors", model, contract)
    again, read = load_checkpoint(tmp_path / "m.safetensors")
    assert again.input_wh == (96, 128)
    assert not [name for name in again.state_dict() if name.startswith("presence")]
    crops = np.random.default_rng(0).integers(0, 256, (1, 128, 96, 3)).astype(np.uint8)
    windows = np.array([[48.0, 64.0, 96.0, 128.0]])
    one, two = (PoseEstimator(TorchRuntime(m), c).predict_crops(crops, windows) for m, c in
                ((model, contract), (again, read)))  # fmt: skip
    np.testing.assert_array_equal(one.keypoints, two.keypoints)
    np.testing.assert_array_equal(one.presence, one.quality)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match=r"crops of \(192, 256\) or \(96, 128\) pixels, got \(64, 64\)\. Choose one"):
        ProbPoseM(input_wh=(64, 64))
    with pytest.raises(InputError, match=r"has one map, so its window_ratio must be 1\. Keep the scalar heads"):
        ProbPoseM(window_ratio=1.25, scalar_heads=False)
