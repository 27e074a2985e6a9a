"""router, and convert of what it trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch to train a router")

from probpose_models.checkpoint import checkpoint_contract, save_checkpoint  # noqa: E402
from probpose_models.probpose_m import ProbPoseM  # noqa: E402
from probpose_train import router_cache, router_samples  # noqa: E402
from probpose_train.router_samples import RouterSamples  # noqa: E402


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two small networks of random weights; the second with another padding."""
    folder = tmp_path_factory.mktemp("pair")
    torch.manual_seed(0)
    network = ProbPoseM(17, input_wh=(96, 128))
    contract = checkpoint_contract(network)
    paths = folder / "one.safetensors", folder / "padded.safetensors"
    save_checkpoint(paths[0], network, contract)
    save_checkpoint(paths[1], network, contract.replace(padding=1.5))
    return paths


def test_train_convert_and_take_the_targets_from_the_disk(
    cli: Callable[..., Any],
    members: tuple[Path, Path],
    drawn_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def collected(*_: object, samples: int, **__: object) -> RouterSamples:
        calls.append(samples)
        rng = np.random.default_rng(0)
        return RouterSamples(
            planes={(96, 128): rng.integers(0, 256, (samples, 64, 48), dtype=np.uint8)},
            small_okd=rng.uniform(0.5, 2, samples),
            large_okd=rng.uniform(0.5, 2, samples),
            small_oks=rng.random(samples),
            large_oks=rng.random(samples),
            pictures=np.arange(samples, dtype=np.int64),
        )

    monkeypatch.setattr(router_samples, "collect_router_samples", collected)
    out = tmp_path / "r.safetensors"
    data = f"{drawn_set / 'annotations.json'}:{drawn_set / 'images'}"
    command = ("router", "--small", members[0], "--large", "flip", "--data", data, "--out", out)
    outcome = cli(*command, "--samples", 40, "--epochs", 1, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["samples"] == 8
    again = cli(*command, "--samples", 40, "--epochs", 1)
    assert "Taking the targets from" in again.err
    assert "correlation of the score with the gain in OKS" in again.out
    assert calls == [40]
    assert isinstance(router_cache.load_samples(tmp_path / "no.npz", ""), type(None))

    pytest.importorskip("onnxscript", reason="needs onnxscript to write the file")
    converted = cli("convert", out, "--format", "onnx", "--precision", "fp32", "--out", tmp_path, "--calib-crops", 8)
    assert converted.code == 0, converted.err
    assert "r-fp32.onnx" in converted.out
    assert "scores within" in converted.out
    for option, text in (
        (("--decoded",), "--decoded is for pose networks"),
        (("--format", "safetensors"), "is a checkpoint already. Ask for onnx, tflite or coreml"),
    ):
        refused = cli("convert", out, *option, "--out", tmp_path)
        assert refused.code == 2
        assert text in refused.err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--out", "r.onnx"), "--out must name a .safetensors file, got 'r.onnx'. Convert it afterwards"),
        (("--size-of", "both"), "--size-of must be small or large, got 'both'"),
        (("--data", ""), "A data source is annotations.json:images/"),
        (("--large", "nowhere.onnx"), "nowhere.onnx"),
        (("--large", "padded"), "must see the same window of a person"),
    ],
)
def test_bad_input_is_one_sentence(
    options: tuple[str, str],
    text: str,
    cli: Callable[..., Any],
    members: tuple[Path, Path],
    drawn_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {
        "--small": str(members[0]),
        "--data": f"{drawn_set / 'annotations.json'}:{drawn_set / 'images'}",
        "--out": "r.safetensors",
    }
    settings[options[0]] = str(members[1]) if options[1] == "padded" else options[1]
    outcome = cli("router", *(part for pair in settings.items() for part in pair))
    assert outcome.code == 2
    assert text in outcome.err.replace("\n", " ")
    assert not list(tmp_path.glob("*.safetensors"))


def test_no_data_is_refused(cli: Callable[..., Any], members: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = cli("router", "--small", members[0], "--out", tmp_path / "r.safetensors")
    assert outcome.code == 2
    assert "A router learns from annotated pictures and got none. Pass --data" in outcome.err
