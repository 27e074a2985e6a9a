"""`evaluate` and `report` refuse pictures that a file was calibrated on, and mark it where told to go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probpose_convert.write_contract import write_contract
from probpose_edge import read_contract
from probpose_edge.weights import shipped_model
from probpose_eval.calibration.picture_hashes import short_hashes


@pytest.fixture
def arguments(drawn_set: Path, tmp_path: Path) -> list[object]:
    """A file that was calibrated on two of the drawn pictures, and the set."""
    contract = read_contract(shipped_model("onnx"))
    hashes = short_hashes(sorted((drawn_set / "images").iterdir())[:2])
    path = tmp_path / "calibrated.onnx"
    write_contract(shipped_model("onnx"), contract.replace(calibration={"picture_hashes": hashes}), path)
    return [path, "--annotations", drawn_set / "annotations.json", "--images", drawn_set / "images"]


def test_evaluate_refuses_and_marks(cli, arguments: list[object], tmp_path: Path) -> None:
    for more in ([], ["--crop"]):
        failed = cli("evaluate", *arguments, *more)
        assert failed.code == 2
        assert "calibrated.onnx was calibrated on 2 of this set: " in failed.err
        assert "or add --allow-calibration-pictures, which marks its row." in failed.err
    done = cli("evaluate", *arguments, shipped_model("onnx"), "--allow-calibration-pictures", "--out", tmp_path / "o")
    assert done.code == 0
    assert "* calibrated.onnx was calibrated on 2 of these pictures: its figures are optimistic." in done.out
    rows = json.loads((tmp_path / "o" / "metrics.json").read_text())
    shared = {name: row.get("shared calibration pictures") for name, row in rows.items()}
    assert shared == {"calibrated.onnx": 2, shipped_model("onnx").name: None}


def test_report_refuses_and_marks(cli, arguments: list[object], tmp_path: Path) -> None:
    settings = ["--reference", shipped_model("onnx"), "--latency-rounds", 0, "--out", tmp_path / "report"]
    failed = cli("report", *arguments, *settings)
    assert failed.code == 2
    assert "calibrated.onnx was calibrated on 2 of this set: " in failed.err
    assert not (tmp_path / "report").exists()
    done = cli("report", *arguments, *settings, "--allow-calibration-pictures")
    assert done.code == 0
    assert "calibrated on 2 of these pictures" in done.out
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [file["shared_calibration_pictures"] for file in report["files"]] == [0, 2]
