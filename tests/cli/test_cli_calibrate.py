"""`calibrate` and `data check` from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest

from probpose_convert.write_contract import write_contract
from probpose_edge import PoseEstimator, presence_threshold_for, read_contract, read_image
from probpose_edge.probabilities.calibrated_maps import calibrated_maps
from probpose_edge.weights import shipped_model
from probpose_models import load_checkpoint
from probpose_models.shipped import shipped_checkpoint


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    shutil.copy(shipped_model("onnx"), path)
    return path


def data(drawn_set: Path) -> str:
    return f"{drawn_set / 'annotations.json'}:{drawn_set / 'images'}"


def test_calibrate_writes_copies_curves_and_numbers(cli, drawn_set: Path, onnx: Path, tmp_path: Path) -> None:
    before = onnx.read_bytes()
    done = cli(
        "calibrate", onnx, "--data", data(drawn_set), "--crop-seed", 2, "--threshold", "accuracy",
        "--out", tmp_path / "out", "--plots", tmp_path / "plots", "--json",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert onnx.read_bytes() == before
    numbers = json.loads(done.out)["model.onnx"]
    contract = read_contract(tmp_path / "out" / "model.onnx")
    assert contract.calibration == numbers["calibration"]
    assert contract.presence_threshold == numbers["presence"]["fitted"]["accuracy"]["threshold"]
    assert list(contract.presence_scale) == numbers["presence_scale"]
    assert presence_threshold_for(contract, miss_rate=0.3).miss_rate <= 0.3
    assert list(contract.quality_scale) == numbers["quality_scale"] != [1.0] * 17
    assert contract.calibration["quality_ece"] == pytest.approx(numbers["quality"]["fitted"]["ece"], abs=1e-5)
    assert numbers["quality"]["fitted"]["ece"] < numbers["quality"]["before"]["ece"]
    # The network is the same to the byte: with one contract in both, the files are.
    for path in (onnx, tmp_path / "out" / "model.onnx"):
        write_contract(path, contract, tmp_path / f"{path.parent.name}.onnx")
    same = [(tmp_path / f"{path.name}.onnx").read_bytes() for path in (onnx.parent, tmp_path / "out")]
    assert same[0] == same[1]
    assert (contract.calibration["crop_seed"], contract.calibration["pictures"]) == (2, 6)
    assert contract.calibration["data"] == "annotations.json"
    assert len(str(contract.calibration["picture_hashes"]).split()) == 6
    assert len(str(contract.calibration["pictures_sha256"])) == 64
    errors = [numbers["calibration"][f"coverage_error{which}"] for which in ("_before", "")]
    assert errors[1] < errors[0]
    for name in ("coverage", "presence", "quality"):
        picture = cv2.imread(str(tmp_path / "plots" / f"model.onnx-{name}.png"))
        assert picture.shape == (550, 550, 3)
        # Both curves are in it: red and blue pixels.
        b, g, r = (picture[..., i].astype(int) for i in range(3))
        assert ((r - b > 80) & (r - g > 80)).sum() > 100
        assert ((b - r > 80) & (b - g > 40)).sum() > 100
    # The file runs and its maps can be calibrated.
    image = read_image(next((drawn_set / "images").iterdir()))
    with PoseEstimator.open(tmp_path / "out" / "model.onnx") as estimator:
        assert estimator.presence_threshold == contract.presence_threshold
        logits = estimator.runtime.run(cv2.resize(image, (192, 256))[None]).logits
    assert calibrated_maps(logits, contract).sum(axis=(2, 3)) == pytest.approx(1, abs=1e-5)


def test_calibrate_changes_checkpoints_in_place(cli, drawn_set: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(shipped_checkpoint(), path)
    network, contract = load_checkpoint(path)
    done = cli("calibrate", path, "--data", data(drawn_set))
    assert done.code == 0
    assert "model.safetensors: " in done.out
    assert "coverage error of the maps" in done.out
    assert "quality, correlation with the true OKS" in done.out
    assert "stored: the balanced threshold, " in done.out
    again, after = load_checkpoint(path)
    assert after.checkpoint_sha256 != contract.checkpoint_sha256
    assert after.presence_scale != contract.presence_scale
    for name, value in network.state_dict().items():
        assert value.equal(again.state_dict()[name]), name
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    done = cli("calibrate", path, "--data", data(drawn_set), "--threshold", 0.8)
    assert "stored: the given threshold, 0.8000" in done.out
    given = load_checkpoint(path)[1]
    assert given.presence_threshold == 0.8
    assert given.calibration["presence_threshold_balanced"] == after.presence_threshold != 0.8


def test_calibrate_names_what_is_wrong(
    cli, drawn_set: Path, onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = cli("calibrate", onnx, "--data", "somewhere.json")
    assert failed.code == 2
    assert failed.err == (
        "error: A data set is written annotations.json:images/, got 'somewhere.json'. Name both parts.\n"
    )
    failed = cli("calibrate", tmp_path / "published.pth", "--data", data(drawn_set))
    assert "Metadata can be written into .onnx, .tflite, .mlpackage and .safetensors files" in failed.err
    failed = cli("calibrate", onnx, "--data", data(drawn_set), "--threshold", "best")
    assert "The threshold must be one of balanced, accuracy, or a number between 0 and 1, got 'best'." in failed.err
    (tmp_path / "model.onnx").touch()
    failed = cli("calibrate", onnx, tmp_path / "model.onnx", "--data", data(drawn_set))
    assert "calibrate needs files of different names" in failed.err
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    failed = cli("calibrate", onnx, "--data", data(drawn_set), "--plots", tmp_path / "plots")
    assert failed.code == 2
    assert 'Drawing calibration curves needs the package "matplotlib"' in failed.err
    assert 'pip install "probpose-edge[eval]"' in failed.err
    assert not (tmp_path / "plots").exists()


def test_data_check_of_a_sound_set(cli, drawn_set: Path) -> None:
    done = cli("data", "check", data(drawn_set), "--crop-seed", 1)
    assert done.code == 0
    assert "6 images (6 readable)" in done.out
    assert "cropped with seed 1" in done.out
    assert done.out.rstrip().endswith("Nothing is broken.")


def test_data_check_of_broken_sets_gives_exit_code_1(cli, drawn_set: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn_set, tmp_path / "bad")
    document = json.loads((tmp_path / "bad" / "annotations.json").read_text())
    document["annotations"][0]["num_keypoints"] = 99
    (tmp_path / "bad" / "annotations.json").write_text(json.dumps(document))
    next((tmp_path / "bad" / "images").iterdir()).unlink()
    sources = (data(drawn_set), data(tmp_path / "bad"))
    done = cli("data", "check", *sources)
    assert done.code == 1
    for text in ("missing picture", "num_keypoints unlike the keypoints", "leakage: the same picture", "broken"):
        assert text in done.out
    document = json.loads(cli("data", "check", *sources, "--json").out)
    assert document["broken"] is True
    broken = [any(finding["broken"] for finding in one["findings"]) for one in document["sets"]]
    assert broken == [False, True]
    (pair,) = document["between"]
    assert {finding["kind"]: finding["count"] for finding in pair["findings"]} == {"leakage: the same picture": 5}
    missing = cli("data", "check", tmp_path / "nothing.json")
    assert missing.code == 2
    assert "nothing.json cannot be read" in missing.err
