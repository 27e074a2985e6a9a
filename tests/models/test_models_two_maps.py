"""Networks with a second map over a larger window, stochastic depth, and starting from a relative's weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from probpose_edge.contract.metadata import METADATA_KEY
from probpose_edge.exceptions import CheckpointError, InputError
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_models.checkpoint import NETWORK_KEY, build_model, checkpoint_contract, load_checkpoint, save_checkpoint
from probpose_models.initialise import load_initial
from probpose_models.larger_window import LargerWindowHead, resampling_matrix
from probpose_models.probpose_m import ProbPoseM, count_multiply_adds
from probpose_models.probpose_s import ProbPoseS
from probpose_models.vit import DropPath, VisionTransformer

FIVE = Skeleton(keypoint_names=tuple("abcde"), edges=(), flip_pairs=((0, 1),), sigmas=(0.1,) * 5)
TINY = {"channels": 24, "depth": 3, "heads": 4, "deconvolutions": (8, 8)}
PICTURE = torch.randn(2, 3, 256, 192, generator=torch.Generator().manual_seed(0))


def save(path: Path, name: str, *, keypoints: int = 17, ratio: float = 1.25, **sizes: object) -> Path:
    torch.manual_seed(1)
    model = build_model(name, keypoints, window_ratio=ratio, **sizes)
    save_checkpoint(path, model, checkpoint_contract(model))
    return path


@pytest.mark.parametrize(("name", "sizes"), [("probpose-m", {}), ("probpose-s", {"depth": 2})])
def test_the_second_map_adds_little_and_leaves_the_rest_alone(name: str, sizes: dict) -> None:
    torch.manual_seed(0)
    one = build_model(name, **sizes).eval()
    torch.manual_seed(0)
    two = build_model(f"{name}-dh", window_ratio=1.5, **sizes).eval()
    assert (two.name, two.window_ratio, checkpoint_contract(two).window_ratio) == (f"{name}-dh", 1.5, 1.5)
    with torch.no_grad():
        single, double = one(PICTURE[:1]), two(PICTURE[:1])
    assert single.expert_logits is None
    assert torch.equal(double.expert_logits, single.logits)
    assert torch.equal(double.presence, single.presence)
    assert double.logits.shape == double.expert_logits.shape == (1, 17, 64, 48)
    assert not torch.equal(double.logits, double.expert_logits)
    work = [count_multiply_adds(model, model.input_wh) for model in (one, two)]
    assert work[1] / work[0] < 1.1


def test_resampling_puts_the_input_window_into_the_middle() -> None:
    # Twice as large: of eight cells of the larger window the middle four lie in the input window, two cells each.
    matrix = resampling_matrix(8, 2.0)
    np.testing.assert_allclose(matrix @ torch.arange(8.0), [0, 0, 0.5, 2.5, 4.5, 6.5, 0, 0])
    np.testing.assert_allclose(resampling_matrix(8, 1.0), np.eye(8))
    inside = resampling_matrix(12, 1.25)[2:-2]
    np.testing.assert_allclose(inside.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(inside @ torch.ones(12), 1, atol=1e-6)


def test_rows_and_columns_are_resampled_alike() -> None:
    head = LargerWindowHead(1, 1, (12, 16), 1.25)
    picture = torch.zeros(1, 1, 16, 12)
    picture[0, 0, 11, 6] = 1
    moved = torch.nn.functional.linear(picture.flatten(2), head.resampling).reshape(picture.shape)[0, 0]
    expected = torch.outer(resampling_matrix(16, 1.25)[:, 11], resampling_matrix(12, 1.25)[:, 6])
    torch.testing.assert_close(moved, expected)
    assert int(moved.sum(1).argmax()) == 10  # 3.5 cells below the center become 2.8


@pytest.mark.parametrize("ratio", [1.0, 0.8, float("nan"), float("inf")])
def test_ratios_that_cannot_be(ratio: float) -> None:
    for name in ("probpose-m-dh", "probpose-s-dh"):
        with pytest.raises(InputError, match="window_ratio"):
            build_model(name, window_ratio=ratio)


def test_a_plain_vitpose_has_one_map() -> None:
    with pytest.raises(InputError, match="A plain ViTPose has one map, so its window_ratio must be 1"):
        ProbPoseS(scalar_heads=False, window_ratio=1.25)


def test_ratio_and_sizes_come_back_from_a_checkpoint(tmp_path: Path) -> None:
    path = save(tmp_path / "dh.safetensors", "probpose-s-dh", ratio=1.4, **TINY)
    model, contract = load_checkpoint(path)
    assert (model.window_ratio, contract.window_ratio, model.sizes) == (1.4, 1.4, TINY)
    torch.manual_seed(1)
    original = build_model("probpose-s-dh", window_ratio=1.4, **TINY).eval()
    with torch.no_grad():
        for one, two in zip(original(PICTURE), model(PICTURE), strict=True):
            assert (one is None and two is None) or torch.equal(one, two)


@pytest.mark.parametrize(
    ("sizes", "contract_changes", "text"),
    [
        ({"channels": 30, "heads": 4}, {}, "must record the sizes of a probpose-s, got .*4 heads for 30 channels"),
        ({"width": 24}, {}, "must record the sizes of a probpose-s, got .*unexpected keyword argument 'width'"),
        ({**TINY, "deconvolutions": [8]}, {}, "must record the sizes"),
        ([1], {}, "must record the sizes"),
        ({**TINY, "depth": 2}, {}, r"unknown: \['backbone\.blocks\.2"),
        (TINY, {"window_ratio": 1.25}, "says that its probpose-s has a window_ratio of 1.25, but that network has one"),
        (TINY, {"model": "hrnet"}, "must be one of probpose-m, .*, vitpose; .* says 'hrnet'. Install a newer"),
        (TINY, {"model": "probpose-s-dh"}, "so its window_ratio must be above 1, got 1.0"),
    ],
)
def test_records_that_do_not_fit(tmp_path: Path, sizes: object, contract_changes: dict, text: str) -> None:
    path = save(tmp_path / "s.safetensors", "probpose-s", **TINY)
    _, contract = load_checkpoint(path)
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    document = contract.replace(**contract_changes).to_json()
    save_file(state, path, metadata={METADATA_KEY: document, NETWORK_KEY: json.dumps(sizes)})
    with pytest.raises(CheckpointError, match=text):
        load_checkpoint(path)
    save_file(state, path, metadata={METADATA_KEY: contract.to_json(), NETWORK_KEY: "{"})
    with pytest.raises(CheckpointError, match="must record the sizes"):
        load_checkpoint(path)


def test_one_map_starts_two_and_back(tmp_path: Path) -> None:
    one = save(tmp_path / "one.safetensors", "probpose-s", **TINY)
    model, contract, fresh = load_initial(one, "probpose-s-dh", window_ratio=1.3)
    assert fresh == ("larger_map_head",)
    assert (contract.model, contract.window_ratio, model.window_ratio, model.sizes) == ("probpose-s-dh", 1.3, 1.3, TINY)
    source, _ = load_checkpoint(one)
    with torch.no_grad():
        assert torch.equal(model.eval()(PICTURE).expert_logits, source(PICTURE).logits)
    save_checkpoint(tmp_path / "two.safetensors", model, contract)
    back, contract, fresh = load_initial(tmp_path / "two.safetensors", "probpose-s")
    assert (fresh, contract.model, contract.window_ratio) == ((), "probpose-s", 1.0)
    with torch.no_grad():
        assert torch.equal(back.eval()(PICTURE).logits, source(PICTURE).logits)
    same, contract, fresh = load_initial(tmp_path / "two.safetensors", "probpose-s-dh", window_ratio=1.3)
    assert (same.name, contract.window_ratio, fresh) == ("probpose-s-dh", 1.3, ())


def test_a_start_may_see_smaller_crops(tmp_path: Path) -> None:
    one = save(tmp_path / "one.safetensors", "probpose-m")
    model, contract, fresh = load_initial(one, "probpose-m", input_wh=(96, 128))
    assert (contract.input_wh, contract.heatmap_wh, model.input_wh, fresh) == ((96, 128), (24, 32), (96, 128), ())
    source, _ = load_checkpoint(one)
    assert torch.equal(model.map_head.final.weight, source.map_head.final.weight)
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 3, 128, 96)).logits.shape[2:] == (32, 24)
    tiny = save(tmp_path / "s.safetensors", "probpose-s", **TINY)
    with pytest.raises(CheckpointError, match=r"Only a probpose-m can change the size .* \(96, 128\) was asked for"):
        load_initial(tiny, "probpose-s", input_wh=(96, 128))


def test_a_vitpose_starts_a_probpose(tmp_path: Path) -> None:
    vitpose = ProbPoseS(5, scalar_heads=False, **TINY)
    contract = checkpoint_contract(ProbPoseS(5, **TINY), skeleton=FIVE).replace(
        model="vitpose", map_kind="heatmap", decode_kernel="argmax", temperature=1.0
    )
    save_checkpoint(tmp_path / "v.safetensors", vitpose, contract)
    model, contract, fresh = load_initial(tmp_path / "v.safetensors", "probpose-s")
    assert fresh == ("presence_head", "visibility_head", "quality_head")
    assert (contract.map_kind, contract.decode_kernel, contract.temperature) == ("probability", "published", 0.5)
    assert contract.keypoint_names == FIVE.keypoint_names
    assert torch.equal(model.map_head.final.weight, vitpose.map_head.final.weight)


def test_strangers_start_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "s.safetensors", "probpose-s", **TINY)
    with pytest.raises(CheckpointError, match="holds a probpose-s, which shares no weights with a probpose-m-dh"):
        load_initial(path, "probpose-m-dh")
    with pytest.raises(CheckpointError, match=r"must be one of probpose-m, .* got 'hrnet'"):
        load_initial(path, "hrnet")


def test_stochastic_depth_grows_linearly_and_rests_in_eval_mode() -> None:
    torch.manual_seed(0)
    backbone = VisionTransformer(24, 3, 4, drop_path=0.4)
    assert [block.drop_path.rate for block in backbone.blocks] == [0, 0.2, 0.4]
    assert [block.drop_path.rate for block in ProbPoseS().backbone.blocks][-1] == 0.1
    x = PICTURE
    backbone.eval()
    with torch.no_grad():
        assert torch.equal(backbone(x), backbone(x))
        backbone.train()
        assert not torch.equal(backbone(x), backbone(x))
        backbone.set_drop_path(0)
        torch.testing.assert_close(backbone(x), backbone.eval()(x))
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match=r"drop_path is a probability in \[0, 1\), got"):
            backbone.set_drop_path(rate)


def test_a_dropped_path_is_dropped_for_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = DropPath()
    layer.rate = 0.25
    out = layer.train()(torch.ones(4000, 3, 2))
    assert ((out == 0).all((1, 2)) | (out == 1 / 0.75).all((1, 2))).all()
    assert out.mean().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("network", "sizes"), [(ProbPoseM, {}), (ProbPoseS, TINY)])
def test_both_maps_steer_the_shared_features(network: type, sizes: dict) -> None:
    model = network(5, window_ratio=1.25, **sizes)
    for name in ("logits", "expert_logits"):
        model.zero_grad(set_to_none=True)
        getattr(model(PICTURE), name).square().sum().backward()
        assert any(parameter.grad is not None for parameter in model.backbone.parameters())
        larger = [parameter.grad is not None for parameter in model.larger_map_head.parameters()]
        assert all(larger) if name == "logits" else not any(larger)
