"""Whole runs on a few drawn people: log, checkpoints, resume, and refusals."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from probpose_edge.exceptions import AnnotationError, InputError, TrainingError
from probpose_eval.synth.set import write_synth_set
from probpose_models.checkpoint import load_checkpoint
from probpose_train.augment import PlannedSample, TrainSample
from probpose_train.config import DataSource, TrainConfig, parse_source
from probpose_train.dataset import SampleStream
from probpose_train.run_folder import load_state, read_config
from probpose_train.training_loop import resume, train

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    write_synth_set(folder, count=3, seed=1, width=160, height=160, persons=(1, 1))
    return folder


def config_of(drawn: Path, **changes: object) -> TrainConfig:
    settings: dict[str, object] = {
        "sources": (DataSource(annotations=str(drawn / "annotations.json"), images=str(drawn / "images")),),
        "input_wh": (96, 128),
        "samples": 8,
        "samples_per_epoch": 4,
        "batch_size": 2,
        "device": "cpu",
        "bf16": "off",
    }
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]


def test_a_run_logs_validates_and_resumes_to_the_same_weights(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    val = {"val_annotations": str(drawn / "annotations.json"), "val_images": str(drawn / "images")}
    config = config_of(drawn, accumulate=2, batch_size=4, samples=16, samples_per_epoch=8, **val)
    whole = train(config, tmp_path / "whole", console=QUIET)
    rows = list(csv.DictReader((tmp_path / "whole" / "log.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4"]
    for name in ("val_mean_oks", "val_AP", "val_Ex-AP"):
        assert 0 <= float(rows[-1][name]) <= 1
    assert list((tmp_path / "whole" / "tensorboard").iterdir())

    import probpose_train.training_loop as loop

    original, calls = loop.training_step, []

    def interrupted(*args: object) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut", console=QUIET)
    monkeypatch.setattr(loop, "training_step", original)
    assert load_state(tmp_path / "cut")["step"] == 2
    assert not list((tmp_path / "cut").glob(".*"))
    resume(tmp_path / "cut", console=QUIET)
    for name in ("last.safetensors", "best.safetensors"):
        one, _ = load_checkpoint(whole.with_name(name))
        two, _ = load_checkpoint(tmp_path / "cut" / name)
        for key, value in one.state_dict().items():
            torch.testing.assert_close(two.state_dict()[key], value, rtol=0, atol=0)


def test_frozen_blocks_stay_as_they_are(drawn: Path, tmp_path: Path) -> None:
    start = train(config_of(drawn, samples=2), tmp_path / "start", console=QUIET)
    best = train(config_of(drawn, freeze=4, init_from=str(start)), tmp_path / "tuned", console=QUIET)
    before, after = load_checkpoint(start)[0].state_dict(), load_checkpoint(best)[0].state_dict()
    for name, value in before.items():
        if name.startswith(tuple(f"backbone.features.{i}." for i in range(4))):
            torch.testing.assert_close(after[name], value, rtol=0, atol=0)
    name = "map_head.fuse4.0.weight"
    assert not torch.equal(after[name], before[name])


def test_a_loss_that_is_not_finite_stops_the_run_before_the_weights_move(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SampleStream.__getitem__

    def poisoned(stream: SampleStream, index: int) -> TrainSample | PlannedSample:
        sample = original(stream, index)
        # samples.png draws the first samples, so the bad one lies behind them.
        lost = np.full_like(sample.points_cell, np.nan) if index == 20 else sample.points_cell
        return dataclasses.replace(sample, points_cell=lost, map_mask=np.ones_like(sample.map_mask))

    monkeypatch.setattr(SampleStream, "__getitem__", poisoned)
    config = config_of(drawn, samples=32, samples_per_epoch=16, batch_size=8)
    message = r"at step 3 \(samples 16 to 23\) the loss is nan.*were not changed.*lower the learning rate.*--init-from"
    with pytest.raises(TrainingError, match=message):
        train(config, tmp_path / "run", console=QUIET)
    assert load_state(tmp_path / "run")["step"] == 2
    model, _ = load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_full_disk_says_how_to_go_on_and_keeps_the_checkpoint_before(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, calls = os.replace, []

    def fills_up(source: str, target: str) -> None:
        calls.append(Path(target).name)
        if calls.count("last.safetensors") == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fills_up)
    with pytest.raises(TrainingError, match=r"No space left on device.*--resume"):
        train(config_of(drawn), tmp_path / "run", console=QUIET)
    monkeypatch.undo()
    assert load_state(tmp_path / "run")["step"] == 2
    assert not list((tmp_path / "run").glob(".*"))
    resume(tmp_path / "run", console=QUIET)
    assert load_state(tmp_path / "run")["step"] == 4


def test_refusals_before_anything_is_written(drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(AnnotationError, match="does not exist"):
        train(config_of(drawn, sources=(DataSource(annotations="no.json", images="."),)), out, console=QUIET)
    with pytest.raises(AnnotationError):
        missing = DataSource(annotations=str(drawn / "annotations.json"), images=str(tmp_path))
        train(config_of(drawn, sources=(missing,)), out, console=QUIET)
    document = json.loads((drawn / "annotations.json").read_text())
    document["categories"][0]["keypoints"].reverse()
    (tmp_path / "other.json").write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match="same order"):
        other = DataSource(annotations=str(tmp_path / "other.json"), images=str(drawn / "images"))
        train(config_of(drawn, sources=(*config_of(drawn).sources, other)), out, console=QUIET)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="needs a GPU"):
            train(config_of(drawn, device="cuda"), out, console=QUIET)
    assert not out.exists()


def test_resume_and_new_runs_respect_the_folder(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--resume needs a folder"):
        resume(tmp_path, console=QUIET)
    train(config_of(drawn, samples=2), tmp_path / "run", console=QUIET)
    with pytest.raises(TrainingError, match="already holds one"):
        train(config_of(drawn, samples=2), tmp_path / "run", console=QUIET)
    (tmp_path / "run" / "training_state.pt").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="must be a whole state of a training, but reading it failed"):
        resume(tmp_path / "run", console=QUIET)


def test_configuration_round_trip_and_checks(drawn: Path, tmp_path: Path) -> None:
    config = config_of(drawn)
    assert TrainConfig.from_json(config.to_json()) == config
    (tmp_path / "config.json").write_text(config.to_json().replace('"seed"', '"sead"'))
    with pytest.raises(TrainingError, match="sead"):
        read_config(tmp_path)
    for changes, text in (
        ({"batch_size": 1}, "at least 2"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"learning_rate": -1.0}, "must be positive"),
        ({"device": "tpu"}, "auto, cpu or cuda"),
        ({"accumulate": 2}, "at least 2 in each of its equal parts"),
        ({"layer_decay": 0.0}, r"layer_decay must lie in \(0, 1\]"),
        ({"drop_path": 1.0}, "drop_path is a probability"),
        ({"select_by": "AP"}, "select_by must be Ex-AP or mean-OKS"),
        ({"patience": 3}, "without one. Pass --val too"),
        ({"val_crop_annotations": "c.json"}, "stands beside a plain one"),
        ({"sources": ()}, "at least one data source"),
    ):
        with pytest.raises(InputError, match=text):
            dataclasses.replace(config, **changes)


def test_sources_on_the_command_line() -> None:
    assert parse_source("synth:0.5") == DataSource(annotations="synth", share=0.5)
    assert parse_source("a.json:pics:2:no-visibility") == DataSource(
        annotations="a.json", images="pics", share=2.0, visibility_labelled=False
    )
    for text in ("a.json", "a.json:pics:x", "a.json:pics:1:maybe"):
        with pytest.raises(InputError, match=r"annotations\.json:images/"):
            parse_source(text)
