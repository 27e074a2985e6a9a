"""Shapes, sizes and structure of the networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from probpose_edge.exceptions import CheckpointError
from probpose_models.deploy import IMAGE_MEAN, IMAGE_STD, Deployable
from probpose_models.layers import SamePadConv2d
from probpose_models.mobilenet_v2 import MobileNetV2, load_imagenet_weights
from probpose_models.probpose_m import ProbPoseM, count_multiply_adds, count_parameters
from probpose_models.probpose_s import ProbPoseS


@pytest.fixture(scope="module")
def model_m() -> ProbPoseM:
    torch.manual_seed(0)
    return ProbPoseM().eval()


def test_probpose_m_is_within_its_budget(model_m: ProbPoseM) -> None:
    assert count_parameters(model_m) <= 6_000_000
    assert count_multiply_adds(model_m, model_m.input_wh) <= 800_000_000


def test_probpose_s_has_the_published_size() -> None:
    model = ProbPoseS()
    assert count_parameters(model) == pytest.approx(36.3e6, rel=0.005)


@pytest.mark.parametrize("build", [ProbPoseM, ProbPoseS])
def test_outputs_have_the_documented_shapes(build: type) -> None:
    outputs = build(keypoints=5).eval()(torch.zeros(2, 3, 256, 192))
    assert outputs.logits.shape == (2, 5, 64, 48)
    for value in outputs[1:4]:
        assert value.shape == (2, 5)


def test_quality_does_not_steer_the_features(model_m: ProbPoseM) -> None:
    model_m.zero_grad()
    model_m(torch.randn(1, 3, 256, 192)).quality.sum().backward()
    assert all(parameter.grad is None for parameter in model_m.backbone.parameters())
    assert any(parameter.grad is not None for parameter in model_m.quality_head.parameters())


def test_stride_two_pads_right_and_bottom_as_tensorflow_does() -> None:
    conv = SamePadConv2d(1, 1, 3, stride=2)
    torch.nn.init.ones_(conv.weight)
    image = torch.arange(16.0).view(1, 1, 4, 4)
    # TensorFlow SAME, size 4, kernel 3, stride 2: total padding 1, all of it after the last row and column.
    expected = F.conv2d(F.pad(image, (0, 1, 0, 1)), torch.ones(1, 1, 3, 3), stride=2)
    torch.testing.assert_close(conv(image), expected)
    assert conv(image)[0, 0, 0, 0] == image[0, 0, :3, :3].sum()


def test_deployable_normalises_and_answers_probabilities(model_m: ProbPoseM) -> None:
    image = torch.randint(0, 256, (1, 256, 192, 3), dtype=torch.uint8)
    x = (image.permute(0, 3, 1, 2) / 255 - torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGE_STD).view(
        1, 3, 1, 1
    )
    with torch.no_grad():
        direct, deployed = model_m(x), Deployable(model_m)(image)
    torch.testing.assert_close(deployed[0], direct.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(deployed[1], direct.presence.sigmoid(), atol=1e-4, rtol=1e-4)


def test_imagenet_weights_are_checked_before_they_are_loaded(tmp_path) -> None:
    backbone = MobileNetV2()
    before = backbone.features[0][0].weight.clone()
    path = tmp_path / "weights.npz"
    np.savez(path, **{"features.0.0.weight": np.zeros((32, 3, 3, 3), np.float32)})
    with pytest.raises(CheckpointError, match="missing or misshapen: features"):
        load_imagenet_weights(backbone, path)
    path.write_bytes(b"not an archive")
    with pytest.raises(CheckpointError, match=r"must be an \.npz archive"):
        load_imagenet_weights(backbone, path)
    torch.testing.assert_close(backbone.features[0][0].weight, before)


def test_imagenet_weights_round_trip(tmp_path) -> None:
    torch.manual_seed(1)
    source, target = MobileNetV2(), MobileNetV2()
    path = tmp_path / "weights.npz"
    np.savez(path, **{name: value.numpy() for name, value in source.state_dict().items()})
    load_imagenet_weights(target, path)
    for name, value in target.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[name])
