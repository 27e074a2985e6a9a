"""The results page and the curves of runs: small documents in, the right sentences and points out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import training_page

    return training_page


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import growth

    return growth


def figures(value: float) -> dict[str, Any]:
    interval = {"value": value, "low": value - 0.02, "high": value + 0.03}
    return {"mean-OKS": interval, "mean-Ex-OKS": interval, "AP": interval, "Ex-AP": interval}


def judged(value: float) -> dict[str, Any]:
    balanced = {"presence accuracy": 0.9, "balanced presence accuracy": 0.7}
    return figures(value) | balanced | {"at usual threshold": figures(value - 0.1) | balanced}


def ablation_document() -> dict[str, Any]:
    names = ("probability-crop", "probability-plain", "heatmap-crop", "heatmap-plain")
    runs = [
        {
            "name": name, "maps": name.split("-")[0], "crop": name.endswith("crop"), "threshold": 0.45,
            "usual_threshold": 0.5, "plain": judged(0.4), "cropped": judged(0.25),
        }
        for name in names
    ]  # fmt: skip
    differences = [{"what": "crop augmentation", "plain": figures(0.01), "cropped": figures(0.123)}]
    return {
        "runs": runs, "differences": differences, "input_wh": [96, 128], "samples": 12800, "freeze": 11, "crop": 0.4,
        "crop_seeds": 8, "half_body": 0.0, "command": "python scripts/ablation.py",
    }  # fmt: skip


def size_document() -> dict[str, Any]:
    size = {"width": 0.5, "parameters": 2_210_000, "multiply_adds": 101_000_000, "mean-OKS": 0.3, "AP": 0.03}
    return {"sizes": [size], "input_wh": [96, 128], "samples": 16000, "freeze": 11, "command": "python x.py"}


def movenet_document() -> dict[str, Any]:
    models = [
        {"name": name, "threshold": 0.4, "usual_threshold": 0.3, "plain": judged(value), "cropped": judged(value)}
        for name, value in (("m.onnx", 0.5), ("MoveNet", 0.6))
    ]
    difference = {"what": "m.onnx - MoveNet", "plain": figures(-0.1), "cropped": figures(-0.1)}
    return {"models": models, "difference": difference, "command": "python scripts/compare_movenet.py m.onnx"}


def growth_document() -> dict[str, Any]:
    points = [{"samples": n, "mean-OKS": oks, "AP": oks / 2} for n, oks in ((3200, 0.3), (6400, 0.45), (9600, 0.44))]
    run = {
        "label": "a run", "persons": 9967, "drawn": True, "input_wh": [192, 256], "parameters": 3_600_000,
        "multiply_adds": 690_000_000, "started_from": "ImageNet weights", "points": points,
    }  # fmt: skip
    return {"runs": [run, run | {"label": "never validated", "points": []}]}


def test_intervals_are_written_in_points_and_with_signs(page: ModuleType) -> None:
    interval = {"value": 0.1234, "low": -0.01, "high": 0.2}
    assert page.points(interval) == "12.3 (-1.0 to 20.0)"
    assert page.share(interval) == "0.123 (-0.010 to 0.200)"
    assert page.signed(interval, 100) == "+12.3 (-1.0 to +20.0)"
    assert page.signed(interval, 1) == "+0.123 (-0.010 to +0.200)"
    assert page.table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_the_page_holds_every_measurement_and_the_picture(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    for name, document in (
        ("ablation", ablation_document()), ("movenet", movenet_document()), ("growth", growth_document()),
        ("model_size", size_document()),
    ):  # fmt: skip
        (results / f"{name}.json").write_text(json.dumps(document))
    (results / "calibration").mkdir()
    (results / "calibration" / "coverage.png").write_bytes(b"")
    picture = tmp_path / "images" / "growth.png"
    picture.parent.mkdir()
    monkeypatch.setattr(sys, "argv", ["x", "--results", str(results), "--picture", str(picture)])
    page.main()
    text = (results / "training.md").read_text()
    assert "| probability maps | yes | 0.400 (0.380 to 0.430) | 40.0 (38.0 to 43.0) |" in text
    assert "| crop augmentation | +0.010 (-0.010 to +0.040) |" in text
    assert "| **m.onnx - MoveNet** | -0.100" in text
    assert "| a run | 9,967 and drawn ones | 192×256 |" in text
    assert "0.450 at 6,400" in text
    assert "| 0.5 | 2.2 M | 0.10 G | 0.300 | 3.0 |" in text
    assert "never validated" not in text
    assert "![calibration, coverage](calibration/coverage.png)" in text
    assert "Training throughput" not in text
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_page_without_measurements_has_its_title_only(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--results", str(tmp_path), "--picture", str(tmp_path / "p.png")])
    page.main()
    assert "##" not in (tmp_path / "training.md").read_text()
    assert not (tmp_path / "p.png").exists()


def test_a_log_with_several_headers_gives_its_validated_lines(growth: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        "step,total\n100,1.5\nstep,total,val_mean_oks,val_AP\n200,1.2,0.3,0.05\nstep,total,val_mean_oks,val_AP,val_Ex-AP\n"
        "300,1.1,0.4,0.1,0.12\n"
    )
    assert growth.read_curve(log, 32) == [
        {"samples": 6400, "mean-OKS": 0.3, "AP": 0.05},
        {"samples": 9600, "mean-OKS": 0.4, "AP": 0.1, "Ex-AP": 0.12},
    ]


def test_persons_named_by_two_files_of_a_folder_count_once(growth: ModuleType, tmp_path: Path) -> None:
    from probpose_eval.synth.set import write_synth_set
    from probpose_train.config import DataSource, TrainConfig

    write_synth_set(tmp_path / "a", count=3, seed=1, width=160, height=160, persons=(1, 1))
    document = json.loads((tmp_path / "a" / "annotations.json").read_text())
    document["annotations"] = document["annotations"][:1]
    (tmp_path / "fewer.json").write_text(json.dumps(document))
    images = str(tmp_path / "a" / "images")
    config = TrainConfig(
        sources=(
            DataSource(annotations=str(tmp_path / "a" / "annotations.json"), images=images),
            DataSource(annotations=str(tmp_path / "fewer.json"), images=images),
            DataSource(annotations="synth"),
        )
    )
    assert growth.count_persons(config) == {images: 3}


def test_fewer_persons_are_a_seeded_share_of_the_labelled_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from fewer_persons import keep_persons

    document = {
        "info": {"year": 2026},
        "images": [{"id": i} for i in range(40)],
        "annotations": [{"id": i, "image_id": i, "num_keypoints": 0 if i < 8 else 17} for i in range(40)],
    }
    one, two, other = (keep_persons(document, 0.25, seed) for seed in (0, 0, 1))
    assert one == two
    assert one != other
    assert len(one["annotations"]) == 8
    assert min(annotation["id"] for annotation in one["annotations"]) >= 8
    assert [image["id"] for image in one["images"]] == [annotation["image_id"] for annotation in one["annotations"]]
    assert one["info"] == {"year": 2026}
    assert len(keep_persons(document, 0.0001, 0)["annotations"]) == 1


def test_widths_scale_the_heads_and_leave_the_network_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import model_size

    from probpose_models.checkpoint import build_model
    from probpose_models.probpose_m import count_parameters
    from probpose_train.config import parse_source

    config = model_size.size_config((parse_source("a.json:images/"),), "", "val.json:images/", 32, 11)
    log = "step,val_mean_oks,val_AP\n1,0.25,0.02\n"
    sizes = {}
    for width in (0.5, 1.0):
        folder = tmp_path / f"{width}"
        folder.mkdir()
        (folder / "log.csv").write_text(log)
        sizes[width] = model_size.measure_width(width, config, folder)
    whole = count_parameters(build_model("probpose-m", input_wh=(96, 128)))
    assert sizes[1.0]["parameters"] == whole
    assert sizes[0.5]["parameters"] < 0.8 * whole
    assert sizes[0.5]["multiply_adds"] < sizes[1.0]["multiply_adds"]
    assert sizes[0.5]["mean-OKS"] == 0.25
