"""Published checkpoints: recorded results come out, and everything that is not one is refused by name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probpose_edge import COCO_17, decode_maps
from probpose_edge.exceptions import CheckpointError
from probpose_edge.probmap import sparsemax_maps
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_models.checkpoint import load_checkpoint, save_checkpoint
from probpose_models.deploy import Deployable
from probpose_models.open_checkpoint import open_checkpoint
from probpose_models.release import _heads, load_release

State = dict[str, torch.Tensor]
C, DECONVOLUTIONS = 24, (8, 12)
"""Channels of the small networks written here; twelve attention heads divide them."""


def norm(name: str, width: int) -> State:
    values = {"weight": torch.rand(width) + 0.5, "bias": torch.randn(width) * 0.1}
    return {f"{name}.{key}": value for key, value in values.items()}


def batch_norm(name: str, width: int) -> State:
    running = {"running_mean": torch.randn(width) * 0.1, "running_var": torch.rand(width) + 0.5}
    return norm(name, width) | {f"{name}.{k}": v for k, v in running.items()} | {
        f"{name}.num_batches_tracked": torch.tensor(7)
    }  # fmt: skip


def weights(name: str, *shape: int, bias: int | None = None) -> State:
    state = {f"{name}.weight": torch.randn(*shape) * 0.1}
    return state if bias is None else state | {f"{name}.bias": torch.randn(bias) * 0.1}


def heatmap_head(prefix: str, keypoints: int) -> State:
    first, second = DECONVOLUTIONS
    return (
        weights(f"{prefix}.deconv_layers.0", C, first, 4, 4)
        | batch_norm(f"{prefix}.deconv_layers.1", first)
        | weights(f"{prefix}.deconv_layers.3", first, second, 4, 4)
        | batch_norm(f"{prefix}.deconv_layers.4", second)
        | weights(f"{prefix}.final_layer", keypoints, second, 1, 1, bias=keypoints)
    )


def vitpose(keypoints: int = 17, depth: int = 2) -> State:
    """A plain ViTPose in the later spelling, which ProbPose shares."""
    torch.manual_seed(0)
    state: State = {"backbone.pos_embed": torch.randn(1, 192, C) * 0.1}
    state |= weights("backbone.patch_embed.projection", C, 3, 16, 16, bias=C)
    for index in range(depth):
        block = f"backbone.layers.{index}"
        state |= norm(f"{block}.ln1", C) | norm(f"{block}.ln2", C)
        state |= weights(f"{block}.attn.qkv", 3 * C, C, bias=3 * C) | weights(f"{block}.attn.proj", C, C, bias=C)
        state |= weights(f"{block}.ffn.layers.0.0", 4 * C, C, bias=4 * C)
        state |= weights(f"{block}.ffn.layers.1", C, 4 * C, bias=C)
    return state | norm("backbone.ln1", C) | heatmap_head("head", keypoints)


def probpose(keypoints: int = 17, depth: int = 2) -> State:
    state = vitpose(keypoints, depth)
    for head in ("probability", "visibility", "oks", "error"):
        for index in (0, 4, 8):
            state |= weights(f"head.{head}_layers.{index}", C, C, 3, 3, bias=C)
            state |= batch_norm(f"head.{head}_layers.{index + 1}", C)
        state |= weights(f"head.{head}_layers.12", keypoints, C, 1, 1, bias=keypoints)
    return state


def earlier_spelling(state: State) -> State:
    """The same ViTPose as the first ViTPose checkpoints name it, with the position of a class token."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in (
            (r"\.layers\.(\d+)\.ln([12])\.", r".blocks.\1.norm\2."),
            (r"\.layers\.(\d+)\.attn", r".blocks.\1.attn"),
            (r"\.layers\.(\d+)\.ffn\.layers\.0\.0\.", r".blocks.\1.mlp.fc1."),
            (r"\.layers\.(\d+)\.ffn\.layers\.1\.", r".blocks.\1.mlp.fc2."),
            (r"^backbone\.ln1", "backbone.last_norm"),
            (r"\.projection\.", ".proj."),
            (r"^head\.", "keypoint_head."),
        ):
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    of_class_token = torch.randn(1, 1, C)
    positions = renamed["backbone.pos_embed"]
    return renamed | {"backbone.pos_embed": torch.cat((of_class_token, positions - of_class_token), dim=1)}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Save a state dictionary as a published file; returns its path."""

    def save(state: Any, meta: Any = None, **changes: torch.Tensor) -> Path:
        path = tmp_path / "release.pth"
        torch.save({"state_dict": {**state, **changes}, "meta": meta or {"epoch": 210}}, path)
        return path

    return save


PICTURE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 256, 192, 3), dtype=np.uint8))


def answers(model: torch.nn.Module) -> list[torch.Tensor]:
    with torch.no_grad():
        return [value for value in model(Deployable(model).normalise(PICTURE)) if value is not None]


@pytest.mark.shared
def test_recorded_results_of_the_tiny_release(shared: Path) -> None:
    """Bounds: 1e-4 for features, 1e-5 for probabilities, a thousandth of a cell for places."""
    recorded = np.load(shared / "reference" / "forward_tiny.npz", allow_pickle=False)
    model, contract, dropped = load_release(shared / "reference" / "probpose_release_tiny.pth")
    x = Deployable(model).normalise(torch.from_numpy(recorded["image_rgb_uint8"]))
    with torch.no_grad():
        features, out = model.backbone(x), model(x)
    assert (contract.model, contract.decode_kernel, contract.temperature) == ("probpose-s", "published", 0.5)
    assert contract.presence_threshold == 0.45
    assert model.sizes == {"channels": 96, "depth": 2, "heads": 12, "deconvolutions": (32, 32)}
    np.testing.assert_allclose(features.numpy(), recorded["features"], rtol=0, atol=1e-4)
    maps = sparsemax_maps(out.logits.numpy(), contract.temperature)
    np.testing.assert_allclose(maps, recorded["probmaps"], rtol=0, atol=1e-5)
    for ours, theirs in (("presence", "presence"), ("visibility", "visibility"), ("quality", "oks")):
        value = getattr(out, ours).sigmoid().numpy()
        np.testing.assert_allclose(value, recorded[theirs], rtol=0, atol=1e-5)
    points, _ = decode_maps(maps, contract.sigmas, contract.decode_kernel)
    np.testing.assert_allclose(points, recorded["decoded_heatmap_xy"], rtol=0, atol=1e-3)
    assert len(dropped) == 23
    assert all(name.startswith("head.error_layers.") for name in dropped)


def test_a_release_survives_as_safetensors(write: Callable[..., Path], tmp_path: Path) -> None:
    model, contract, _ = load_release(write(probpose()))
    assert contract.licence == "unknown: see the source"
    assert len(contract.checkpoint_sha256) == 64
    save_checkpoint(tmp_path / "s.safetensors", model, contract)
    again, read = load_checkpoint(tmp_path / "s.safetensors")
    assert again.sizes == model.sizes == {"channels": 24, "depth": 2, "heads": 12, "deconvolutions": (8, 12)}
    assert read.replace(checkpoint_sha256="") == contract.replace(checkpoint_sha256="")
    for one, two in zip(answers(model), answers(again), strict=True):
        assert torch.equal(one, two)


def test_half_precision_becomes_float32(write: Callable[..., Path]) -> None:
    state = probpose()
    whole, _, _ = load_release(write(state))
    halved = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    model, _, _ = load_release(write(halved))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for one, two in zip(answers(whole), answers(model), strict=True):
        torch.testing.assert_close(one, two, rtol=0.05, atol=0.05)


def test_every_value_lands_where_it_belongs(write: Callable[..., Path]) -> None:
    state = probpose()
    model, _, _ = load_release(write(state))
    ours = model.state_dict()
    for theirs, name in (
        ("backbone.patch_embed.projection.bias", "backbone.patch_embed.bias"),
        ("backbone.layers.1.ln2.weight", "backbone.blocks.1.norm2.weight"),
        ("backbone.layers.1.ffn.layers.0.0.bias", "backbone.blocks.1.mlp.fc1.bias"),
        ("backbone.layers.0.ffn.layers.1.weight", "backbone.blocks.0.mlp.fc2.weight"),
        ("head.deconv_layers.4.running_var", "map_head.deconvolutions.4.running_var"),
        ("head.probability_layers.12.bias", "presence_head.final.bias"),
        ("head.visibility_layers.8.bias", "visibility_head.layers.8.bias"),
        ("head.oks_layers.5.weight", "quality_head.layers.5.weight"),
    ):
        assert torch.equal(ours[name], state[theirs]), theirs
    used = {value.double().sum().item() for value in ours.values()}
    left_out = [name for name, value in state.items() if value.double().sum().item() not in used]
    assert all(name.startswith("head.error_layers.") for name in left_out)


@pytest.mark.parametrize("spelling", [lambda state: state, earlier_spelling], ids=["later", "earlier"])
def test_a_plain_vitpose_is_a_heatmap_model(write: Callable[..., Path], tmp_path: Path, spelling: Any) -> None:
    model, contract, dropped = load_release(write(spelling(vitpose())))
    assert (contract.model, contract.map_kind, contract.decode_kernel) == ("vitpose", "heatmap", "argmax")
    assert contract.output_names == ("logits",)
    assert not dropped
    out = model(torch.zeros(1, 3, 256, 192))
    assert out.logits.shape == (1, 17, 64, 48)
    assert out.presence is out.visibility is out.quality is out.expert_logits is None
    save_checkpoint(tmp_path / "v.safetensors", model, contract)
    again, read = load_checkpoint(tmp_path / "v.safetensors")
    assert (again.name, read.map_kind) == ("vitpose", "heatmap")
    assert torch.equal(answers(again)[0], answers(model)[0])


def test_both_spellings_are_the_same_network(write: Callable[..., Path]) -> None:
    later = answers(load_release(write(vitpose())).model)[0]
    earlier = answers(load_release(write(earlier_spelling(vitpose()))).model)[0]
    # Positions are added in another order: rounding differs.
    torch.testing.assert_close(later, earlier, rtol=1e-4, atol=1e-4)


def test_heatmaps_are_those_of_the_same_weights_with_scalar_heads(write: Callable[..., Path]) -> None:
    assert torch.equal(
        answers(load_release(write(vitpose())).model)[0], answers(load_release(write(probpose())).model)[0]
    )


def test_attention_heads_come_from_meta_else_from_the_channels(write: Callable[..., Path]) -> None:
    model, _, _ = load_release(write(vitpose(), meta={"cfg": "backbone=dict(arch=dict(embed_dims=24, num_heads=6))"}))
    assert model.backbone.blocks[0].attn.heads == 6
    assert [_heads({}, channels) for channels in (96, 384, 768, 1024, 1280)] == [12, 12, 12, 16, 16]
    assert _heads({"cfg": "{'num_heads': 8}"}, 384) == 8
    assert _heads({"cfg": "num_heads=8 … num_heads=4"}, 384) == 12


def test_meta_may_describe_the_keypoints_with_numpy_arrays(write: Callable[..., Path]) -> None:
    described = {
        "keypoint_id2name": {0: "nose", 1: "left_hand", 2: "right_hand"},
        "sigmas": np.array([0.026, 0.06, 0.06], np.float32),
        "flip_indices": [0, 2, 1],
        "skeleton_links": [(0, 1), (0, 2)],
        "keypoint_colors": np.zeros((3, 3), np.uint8),
        "weight": np.float64(2),
    }
    _, contract, _ = load_release(write(vitpose(3), meta={"dataset_meta": described}))
    assert contract.keypoint_names == ("nose", "left_hand", "right_hand")
    assert contract.flip_pairs == ((1, 2),)
    assert contract.skeleton == ((0, 1), (0, 2))
    np.testing.assert_allclose(contract.sigmas, [0.026, 0.06, 0.06], rtol=1e-6)
    broken = described | {"keypoint_id2name": {0: "nose"}}
    with pytest.raises(CheckpointError, match=r"describes its 3 keypoints in a way that cannot be used \(KeyError"):
        load_release(write(vitpose(3), meta={"dataset_meta": broken}))


def test_unknown_keypoints_need_a_skeleton(write: Callable[..., Path]) -> None:
    path = write(vitpose(3))
    with pytest.raises(CheckpointError, match=r"has 3 keypoints and does not say which; .* Pass their skeleton"):
        load_release(path)
    three = Skeleton(keypoint_names=("a", "b", "c"), edges=(), flip_pairs=(), sigmas=(0.1, 0.1, 0.1))
    assert load_release(path, skeleton=three).contract.keypoint_names == ("a", "b", "c")
    with pytest.raises(CheckpointError, match=r"must have as many keypoints as .*, 3, got 17"):
        load_release(path, skeleton=COCO_17)


def test_older_files_lack_batch_counters_and_meta(tmp_path: Path) -> None:
    path = tmp_path / "bare.pth"
    torch.save({name: value for name, value in probpose().items() if "num_batches" not in name}, path)
    model, contract = open_checkpoint(path)
    assert (model.name, contract.keypoint_names) == ("probpose-s", COCO_17.keypoint_names)


def test_parameters_are_reported_by_the_names_in_the_file(write: Callable[..., Path]) -> None:
    state = probpose()
    del state["head.oks_layers.8.bias"]
    state |= {"backbone.cls_token": torch.zeros(1, 1, C), "head.final_layer.bias": torch.zeros(18)}
    text = (
        r"exactly the parameters of a probpose-s for pictures of 192 x 256; missing: head\.oks_layers\.8\.bias; "
        r"unknown: backbone\.cls_token; misshapen: head\.final_layer\.bias \(18,\) for \(17,\)\. Pass"
    )
    with pytest.raises(CheckpointError, match=text):
        load_release(write(state))
    with pytest.raises(CheckpointError, match=r"missing: head\.oks_layers\.0\.weight, .* and \d+ more; unknown: none"):
        load_release(write({name: value for name, value in probpose().items() if "oks" not in name}))


def test_other_input_sizes_are_misshapen(write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"misshapen: backbone\.pos_embed \(1, 432, 24\) for \(1, 192, 24\)"):
        load_release(write(vitpose(), **{"backbone.pos_embed": torch.zeros(1, 432, C)}))
    # A class token belongs to the earlier spelling only.
    with pytest.raises(CheckpointError, match=r"misshapen: backbone\.pos_embed \(1, 193, 24\)"):
        load_release(write(vitpose(), **{"backbone.pos_embed": torch.zeros(1, 193, C)}))


def test_other_architectures_are_named_by_what_they_lack(write: Callable[..., Path]) -> None:
    path = write({"backbone.stem.weight": torch.zeros(1), "head.final_layer.weight": torch.zeros(17, 8, 1, 1)})
    with pytest.raises(CheckpointError, match=r"lacks backbone\.patch_embed.* it holds backbone\.stem\.weight, .* not"):
        load_release(path)
    blocks = {name: value for name, value in vitpose().items() if ".layers." not in name}
    with pytest.raises(CheckpointError, match=r"lacks backbone\.layers\.0\.ln1\.weight"):
        load_release(write(blocks))
    with pytest.raises(CheckpointError, match=r"Attention heads must divide .* 7 heads for 24"):
        load_release(write(vitpose(), meta={"cfg": "num_heads=7"}))


def test_weights_that_are_not_finite(write: Callable[..., Path]) -> None:
    path = write(vitpose(), **{"backbone.ln1.bias": torch.full((C,), float("nan"))})
    with pytest.raises(CheckpointError, match=r"must be finite, but .* in backbone\.ln1\.bias\. Take a checkpoint"):
        load_release(path)


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "code.pth", tmp_path / "trace"
    document = {"state_dict": vitpose(), "meta": {"hook": Command(f"touch {trace}")}}
    torch.save(document, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"asks to run code on loading \(\w+\.system\), which is refused"):
        load_release(path)
    torch.save({"state_dict": vitpose(), "model": torch.nn.Linear(1, 1)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear"):
        load_release(path)
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 10, 1000, 0.5, 0.999])
def test_truncated_files(tmp_path: Path, zipped: bool, kept: float) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"state_dict": vitpose()}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"must be a complete file written by torch\.save; .* Download it again"):
        load_release(path)


@pytest.mark.parametrize("content", [b"some text\n" * 9, b"\x80\x04]q\x00.", b"PK\x03\x04" + bytes(90)])
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"Download it again|must hold a state_dict of tensors"):
        load_release(path)
    with pytest.raises(CheckpointError, match=r"must be an existing \.pth file, got .*none\.pth\. Check the path"):
        load_release(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("document", "found"),
    [({"weights": 1, "a": 2}, "a, weights"), ([1], "list"), ({}, "nothing"), ({"state_dict": {"a": 1}}, "state_dict")],
)
def test_files_without_a_state_dictionary(tmp_path: Path, document: object, found: str) -> None:
    torch.save(document, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"must hold a state_dict of tensors, but .* holds: {found}\\. Pass"):
        load_release(tmp_path / "x.pth")
