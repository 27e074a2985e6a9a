"""`calibrate --scores`: learned, closed form, back again, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from probpose_convert.write_contract import write_contract
from probpose_edge import PoseEstimator, read_contract, read_image
from probpose_edge.weights import shipped_model


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    shutil.copy(shipped_model("onnx"), path)
    return path


def data(drawn_set: Path) -> str:
    return f"{drawn_set / 'annotations.json'}:{drawn_set / 'images'}"


def scores_of(path: Path, picture: Path) -> np.ndarray:
    with PoseEstimator.open(path, threads=1) as estimator:
        return estimator(read_image(picture), [[10, 10, 200, 300]]).scores


def test_scores_are_learned_and_nothing_else_changes(cli, drawn_set: Path, onnx: Path, tmp_path: Path) -> None:
    before, original = read_contract(onnx), onnx.read_bytes()
    done = cli(
        "calibrate", onnx, "--scores", "learned", "--rounds", 1, "--data", data(drawn_set), "--out", tmp_path / "out",
        "--json",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert onnx.read_bytes() == original
    after = read_contract(tmp_path / "out" / "model.onnx")
    record = json.loads(done.out)["model.onnx"]["calibration"]
    assert (record["scores_data"], record["scores_pictures"], record["scores_rounds"]) == ("annotations.json", 6, "1")
    assert set(record.items()) <= set(after.calibration.items())
    assert len(set(str(after.calibration["picture_hashes"]).split())) >= 6
    assert after.replace(scores={}, calibration={}) == before.replace(calibration={})
    picture = next((drawn_set / "images").iterdir())
    assert scores_of(tmp_path / "out" / "model.onnx", picture) != scores_of(onnx, picture)
    # The network is the same to the byte: with one contract in both, the files are.
    write_contract(tmp_path / "out" / "model.onnx", before)
    write_contract(onnx, before)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == onnx.read_bytes()


def test_scores_are_learned_from_several_sets(cli, drawn_set: Path, onnx: Path) -> None:
    more = f"{data(drawn_set)}:0.5:no-visibility"
    done = cli("calibrate", onnx, "--scores", "learned", "--rounds", 1, "--data", data(drawn_set), "--data", more)
    assert done.code == 0
    record = read_contract(onnx).calibration
    assert record["scores_data"] == "annotations.json + annotations.json"
    assert record["scores_rounds"] == "1 + 0.5"
    assert 6 < record["scores_pictures"] < 12  # those of half of the persons, counted with the set they came from
    done = cli("calibrate", onnx, "--scores", "learned", "--data", more)
    assert done.code == 2
    assert "one set must tell: a set without :no-visibility" in " ".join(done.err.split())
    done = cli("calibrate", onnx, "--data", data(drawn_set), "--data", more)
    assert done.code == 2
    assert "Calibration takes one set, got 2 with --data. Only --scores learns from several." in done.err


def test_the_closed_form_is_set_and_taken_back_in_place(cli, drawn_set: Path, onnx: Path) -> None:
    picture, before = next((drawn_set / "images").iterdir()), read_contract(onnx)
    was = scores_of(onnx, picture)
    done = cli("calibrate", onnx, "--scores", "closed-form", "--data", data(drawn_set))
    assert (done.code, done.out.strip()) == (0, "model.onnx: scores are closed-form")
    assert read_contract(onnx).scores == {"kind": "closed-form"}
    assert scores_of(onnx, picture) != was
    assert cli("calibrate", onnx, "--scores", "mean-quality", "--data", data(drawn_set)).code == 0
    assert read_contract(onnx) == before
    assert scores_of(onnx, picture) == was


def test_other_scores_are_refused(cli, drawn_set: Path, onnx: Path) -> None:
    done = cli("calibrate", onnx, "--scores", "best", "--data", data(drawn_set))
    assert done.code != 0
    assert "The scores must be one of closed-form, learned, ccnet, mean-quality, got 'best'." in done.err


def test_pictures_that_scores_were_learned_on_are_not_judged_on(cli, drawn_set: Path, onnx: Path) -> None:
    assert cli("calibrate", onnx, "--scores", "learned", "--rounds", 1, "--data", data(drawn_set)).code == 0
    done = cli("evaluate", onnx, "--annotations", drawn_set / "annotations.json", "--images", drawn_set / "images")
    assert done.code == 2
    assert "A model must not be judged on pictures that it was calibrated on" in done.err


def test_another_calibration_takes_learned_scores_back(cli, drawn_set: Path, onnx: Path) -> None:
    """They read the numbers that it changes; the closed form has none of its own."""
    for choice, left in (("learned", {}), ("closed-form", {"kind": "closed-form"})):
        assert cli("calibrate", onnx, "--scores", choice, "--rounds", 1, "--data", data(drawn_set)).code == 0
        assert f"scores of persons: {choice}" in cli("inspect", onnx).out
        assert cli("calibrate", onnx, "--data", data(drawn_set)).code == 0
        contract = read_contract(onnx)
        assert contract.scores == left
        assert not [name for name in contract.calibration if name.startswith("scores_")]


def tiny_checkpoint(path: Path, *, heatmap: bool = False) -> Path:
    pytest.importorskip("torch", reason="needs the extra train")
    import torch

    from probpose_models import ProbPoseM, checkpoint_contract, save_checkpoint

    torch.manual_seed(0)
    model = ProbPoseM(input_wh=(96, 128), scalar_heads=not heatmap).eval()
    torch.nn.init.normal_(model.map_head.final.weight, std=0.1)
    save_checkpoint(path, model, checkpoint_contract(model))
    return path


@pytest.mark.parametrize("heatmap", [False, True])
def test_a_head_is_fitted_into_a_checkpoint_and_the_network_stays(
    cli, drawn_set: Path, tmp_path: Path, heatmap: bool
) -> None:
    path = tiny_checkpoint(tmp_path / "m.safetensors", heatmap=heatmap)
    done = cli(
        "calibrate", path, "--scores", "ccnet", "--rounds", 1, "--data", data(drawn_set), "--out", tmp_path / "out",
        "--json",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    from probpose_models import load_checkpoint

    (before, old), (after, new) = load_checkpoint(path), load_checkpoint(tmp_path / "out" / "m.safetensors")
    assert (old.confidence_head, new.confidence_head, new.scores) == (False, True, {"kind": "ccnet"})
    assert new.output_names == (*old.output_names, "confidence")
    assert new.calibration["scores_data"] == "annotations.json"
    weights = after.state_dict()
    assert all(bool((weights[name] == value).all()) for name, value in before.state_dict().items())
    # Fitted once more it is the same, and other scores are only another word in the metadata.
    assert cli(
        "calibrate", tmp_path / "out" / "m.safetensors", "--scores", "ccnet", "--rounds", 1, "--data", data(drawn_set)
    ).code == 0  # fmt: skip
    again, same = load_checkpoint(tmp_path / "out" / "m.safetensors")
    assert same.replace(checkpoint_sha256="") == new.replace(checkpoint_sha256="")
    assert all(bool((again.state_dict()[name] == value).all()) for name, value in weights.items())
    assert cli("calibrate", tmp_path / "out" / "m.safetensors", "--scores", "mean-quality").code == 0
    _, changed = load_checkpoint(tmp_path / "out" / "m.safetensors")
    assert (changed.scores, changed.confidence_head) == ({}, True)
    assert changed.calibration == new.calibration


def test_a_file_without_the_head_or_data_says_what_to_do(cli, drawn_set: Path, onnx: Path, tmp_path: Path) -> None:
    done = cli("calibrate", onnx, "--scores", "ccnet", "--data", data(drawn_set))
    assert done.code == 2
    assert "that of this onnx file of probpose-m has none. Fit one on its .safetensors checkpoint" in " ".join(
        done.err.split()
    )
    for choice, path in (("learned", onnx), ("ccnet", tiny_checkpoint(tmp_path / "m.safetensors"))):
        done = cli("calibrate", path, "--scores", choice)
        assert done.code == 2
        assert f"Scores of the kind {choice} are learned from persons. Name them: --data" in " ".join(done.err.split())
    done = cli("calibrate", onnx)
    assert done.code == 2
    assert "Calibration needs labelled persons. Name them: --data annotations.json:images/." in done.err
    few = json.loads((drawn_set / "annotations.json").read_text())
    few["annotations"] = [each for each in few["annotations"] if each["image_id"] == few["images"][0]["id"]]
    (tmp_path / "few.json").write_text(json.dumps(few))
    done = cli(
        "calibrate", tmp_path / "m.safetensors", "--scores", "ccnet", "--rounds", 1,
        "--data", f"{tmp_path / 'few.json'}:{drawn_set / 'images'}",
    )  # fmt: skip
    assert done.code == 2
    assert "Learning scores needs at least 5 pictures, one of five is held out, got 1." in " ".join(done.err.split())
