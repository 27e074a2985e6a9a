"""Checkpoints: round trip, precision, and refusal of everything that is not one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from probpose_edge.contract.metadata import METADATA_KEY
from probpose_edge.exceptions import CheckpointError, MetadataError
from probpose_models.checkpoint import build_model, checkpoint_contract, load_checkpoint, save_checkpoint
from probpose_models.torch_runtime import TorchRuntime


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_model("probpose-m")
    path = tmp_path_factory.mktemp("checkpoint") / "m.safetensors"
    save_checkpoint(path, model, checkpoint_contract(model))
    return path


def test_round_trip_keeps_weights_and_contract(saved: Path) -> None:
    torch.manual_seed(0)
    original = build_model("probpose-m")
    model, contract = load_checkpoint(saved)
    assert not model.training
    assert contract.model == "probpose-m"
    assert len(contract.checkpoint_sha256) == 64
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, original.state_dict()[name])


def test_half_precision_halves_the_file_and_loads_as_float32(saved: Path, tmp_path: Path) -> None:
    model, contract = load_checkpoint(saved)
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, model, contract.replace(precision="fp16"))
    assert half.stat().st_size < 0.52 * saved.stat().st_size
    loaded, _ = load_checkpoint(half)
    assert next(loaded.parameters()).dtype == torch.float32
    assert list(tmp_path.iterdir()) == [half]


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (b"PK not safetensors", CheckpointError, "complete .safetensors file"),
        (None, CheckpointError, "existing .safetensors file"),
    ],
)
def test_foreign_and_missing_files(tmp_path: Path, content: bytes | None, error: type, text: str) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=text):
        load_checkpoint(path)


def test_truncated_file(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="Train or download it again"):
        load_checkpoint(path)


def test_missing_metadata_and_other_parameters(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(MetadataError, match="no probpose-edge metadata"):
        load_checkpoint(path)
    _, contract = load_checkpoint(saved)
    save_file({"a": torch.zeros(1)}, path, metadata={METADATA_KEY: contract.to_json()})
    with pytest.raises(CheckpointError, match=r"missing: \['backbone.*unknown: \['a'\]"):
        load_checkpoint(path)


def test_unknown_model_name() -> None:
    with pytest.raises(
        CheckpointError, match="must be one of probpose-m, probpose-s, probpose-m-dh, probpose-s-dh, got 'hrnet'"
    ):
        build_model("hrnet")


def test_a_full_disk_leaves_nothing(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, contract = load_checkpoint(saved)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path / "m.safetensors", model, contract)
    assert list(tmp_path.iterdir()) == []


def test_torch_runtime_takes_any_batch(saved: Path) -> None:
    model, _ = load_checkpoint(saved)
    runtime = TorchRuntime(model, batch_size=2)
    crops = np.random.default_rng(0).integers(0, 256, (3, 256, 192, 3), dtype=np.uint8)
    whole, one = runtime.run(crops), runtime.run(crops[2:])
    np.testing.assert_allclose(whole.logits[2:], one.logits, atol=1e-5)
    assert runtime.run(crops[:0]).presence.shape == (0, 17)
