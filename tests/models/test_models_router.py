"""The router: its parts, its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from probpose_edge.exceptions import CheckpointError, InputError, MetadataError
from probpose_edge.routing.router_contract import RouterContract
from probpose_models.checkpoint import NETWORK_KEY, checkpoint_contract, load_checkpoint, save_checkpoint
from probpose_models.probpose_m import ProbPoseM
from probpose_models.router import PartialConv, ProbPoseRouter, SpatialGroupEnhance, crop_scores, image_plane
from probpose_models.router_checkpoint import load_router

SMALL = (96, 128)


def contract(**changes: object) -> RouterContract:
    values: dict[str, object] = {
        "model": "probpose-router",
        "format": "safetensors",
        "precision": "fp32",
        "recipe": "fp32",
        "input_wh": SMALL,
        "padding": 1.25,
        "small": "a.onnx",
        "large": "b.onnx",
        "keypoint_names": ("nose",),
        "score_quantiles": (0.0, 0.5, 1.0),
        "checkpoint_sha256": "",
        "licence": "Apache-2.0",
    }
    return RouterContract(**{**values, **changes})  # type: ignore[arg-type]


def test_sge_as_its_paper_writes_it() -> None:
    torch.manual_seed(0)
    layer, x = SpatialGroupEnhance(8, groups=2), torch.randn(3, 8, 5, 4)
    torch.nn.init.normal_(layer.scale)
    torch.nn.init.normal_(layer.shift)
    expected = torch.empty_like(x)
    for n in range(3):
        for group in range(2):
            part = x[n, 4 * group : 4 * group + 4]
            c = (part * part.mean((1, 2), keepdim=True)).sum(0)
            c = (c - c.mean()) / (c.var(unbiased=False) + 1e-5).sqrt()
            gate = torch.sigmoid(c * layer.scale[0, group, 0, 0] + layer.shift[0, group, 0, 0])
            expected[n, 4 * group : 4 * group + 4] = part * gate
    torch.testing.assert_close(layer(x), expected)


def test_pconv_touches_a_quarter_of_the_channels_and_is_one_dense_convolution() -> None:
    torch.manual_seed(0)
    layer, x = PartialConv(8), torch.randn(2, 8, 6, 5)
    y = layer(x)
    torch.testing.assert_close(y[:, 2:], x[:, 2:], rtol=0, atol=0)
    assert not torch.allclose(y[:, :2], x[:, :2])
    torch.testing.assert_close(layer.dense()(x), y)


def test_the_plane_is_the_mean_of_channels_then_the_largest_of_four() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (2, 6, 4, 3), dtype=np.uint8)
    mean = crops.astype(np.float64).mean(3)
    expected = [[[mean[n, r : r + 2, c : c + 2].max() for c in (0, 2)] for r in (0, 2, 4)] for n in (0, 1)]
    np.testing.assert_array_equal(image_plane(crops), np.rint(expected))


@pytest.mark.parametrize("input_wh", [(192, 256), SMALL, (48, 64)])
def test_one_score_in_0_to_1_for_every_crop_size_of_the_family(input_wh: tuple[int, int]) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, input_wh[1], input_wh[0], 3), dtype=np.uint8)
    scores = crop_scores(ProbPoseRouter(input_wh), crops)
    assert scores.shape == (3,)
    assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize("input_wh", [(100, 128), (96, 96), (24, 32)])
def test_other_crop_sizes_are_refused(input_wh: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"or a whole multiple, got {input_wh[0]} × {input_wh[1]}. Take the crop size"):
        ProbPoseRouter(input_wh)


def test_a_checkpoint_brings_router_and_contract_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, path = ProbPoseRouter(SMALL, hidden=8), tmp_path / "r.safetensors"
    save_checkpoint(path, model, contract())
    loaded, read = load_router(path)
    crops = np.random.default_rng(0).integers(0, 256, (2, 128, 96, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_scores(loaded, crops), crop_scores(model, crops))
    assert read == contract(checkpoint_sha256=read.checkpoint_sha256)
    assert len(read.checkpoint_sha256) == 64


def test_checkpoints_that_are_no_routers_are_refused(tmp_path: Path) -> None:
    pose, router, other = (tmp_path / f"{name}.safetensors" for name in ("pose", "router", "other"))
    network = ProbPoseM(17, input_wh=SMALL)
    save_checkpoint(pose, network, checkpoint_contract(network))
    with pytest.raises(MetadataError, match=r"pose.safetensors: A router was asked for, but this file is a pose model"):
        load_router(pose)
    save_checkpoint(router, ProbPoseRouter(SMALL), contract())
    with pytest.raises(MetadataError, match="router"):
        load_checkpoint(router)
    save_checkpoint(other, ProbPoseRouter(SMALL), contract(input_wh=(192, 256)))
    with pytest.raises(CheckpointError, match=r"crops of \(192, 256\), but the network in it of \(96, 128\)"):
        load_router(other)
    metadata = {"probpose_edge": contract().to_json(), NETWORK_KEY: json.dumps({"input_wh": [96, 128], "hidden": "x"})}
    save_file(load_file(router), other, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"must record the sizes of a router, got .*Save the checkpoint again"):
        load_router(other)
    metadata[NETWORK_KEY] = json.dumps({"input_wh": [96, 128], "hidden": 5})
    save_file(load_file(router), other, metadata=metadata)
    with pytest.raises(CheckpointError, match="must hold exactly the parameters of probpose-router"):
        load_router(other)
