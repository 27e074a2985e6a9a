"""The whole journey with other skeletons: draw, train, convert, predict, evaluate, report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probpose_edge import read_contract, read_skeleton

Cli = Callable[..., Any]


def test_data_synth_writes_the_named_skeleton(cli: Cli, tmp_path: Path) -> None:
    assert cli("data", "synth", "--out", tmp_path / "a", "--count", 1, "--skeleton", "mpii-16").code == 0
    category = json.loads((tmp_path / "a" / "annotations.json").read_text())["categories"][0]
    assert category["keypoints"] == list(read_skeleton("mpii-16").keypoint_names)
    refused = cli("data", "synth", "--out", tmp_path / "b", "--skeleton", "mpii-17")
    assert refused.code == 2
    assert "A skeleton is coco-17, mpii-16, crowdpose-14, wholebody-133 or a JSON file" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mpii-16", "wholebody-133"])
def test_from_drawn_people_to_a_report(cli: Cli, tmp_path: Path, name: str) -> None:
    skeleton = read_skeleton(name)
    k = len(skeleton.keypoint_names)
    drawn, run, models = tmp_path / "set", tmp_path / "run", tmp_path / "models"
    assert cli("data", "synth", "--out", drawn, "--count", 8, "--seed", 4, "--skeleton", name).code == 0
    # The category says which keypoints there are; drawn people of the mix follow it.
    data = f"{drawn}/annotations.json:{drawn}/images"
    steps = (
        "--samples",
        8,
        "--samples-per-epoch",
        8,
        "--batch-size",
        4,
        "--device",
        "cpu",
        "--bf16",
        "off",
        "--threads",
        1,
    )
    trained = cli("train", "--data", data, "--data", "synth:0.5", "--val", data, "--out", run, *steps)
    assert trained.code == 0, trained.err
    for formats, precisions in (("onnx", "fp32,int8"), ("tflite", "int8")):
        options = ("--calib", data, "--calib-crops", 8, "--out", models)
        made = cli("convert", run / "best.safetensors", "--format", formats, "--precision", precisions, *options)
        assert made.code == 0, made.err
    files = sorted(models.iterdir())
    assert [file.name for file in files] == ["probpose-m-fp32.onnx", "probpose-m-int8.onnx", "probpose-m-int8.tflite"]
    for file in files:
        contract = read_contract(file)
        assert contract.keypoint_names == skeleton.keypoint_names
        assert contract.sigmas == skeleton.sigmas
        assert contract.flip_pairs == skeleton.flip_pairs
        assert contract.skeleton == skeleton.edges
    assert cli("predict", files[1], drawn / "images", "--draw-maps", "--out", tmp_path / "poses").code == 0
    results = json.loads((tmp_path / "poses" / "results.json").read_text())
    assert {len(result["keypoints"]) for result in results} == {3 * k}
    assert len(list((tmp_path / "poses").glob("*.png"))) == 8
    where = ("--annotations", drawn / "annotations.json", "--images", drawn / "images")
    evaluated = cli("evaluate", *files, *where, "--json")
    assert evaluated.code == 0, evaluated.err
    figures = json.loads(evaluated.out)
    assert set(figures) == {file.name for file in files}
    for row in figures.values():
        assert 0 <= row["mean OKS"] <= 1
        assert row["mean OKS"] == pytest.approx(figures["probpose-m-fp32.onnx"]["mean OKS"], abs=0.1)
    reported = cli(
        "report", *files, "--reference", files[0], *where, "--out", tmp_path / "report", "--latency-rounds", 1
    )
    assert reported.code == 0, reported.err
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert len(report["files"]) == 3
    assert report["plain"]["persons"] >= 8
