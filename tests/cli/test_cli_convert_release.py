"""`convert` and `inspect` on published checkpoints: the files they make, and one sentence per failure."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from probpose_edge import COCO_17, decode_maps  # noqa: E402
from probpose_edge.contract.read_contract import read_contract  # noqa: E402
from probpose_edge.probmap import sparsemax_maps  # noqa: E402
from probpose_edge.runtimes.onnx import OnnxRuntime  # noqa: E402
from probpose_models import ProbPoseS, load_checkpoint  # noqa: E402
from probpose_models.release_names import ReleaseNames  # noqa: E402

Cli = Callable[..., "Outcome"]  # noqa: F821 (defined in conftest)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny published ProbPose with random weights."""
    torch.manual_seed(0)
    model = ProbPoseS(channels=24, depth=1, deconvolutions=(8, 8))
    names = ReleaseNames(["backbone.layers.0", "head."])
    state = {names.of(name): value for name, value in model.state_dict().items()}
    path = tmp_path_factory.mktemp("release") / "ProbPose-s.pth"
    torch.save({"state_dict": state | {"head.error_layers.0.bias": torch.zeros(24)}, "meta": {}}, path)
    return path


def test_only_the_safetensors(cli: Cli, release: Path, tmp_path: Path) -> None:
    done = cli("convert", release, "--format", "safetensors", "--out", tmp_path / "out", "--json")
    assert done.code == 0
    (entry,) = json.loads(done.out)
    assert entry["path"] == str(tmp_path / "out" / "probpose-s.safetensors")
    assert "Left out the error head of" in done.err
    assert "(1 parameters): no result depends on it" in done.err
    model, contract = load_checkpoint(Path(entry["path"]))
    assert model.sizes == {"channels": 24, "depth": 1, "heads": 12, "deconvolutions": (8, 8)}
    assert contract.licence == "unknown: see the source"
    assert list((tmp_path / "out").iterdir()) == [Path(entry["path"])]


def test_a_plain_vitpose_says_what_it_becomes(cli: Cli, release: Path, tmp_path: Path) -> None:
    state = torch.load(release, weights_only=True)["state_dict"]
    plain = {name: value for name, value in state.items() if "_layers" not in name or "deconv" in name}
    plain |= {name: state[name] for name in ("head.final_layer.weight", "head.final_layer.bias")}
    path = tmp_path / "vitpose.pth"
    torch.save({"state_dict": plain}, path)
    done = cli("convert", path, "--format", "safetensors", "--out", tmp_path)
    assert done.code == 0
    assert "has no presence head: it becomes a heatmap model whose peaks are confidences" in done.err
    assert (tmp_path / "vitpose.safetensors").exists()
    shown = json.loads(cli("inspect", path, "--json").out)
    assert (shown["model"], shown["map_kind"], shown["decode_kernel"]) == ("vitpose", "heatmap", "argmax")


@pytest.mark.slow
@pytest.mark.shared
def test_the_tiny_release_becomes_an_onnx_file_with_the_recorded_results(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    """Maps within 2e-5, twice the bound of the network itself: onnxruntime adds in another order."""
    source = shared / "reference" / "probpose_release_tiny.pth"
    done = cli("convert", source, "--format", "onnx,safetensors", "--precision", "fp32", "--out", tmp_path)
    assert done.code == 0, done.err
    recorded = np.load(shared / "reference" / "forward_tiny.npz", allow_pickle=False)
    runtime = OnnxRuntime(tmp_path / "probpose-s-fp32.onnx")
    contract = read_contract(tmp_path / "probpose-s-fp32.onnx")
    raw = runtime.run(recorded["image_rgb_uint8"])
    maps = sparsemax_maps(raw.logits, contract.temperature)
    np.testing.assert_allclose(maps, recorded["probmaps"], rtol=0, atol=2e-5)
    for ours, theirs in (("presence", "presence"), ("visibility", "visibility"), ("quality", "oks")):
        np.testing.assert_allclose(getattr(raw, ours), recorded[theirs], rtol=0, atol=1e-5)
    points, _ = decode_maps(maps, COCO_17.sigmas, contract.decode_kernel)
    np.testing.assert_allclose(points, recorded["decoded_heatmap_xy"], rtol=0, atol=1e-3)
    assert contract.presence_threshold == 0.45


@pytest.mark.parametrize(
    ("change", "arguments", "text"),
    [
        (lambda content: content[: len(content) // 2], (), "must be a complete file written by torch.save"),
        (lambda content: b"text", (), "Download it again"),
        (None, (), "must be an existing .pth file"),
        (lambda content: content, ("--skeleton", "mpii-16"), "must have as many keypoints"),
        (lambda content: content, ("--skeleton", "nowhere.json"), "nowhere.json cannot be read"),
        (lambda content: content, ("--format", "keras"), "--format takes"),
    ],
)
def test_one_sentence_per_bad_release(
    cli: Cli, release: Path, tmp_path: Path, change: Callable[[bytes], bytes] | None, arguments: tuple, text: str
) -> None:
    path, out = tmp_path / "x.pth", tmp_path / "out"
    if change is not None:
        path.write_bytes(change(release.read_bytes()))
    done = cli("convert", path, "--format", "safetensors", *arguments, "--out", out)
    assert done.code == 2
    assert text in done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert not out.exists()


def test_pickled_code_and_other_networks_in_one_sentence(cli: Cli, release: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "model": torch.nn.Linear(1, 1)}, tmp_path / "code.pth")
    torch.save({"state_dict": torch.nn.Linear(1, 1).state_dict()}, tmp_path / "other.pth")
    for name, text in (("code.pth", "asks to run code on loading"), ("other.pth", "Networks of another architecture")):
        done = cli("convert", tmp_path / name, "--format", "onnx", "--out", tmp_path / "out")
        assert done.code == 2
        assert text in done.err
        assert not (tmp_path / "out").exists()
    done = cli("convert", tmp_path / "x.safetensors", "--skeleton", "coco-17", "--out", tmp_path / "out")
    assert "--skeleton describes the keypoints of a .pth" in done.err


def test_a_full_disk_leaves_nothing_half_written(
    cli: Cli, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    done = cli("convert", release, "--format", "safetensors", "--out", tmp_path / "out")
    assert done.code == 2
    assert "The disk is full" in done.err
    assert list((tmp_path / "out").iterdir()) == []
