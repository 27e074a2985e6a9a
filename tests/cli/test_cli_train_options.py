"""`probpose-edge train`: the recipe of the model, and what options change in it."""

from __future__ import annotations

from pathlib import Path

import pytest

import probpose_train
from probpose_train import TrainConfig, recommended_config
from probpose_train.config import DataSource

SYNTH = (DataSource(annotations="synth"),)


@pytest.fixture
def configured(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The configuration that a command line makes, without training."""
    seen: list[TrainConfig] = []

    def remember(config: TrainConfig, folder: Path, **_: object) -> Path:
        seen.append(config)
        return folder / "best.safetensors"

    monkeypatch.setattr(probpose_train, "train", remember)

    def call(*options: str) -> TrainConfig:
        result = cli("train", "--data", "synth", "--out", tmp_path / "run", *options)
        assert result.code == 0, result.err
        return seen[-1]

    return call


def test_without_options_a_model_has_its_recipe(configured) -> None:  # type: ignore[no-untyped-def]
    assert configured() == recommended_config(sources=SYNTH, model="probpose-m")
    assert configured("--model", "probpose-s-dh") == recommended_config(sources=SYNTH, model="probpose-s-dh")


def test_options_win_over_the_recipe(configured) -> None:  # type: ignore[no-untyped-def]
    config = configured(
        "--model", "probpose-s", "--batch-size", "128", "--accumulate", "4", "--alignment", "1", "--patience", "3",
        "--val", "a.json:pics", "--val-crop", "c/a.json:c/images", "--select-by", "mean-OKS", "--compile",
        "--augment-on", "device", "--teacher", "t.onnx", "--input-size", "96x128",
    )  # fmt: skip
    assert config.learning_rate == pytest.approx(1e-4)
    assert (config.layer_decay, config.loss.alignment, config.accumulate, config.patience) == (0.8, 1.0, 4, 3)
    assert (config.val_annotations, config.val_images) == ("a.json", "pics")
    assert (config.val_crop_annotations, config.val_crop_images) == ("c/a.json", "c/images")
    assert (config.select_by, config.compile, config.augment_on) == ("mean-OKS", True, "device")
    assert (config.teacher, config.input_wh) == ("t.onnx", (96, 128))
    assert TrainConfig.from_json(config.to_json()) == config


def test_drawn_people_cannot_validate(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = cli("train", "--data", "synth", "--out", tmp_path / "run", "--val", "synth")
    assert result.code == 2
    assert "--val needs an annotated set" in result.err


def test_a_size_of_crops_has_two_numbers(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = cli("train", "--data", "synth", "--out", tmp_path / "run", "--input-size", "96")
    assert result.code == 2
    assert "--input-size is width x height in pixels, got '96'" in result.err
