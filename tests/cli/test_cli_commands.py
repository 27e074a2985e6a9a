"""Commands on drawn pictures with the shipped files, and the one sentence that every failure gives."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from probpose_cli.demo import BEYOND_BGR, TILE_WH, TILES_PER_ROW, contact_sheet
from probpose_edge import PoseEstimator
from probpose_edge.weights import shipped_model

Cli = Callable[..., "Outcome"]  # noqa: F821 (defined in conftest)


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version").out.startswith("probpose-edge 0.")
    shown = cli("--help").out
    for command in ("demo", "predict", "convert", "evaluate", "report", "train", "inspect", "data"):
        assert command in shown


def test_predict_writes_pictures_and_results(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    done = cli("predict", drawn_set / "images", "--out", tmp_path / "poses")
    assert done.code == 0
    results = json.loads((tmp_path / "poses" / "results.json").read_text())
    assert len(results) == 6
    assert {len(result["keypoints"]) for result in results} == {51}
    assert len(list((tmp_path / "poses").glob("*.png"))) == 6
    assert "absent:" in done.out


def test_predict_takes_a_model_and_boxes_and_prints_json(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    picture = sorted((drawn_set / "images").iterdir())[0]
    done = cli(
        "predict", shipped_model("tflite"), picture, "--box", "10,10,200,300", "--box", "50,20,300,300", "--json",
        "--no-draw", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 0
    assert [r["bbox"] for r in json.loads(done.out)] == [[10.0, 10.0, 190.0, 290.0], [50.0, 20.0, 250.0, 280.0]]


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"no picture", "nopic.jpg"), (None, "There is no picture")],
)
def test_predict_refuses_what_is_no_picture(cli: Cli, tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "nopic.jpg"
    if content is not None:
        path.write_bytes(content)
    done = cli("predict", path, "--out", tmp_path / "out")
    assert done.code == 2
    assert text in done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("shape", [(120, 100), (120, 100, 4), (1, 1, 3)], ids=["grey", "with alpha", "one pixel"])
def test_predict_takes_unusual_pictures(cli: Cli, tmp_path: Path, shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), picture)
    cv2.imwrite(str(tmp_path / "deep.png"), picture.astype(np.uint16) * 257)
    assert cli("predict", tmp_path / "x.png", tmp_path / "deep.png", "--out", tmp_path / "out").code == 0


def test_bad_boxes_and_folders(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    picture = sorted((drawn_set / "images").iterdir())[0]
    for box, text in (("1,2,3", "four numbers"), ("50,50,10,60", "reversed"), ("nan,0,5,5", "finite")):
        done = cli("predict", picture, "--box", box, "--out", tmp_path / "out")
        assert done.code == 2
        assert text in done.err
    (tmp_path / "empty").mkdir()
    assert "found none" in cli("predict", tmp_path / "empty").err


def test_bad_model_files(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    picture = sorted((drawn_set / "images").iterdir())[0]
    (tmp_path / "no.onnx").write_bytes(b"no model")
    for model in (tmp_path / "no.onnx", tmp_path / "missing.tflite"):
        done = cli("predict", model, picture)
        assert done.code == 2
        assert done.err.startswith("error: ")


def test_inspect_prints_the_contract(cli: Cli) -> None:
    assert "probpose-m, onnx int8" in cli("inspect", shipped_model("onnx")).out
    contract = json.loads(cli("inspect", "--json", shipped_model("tflite")).out)
    assert contract["input_wh"] == [192, 256]
    assert len(contract["sigmas"]) == 17
    assert contract["accuracy"]


def test_data_synth_and_crop(cli: Cli, tmp_path: Path) -> None:
    assert cli("data", "synth", "--out", tmp_path / "a", "--count", 3, "--seed", 5).code == 0
    done = cli("data", "crop", tmp_path / "a" / "annotations.json", tmp_path / "a" / "images", "--out", tmp_path / "b")
    assert done.code == 0
    cropped = json.loads((tmp_path / "b" / "annotations.json").read_text())
    assert any(v == 3 for a in cropped["annotations"] for v in a["keypoints"][2::3])
    again = cli("data", "synth", "--out", tmp_path / "a", "--count", 3)
    assert again.code == 2
    assert "new or empty" in again.err or "must not exist" in again.err


def test_evaluate_prints_a_table_and_results_for_pycocotools(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    common = ("--annotations", drawn_set / "annotations.json", "--images", drawn_set / "images")
    done = cli("evaluate", shipped_model("onnx"), *common, "--json", "--out", tmp_path)
    rows = json.loads(done.out)
    figures = rows["probpose-m-int8.onnx"]
    # The shipped model has seen drawn people in training: far from chance, or something is broken.
    assert figures["mean OKS"] > 0.3
    assert {"AP", "Ex-AP", "presence accuracy"} <= set(figures)
    assert (tmp_path / "probpose-m-int8.onnx.json").exists()
    assert "probpose-m-int8.onnx" in cli("evaluate", shipped_model("onnx"), *common, "--crop").out


def test_annotation_errors_reach_the_user(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    document = json.loads((drawn_set / "annotations.json").read_text())
    document["annotations"][0]["keypoints"] = [1, 2, 3]
    (tmp_path / "a.json").write_text(json.dumps(document))
    done = cli(
        "evaluate", shipped_model("onnx"), "--annotations", tmp_path / "a.json", "--images", drawn_set / "images"
    )
    assert done.code == 2
    assert "51" in done.err


def test_report_compares_files_and_its_limit_sets_the_exit_code(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    arguments = [
        "report", shipped_model("tflite"), "--reference", shipped_model("onnx"),
        "--annotations", drawn_set / "annotations.json", "--images", drawn_set / "images",
        "--out", tmp_path / "report", "--latency-rounds", 2,
    ]  # fmt: skip
    done = cli(*arguments)
    assert done.code == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [file["label"] for file in report["files"]] == ["probpose-m-int8.onnx", "probpose-m-int8.tflite"]
    assert set(report["files"][1]["cropped"]["differences"]) == {"AP", "Ex-AP", "mean-OKS", "presence-ece"}
    assert "probpose-m-int8.tflite" in (tmp_path / "report" / "report.md").read_text()
    # A file that is worse than the reference by construction: its keypoints' presence is never believed.
    worse = tmp_path / "worse.onnx"
    import onnx

    model = onnx.load(shipped_model("onnx"))
    for entry in model.metadata_props:
        if entry.key == "probpose_edge":
            contract = json.loads(entry.value)
            contract["presence_bias"] = [-60.0] * 17
            entry.value = json.dumps(contract)
    onnx.save(model, worse)
    arguments[1] = worse
    assert cli(*arguments, "--max-drop", 1).code == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("convert", "missing.safetensors"), "existing .safetensors file"),
        (("convert", "x.safetensors", "--format", "keras"), "--format takes"),
        (("convert", "x.safetensors", "--precision", "int4"), "--precision takes"),
        (("train", "--out", "run"), "Training needs data"),
        (("train", "--data", "a.json", "--out", "run"), "annotations.json:images/"),
        (("train", "--out", "nowhere", "--resume"), "--resume needs a folder"),
        (("inspect", "x.bin"), ".onnx"),
    ],
)
def test_one_sentence_per_failure(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, text) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*arguments)
    assert done.code == 2
    assert text in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [(("convert", "x.safetensors"), "convert"), (("train", "--data", "synth", "--out", "run"), "train")],
)
def test_a_missing_extra_names_its_install_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], extra: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    done = cli(*arguments)
    assert done.code == 2
    assert f'pip install "probpose-edge[{extra}]"' in done.err


def test_full_disk_and_interrupt(cli: Cli, drawn_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        done = cli("predict", drawn_set / "images", "--out", tmp_path / "out")
    assert done.code == 2
    assert "disk is full" in done.err
    assert list((tmp_path / "out").iterdir()) == []
    with monkeypatch.context() as patched:
        patched.setattr("probpose_edge.estimator.PoseEstimator.__call__", interrupt)
        done = cli("predict", drawn_set / "images", "--out", tmp_path / "out")
    assert done.code == 2
    assert "Interrupted" in done.err


def test_train_runs_and_says_where_the_best_checkpoint_is(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    done = cli(
        "train", "--data", f"{drawn_set / 'annotations.json'}:{drawn_set / 'images'}", "--data", "synth:0.5",
        "--out", tmp_path / "run", "--samples", 4, "--batch-size", 2, "--device", "cpu", "--bf16", "off",
    )  # fmt: skip
    assert done.code == 0
    best = Path(done.out.strip())
    assert best.is_file()
    assert "probpose-m, safetensors fp32" in cli("inspect", best).out
    resumed = cli("train", "--out", tmp_path / "run", "--resume")
    assert resumed.code == 0


def test_interrupted_training_says_how_to_go_on(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("probpose_train.training_loop.training_step", interrupt)
    done = cli("train", "--data", "synth", "--out", tmp_path / "run", "--samples", 4, "--batch-size", 2)
    assert done.code == 2
    assert "no checkpoint yet" in done.err
    (tmp_path / "run" / "training_state.pt").touch()
    monkeypatch.setattr("probpose_train.training_loop.load_state", interrupt)
    assert f"--out {tmp_path / 'run'} --resume" in cli("train", "--out", tmp_path / "run", "--resume").err


def test_contact_sheet_shows_windows_beyond_the_picture(drawn_set: Path) -> None:
    with PoseEstimator.open(shipped_model("onnx")) as estimator:
        sheet = contact_sheet(estimator, [drawn_set, drawn_set])
    assert sheet.shape == (2 * TILE_WH[1], TILES_PER_ROW * TILE_WH[0], 3)
    np.testing.assert_array_equal(sheet[: TILE_WH[1]], sheet[TILE_WH[1] :])
    assert (sheet == np.array(BEYOND_BGR)).all(axis=2).any()
    assert sheet.std() > 10


def test_demo_refuses_a_folder_of_somebody_else(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn_set, tmp_path / "mine")
    done = cli("demo", "--out", tmp_path / "mine")
    assert done.code == 2
    assert "holds other files" in done.err
    assert (tmp_path / "mine" / "annotations.json").exists()
