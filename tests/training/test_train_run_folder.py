"""What a run leaves for another person: environment, data, README, curves, pictures."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from torch.optim.swa_utils import AveragedModel

from probpose_edge.exceptions import TrainingError
from probpose_eval.synth.set import write_synth_set
from probpose_models.checkpoint import build_model, checkpoint_contract
from probpose_train.config import DataSource, TrainConfig
from probpose_train.describe_run import describe_data, readme, write_data, write_environment
from probpose_train.distributed import Group
from probpose_train.draw_curves import write_curves
from probpose_train.draw_samples import Shown, draw_truth, shown_of_training, shown_of_validation
from probpose_train.early_stopping import Progress
from probpose_train.losses import Targets
from probpose_train.prepare import prepare
from probpose_train.report_run import _curves
from probpose_train.run_folder import append_log, drop_log_after, load_state, read_log, save_state
from probpose_train.state import TrainingState, capture, restore

CPU = torch.device("cpu")
SYNTH = (DataSource(annotations="synth"),)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    write_synth_set(folder, count=2, seed=1, width=160, height=160, persons=(1, 1))
    return folder


def test_every_start_is_recorded(tmp_path: Path) -> None:
    write_environment(tmp_path, Group(), 0)
    write_environment(tmp_path, Group(size=2), 40)
    first, second = json.loads((tmp_path / "environment.json").read_text())
    assert (first["from_step"], second["from_step"]) == (0, 40)
    assert second["processes"] == 2
    assert first["versions"]["torch"] == torch.__version__
    assert first["command"]


def test_data_is_recorded_with_hashes_that_tell_when_it_changes(drawn: Path, tmp_path: Path) -> None:
    annotations = tmp_path / "copy.json"
    annotations.write_bytes((drawn / "annotations.json").read_bytes())
    source = DataSource(annotations=str(annotations), images=str(drawn / "images"))
    config = TrainConfig(
        sources=(source, *SYNTH), val_annotations=str(annotations), val_images=str(drawn / "images"), input_wh=(96, 128)
    )
    data = describe_data(config, prepare(config, CPU))
    assert data["training"][0]["persons"] == data["training"][0]["pictures"] == 2
    assert data["training"][1] == {"annotations": "synth", "share": 1.0}
    assert data["validation"]["val"]["sha256"] == data["training"][0]["sha256"]
    assert write_data(tmp_path, data) == []
    assert write_data(tmp_path, data) == []
    annotations.write_text(annotations.read_text() + " ")
    assert write_data(tmp_path, describe_data(config, prepare(config, CPU))) == [str(annotations)]


def test_the_readme_names_the_best_report_and_every_file() -> None:
    config = TrainConfig(sources=SYNTH, val_annotations="v.json", val_images="v")
    rows = [
        {"step": 10.0, "total": 2.0, "val_mean_oks": 0.5, "val_Ex-AP": 0.2},
        {"step": 20.0, "total": 1.0, "val_mean_oks": 0.4, "val_Ex-AP": 0.3},
    ]
    text = readme(config, rows)
    assert "Best by Ex-AP: step 20, total 1, val_mean_oks 0.4, val_Ex-AP 0.3." in text
    assert "step 10," in readme(dataclasses.replace(config, select_by="mean-OKS"), rows)
    for name in ("best.safetensors", "training_state.pt", "environment.json", "data.json", "samples.png", "maps.png"):
        assert f"`{name}`" in text
    assert "Best by" not in readme(config, [])


def test_curves_are_drawn_from_a_log_whose_columns_change(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_curves(tmp_path)
    assert not (tmp_path / "curves.png").exists()
    append_log(tmp_path, {"step": 1, "total": 2.5, "oks": 1.0})
    append_log(tmp_path, {"step": 2, "total": 2.0, "oks": 0.5, "val_mean_oks": 0.1})
    assert read_log(tmp_path)[1] == {"step": 2.0, "total": 2.0, "oks": 0.5, "val_mean_oks": 0.1}
    write_curves(tmp_path)
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture is not None
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_without_matplotlib_a_run_says_so_once_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = io.StringIO()
    draw = _curves(Console(file=said, width=200))
    append_log(tmp_path, {"step": 1, "total": 2.5})
    draw(tmp_path)
    draw(tmp_path)
    assert said.getvalue().count("curves.png is not drawn") == 1
    assert "probpose-edge[eval]" in said.getvalue()
    assert not (tmp_path / "curves.png").exists()


def test_a_truth_is_drawn_where_it_is_and_only_if_known() -> None:
    contract = checkpoint_contract(build_model("probpose-m"))
    no, zeros = torch.zeros(1, 17, dtype=torch.bool), torch.zeros(1, 17)
    targets = Targets(torch.zeros(1, 17, 2), no, zeros, no.clone(), zeros.clone(), no.clone(), torch.ones(1))
    crop = np.full((1, 256, 192, 3), 100, np.uint8)
    plain = draw_truth(Shown(crops=crop, targets=targets), 0, contract)
    assert (plain == 100).all()
    targets.points_cell[0, 5] = torch.tensor([20.0, 30.0])
    targets.map_mask[0, 5] = targets.presence_mask[0, 5] = True
    # Left shoulder: orange, at twice the crop's pixels.
    canvas = draw_truth(Shown(crops=crop, targets=targets), 0, contract)
    x, y = round(20 / 47 * 383), round(30 / 63 * 511)
    assert canvas[y, x].tolist() == [0, 140, 255]
    assert (np.argwhere((canvas != 100).any(-1)).mean(0).round() == (y, x)).all()
    # In a larger window the same cell lies farther from the center.
    wide = draw_truth(Shown(crops=crop, targets=targets), 0, contract.replace(window_ratio=1.25))
    assert wide[round(255.5 + (y - 255.5) * 1.25), round(191.5 + (x - 191.5) * 1.25)].tolist() == [0, 140, 255]


def test_shown_validation_crops_come_with_their_truth(drawn: Path) -> None:
    config = TrainConfig(
        sources=SYNTH,
        val_annotations=str(drawn / "annotations.json"),
        val_images=str(drawn / "images"),
        input_wh=(96, 128),
        samples=4,
        augment_on="device",
    )
    prepared = prepare(config, CPU)
    shown = shown_of_validation(prepared.validation["val"], prepared.contract, 5)
    assert shown.crops.shape == (2, 128, 96, 3)
    keypoints = prepared.validation["val"].annotations.persons[0].keypoints
    assert int(shown.targets.map_mask[0].sum()) == int(np.isin(keypoints[:, 2], (1, 2)).sum())
    assert shown_of_training(prepared.stream, prepared.contract, 3).crops.shape == (3, 128, 96, 3)


def tiny_state(seed: int) -> TrainingState:
    torch.manual_seed(seed)
    model = nn.Linear(2, 2)
    return TrainingState(model=model, average=AveragedModel(model), optimizer=torch.optim.AdamW(model.parameters()))


def test_a_state_of_an_earlier_version_continues(tmp_path: Path) -> None:
    config, old = TrainConfig(sources=SYNTH), tiny_state(0)
    saved = capture(old, config)
    for name in ("score", "waited", "select_by"):
        del saved[name]
    save_state(tmp_path, {**saved, "step": 7, "best": 0.4, "rng": torch.get_rng_state()})
    state = tiny_state(1)
    restore(state, load_state(tmp_path))
    assert state.step == 7
    assert state.progress == Progress(score=(0.4, 0.4))
    assert torch.equal(state.model.weight, old.model.weight)
    now = tiny_state(2)
    now.progress, now.step = Progress(score=(0.3, 0.5), waited=2), 9
    save_state(tmp_path, capture(now, config))
    restore(state, load_state(tmp_path))
    assert (state.step, state.progress) == (9, now.progress)


def test_a_state_that_is_missing_or_damaged_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"stopped before its first checkpoint: start it again"):
        load_state(tmp_path)
    (tmp_path / "training_state.pt").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="--init-from"):
        load_state(tmp_path)


def test_rows_of_steps_to_be_repeated_leave_the_log(tmp_path: Path) -> None:
    drop_log_after(tmp_path, 0)
    for step in (100, 200, 300):
        append_log(tmp_path, {"step": step, "total": step / 7})
    drop_log_after(tmp_path, 200)
    assert [row["step"] for row in read_log(tmp_path)] == [100, 200]
    append_log(tmp_path, {"step": 300, "total": 1.0, "val_AP": 0.5})
    assert [row["total"] for row in read_log(tmp_path)] == [
        pytest.approx(100 / 7, rel=1e-5),
        pytest.approx(200 / 7, rel=1e-5),
        1.0,
    ]
