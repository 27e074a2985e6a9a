"""`report` as a gate of a build: what it writes, and what makes it fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probpose_edge.weights import shipped_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
Cli = Callable[..., Any]
SHIPPED = "probpose-m-int8.onnx"


def weaken_presence_head(path: Path, factor: float) -> None:
    """Multiply the weights of the last layer of the presence head, by the scales they are stored with."""
    model = onnx.load(shipped_model("onnx"))
    maker = {output: node for node in model.graph.node for output in node.output}
    node = maker["presence"]
    while node.op_type != "Conv":
        node = maker[node.input[0]]
    scale = maker[node.input[1]].input[1]
    (stored,) = [tensor for tensor in model.graph.initializer if tensor.name == scale]
    stored.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(stored) * factor, stored.name))
    onnx.save(model, path)


@pytest.fixture
def arguments(drawn_set: Path, tmp_path: Path) -> list[object]:
    """Of a report against the shipped file, but for the model."""
    return [
        "--reference", shipped_model("onnx"), "--annotations", drawn_set / "annotations.json",
        "--images", drawn_set / "images", "--out", tmp_path / "report", "--latency-rounds", 0,
    ]  # fmt: skip


def test_a_tampered_presence_head_fails_the_build_though_ap_hardly_notices(
    cli: Cli, arguments: list[object], tmp_path: Path
) -> None:
    weaken_presence_head(tmp_path / "tampered.onnx", 0.5)
    done = cli("report", tmp_path / "tampered.onnx", *arguments, "--max-drop", "AP=1,presence-ece=0.01")
    assert done.code == 1
    assert "1 of 1 files breaks a limit: tampered.onnx." in done.out
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    limits = report["files"][1]["limits"]
    broken = {each["limit"]["figure"] for each in limits if each["kept"] is False}
    assert broken == {"presence-ece"}
    assert report["protocol"]["enforced"] is True
    # Without the limit on presence the same file passes.
    assert cli("report", tmp_path / "tampered.onnx", *arguments, "--max-drop", "AP=1").code == 0


def test_a_report_without_pictures_holds_none(cli: Cli, arguments: list[object], tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    model = shipped_model("tflite")
    assert cli("report", model, *arguments).code == 0
    assert "data:image/jpeg" in (tmp_path / "report" / "report.html").read_text()
    assert cli("report", model, *arguments, "--no-pictures").code == 0
    for path in (tmp_path / "report").iterdir():
        assert "data:image" not in path.read_text()
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["report.html", "report.json", "report.md"]


def test_a_floor_counts_for_every_file_and_set(cli: Cli, arguments: list[object]) -> None:
    model = shipped_model("onnx")
    assert cli("report", model, *arguments, "--fail-under", "AP=0").code == 0
    failed = cli("report", model, *arguments, "--fail-under", "Ex-AP=99.9")
    assert failed.code == 1
    assert f"1 of 1 files breaks a limit: {SHIPPED}" in failed.out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--max-drop", "ExAP=1"), "must name a figure of the report, got 'ExAP'. Did you mean Ex-AP"),
        (("--fail-under", "60"), "--fail-under takes name=number"),
        (("--fail-under", "presence-ece=0.1"), "--max-drop presence-ece=0.01"),
    ],
)
def test_bad_limits_stop_before_anything_runs(
    cli: Cli, arguments: list[object], tmp_path: Path, option: tuple[str, str], message: str
) -> None:
    done = cli("report", shipped_model("onnx"), *arguments, *option)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "report").exists()


def test_rows_of_another_machine_take_the_place_of_a_run_here(
    cli: Cli, arguments: list[object], drawn_set: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert")
    from probpose_edge import PoseEstimator
    from probpose_eval import load_evaluation_set, observe_set, write_crop_set
    from probpose_eval.benchmark.latency import Latency, Machine
    from probpose_eval.mac.measured_files import MeasuredFile, measured_to_json
    from probpose_eval.model_file import sha256_of

    reference, model = Path(shipped_model("onnx")), Path(shipped_model("tflite"))
    write_crop_set(drawn_set / "annotations.json", drawn_set / "images", tmp_path / "cropped", seed=0)
    sets = {
        name: load_evaluation_set(folder / "annotations.json", folder / "images", name=name)
        for name, folder in (("plain", drawn_set), ("cropped", tmp_path / "cropped"))
    }
    with PoseEstimator.open(reference, threads=1) as base, PoseEstimator.open(model, threads=1) as estimator:
        observed = {
            name: observe_set([base, estimator], data.annotations, data.images_dir, reference=0)[1]
            for name, data in sets.items()
        }
    elsewhere = MeasuredFile(
        file_name=model.name,
        sha256=sha256_of(model),
        runtime="LiteRT elsewhere",
        machine=Machine(processor="Another Processor", logical_cores=4, system="Linux aarch64", python="3.12.0"),
        latency=Latency(median_ms=1.5, lower_quartile_ms=1.0, upper_quartile_ms=2.0, rounds=9),
        observed=observed,
    )
    document = measured_to_json([elsewhere], sets, reference_sha256=sha256_of(reference))
    (tmp_path / "measured.json").write_text(document)
    assert cli("report", model, *arguments, "--measured", tmp_path / "measured.json").code == 0
    merged = json.loads((tmp_path / "report" / "report.json").read_text())["files"][1]
    assert merged["machine"]["processor"] == "Another Processor"
    assert (merged["latency"]["median_ms"], merged["speedup_over_fp32"]) == (1.5, None)
    assert "Another Processor" in (tmp_path / "report" / "report.html").read_text()
    assert cli("report", model, *arguments).code == 0
    here = json.loads((tmp_path / "report" / "report.json").read_text())["files"][1]
    assert here["plain"]["scores"]["metrics"] == pytest.approx(merged["plain"]["scores"]["metrics"])
    # Of a file that is not in the report: refused.
    refused = cli("report", reference, *arguments, "--measured", tmp_path / "measured.json")
    assert refused.code == 2
    assert "Measurements must be of files of the report" in refused.err


def test_a_kit_for_a_mac_needs_packages(cli: Cli, arguments: list[object], tmp_path: Path) -> None:
    done = cli("report", shipped_model("onnx"), *arguments, "--mac-kit", tmp_path / "kit.zip")
    assert done.code == 2
    assert "A Mac kit takes .mlpackage files to a Mac, but got none" in done.err
    assert not (tmp_path / "kit.zip").exists()
