"""The report: what it measures, what it says, and that it reads back as it was written."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probpose_edge import PoseEstimator
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_eval import (
    EvaluationSet,
    Interval,
    Report,
    ReportConfig,
    ReportEntry,
    build_report,
    describe_machine,
    evaluate,
    load_evaluation_set,
    mean_oks,
    measure_latency,
    predict_set,
    presence_accuracy,
    read_report,
    report_to_markdown,
    write_crop_set,
    write_report,
)
from probpose_eval.report import report_from_json, report_to_json
from probpose_eval.verdict import verdict

Make = Callable[..., PoseEstimator]
CONFIG = ReportConfig(bootstrap_samples=60, latency_rounds=4, latency_warmup=1, command="probpose-edge report")


@pytest.fixture
def plain(photographed: tuple[Path, Path]) -> EvaluationSet:
    return load_evaluation_set(*photographed, name="noise")


@pytest.fixture
def cropped(photographed: tuple[Path, Path], tmp_path: Path) -> EvaluationSet:
    write_crop_set(*photographed, tmp_path / "crops", seed=0)
    return load_evaluation_set(
        tmp_path / "crops" / "annotations.json", tmp_path / "crops" / "images", name="noise, cut"
    )


@pytest.fixture
def entries(template_estimator: Make, tmp_path: Path) -> list[ReportEntry]:
    """A full-precision file, an int8 one that is quicker and a little off, and a simulated package far off."""
    (tmp_path / "full.onnx").write_bytes(bytes(4000))
    (tmp_path / "int8.onnx").write_bytes(bytes(1000))
    (tmp_path / "m.mlpackage" / "Data").mkdir(parents=True)
    (tmp_path / "m.mlpackage" / "Manifest.json").write_bytes(bytes(500))
    (tmp_path / "m.mlpackage" / "Data" / "weights.bin").write_bytes(bytes(1500))
    return [
        ReportEntry(
            label="onnx fp32", estimator=template_estimator(delay=0.02), path=tmp_path / "full.onnx", threads=1
        ),
        ReportEntry(
            label="onnx int8",
            estimator=template_estimator(presence=0.8, precision="int8", recipe="int8-static"),
            path=tmp_path / "int8.onnx",
            threads=1,
        ),
        ReportEntry(
            label="coreml int8",
            estimator=template_estimator(
                shift=6, provenance="simulated", format="coreml", precision="int8", recipe="int8-w8a8"
            ),
            path=tmp_path / "m.mlpackage",
        ),
    ]


@pytest.fixture
def report(entries: list[ReportEntry], plain: EvaluationSet, cropped: EvaluationSet) -> Report:
    return build_report(entries, reference="onnx fp32", plain=plain, cropped=cropped, config=CONFIG)


def test_numbers_are_those_of_the_single_steps(
    report: Report, entries: list[ReportEntry], plain: EvaluationSet, cropped: EvaluationSet
) -> None:
    for data, name in ((plain, "plain"), (cropped, "cropped")):
        for entry, file in zip(entries, report.files, strict=True):
            results = predict_set(entry.estimator, data.annotations, data.images_dir)
            scores = getattr(file, name)
            standard, extended = (evaluate(data.annotations, results, extended=e) for e in (False, True))
            assert scores.metrics == {**standard, **extended}
            assert scores.ap.value == pytest.approx(standard["AP"])
            assert scores.ex_ap.value == pytest.approx(extended["Ex-AP"])
            assert scores.mean_oks.value == pytest.approx(mean_oks(data.annotations, results).mean)
            assert scores.ap.low <= scores.ap.value <= scores.ap.high
            if entry is not entries[0]:
                base = getattr(report.files[0], name)
                assert scores.ex_ap_difference.value == pytest.approx(scores.ex_ap.value - base.ex_ap.value)
                assert scores.mean_oks_difference.value == pytest.approx(scores.mean_oks.value - base.mean_oks.value)
    assert report.files[0].plain is not None
    assert report.files[0].plain.ap_difference is None
    results = predict_set(entries[0].estimator, plain.annotations, plain.images_dir)
    (presence,) = presence_accuracy(plain.annotations, results)
    assert report.files[0].plain.presence.accuracy == presence.accuracy
    assert report.files[0].plain.presence.balanced_accuracy == presence.balanced_accuracy


def test_sizes_speeds_and_provenance(report: Report) -> None:
    full, int8, coreml = report.files
    assert [file.size_bytes for file in report.files] == [4000, 1000, 2000]
    assert [file.size_ratio for file in report.files] == [1, 0.25, 0.5]
    assert full.latency is not None
    assert int8.latency is not None
    assert 20 <= full.latency.lower_quartile_ms <= full.latency.median_ms <= full.latency.upper_quartile_ms
    assert full.latency.rounds == 4
    assert int8.speedup_over_fp32 == pytest.approx(full.latency.median_ms / int8.latency.median_ms)
    assert int8.speedup_over_fp32 > 1
    assert (coreml.latency, coreml.speedup_over_fp32, coreml.provenance) == (None, None, "simulated")
    assert (full.threads, coreml.threads) == (1, None)


def test_verdicts(report: Report) -> None:
    full, int8, coreml = report.files
    assert (full.within_limit, full.verdict) == (None, "reference: every difference is to this file")
    assert int8.within_limit is True
    assert int8.verdict.startswith("keeps Ex-AP within 1 points: ")
    assert "(+0.0) on the plain set" in int8.verdict
    assert "25 % of the full-precision size" in int8.verdict
    assert "x as fast as fp32" in int8.verdict
    assert coreml.within_limit is False
    assert coreml.verdict.startswith("costs more than 1 points of Ex-AP: ")
    assert "simulated, so without latency" in coreml.verdict


def test_verdict_says_what_the_interval_leaves_open(report: Report) -> None:
    def judged(value: float, low: float, high: float) -> tuple[bool | None, str]:
        scores = report.files[1].plain
        assert scores is not None
        changed = dataclasses.replace(scores, ex_ap_difference=Interval(value=value, low=low, high=high))
        return verdict(
            dataclasses.replace(report.files[1], plain=changed, cropped=None), is_reference=False, max_drop=0.01
        )

    assert judged(-0.005, -0.02, 0.01)[0] is True
    assert "95 % intervals reach down to -2.0" in judged(-0.005, -0.02, 0.01)[1]
    assert "intervals" not in judged(-0.005, -0.009, 0.01)[1]
    assert judged(-0.02, -0.03, -0.005)[0] is False
    assert "95 % intervals reach up to -0.5" in judged(-0.02, -0.03, -0.005)[1]
    assert "intervals" not in judged(-0.02, -0.03, -0.011)[1]


def test_report_reads_back_as_written(report: Report, tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "out", report)
    again = read_report(tmp_path / "new" / "out" / "report.json")
    assert again == report
    assert (tmp_path / "new" / "out" / "report.md").read_text(encoding="utf-8") == report_to_markdown(report)
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == ["report.json", "report.md"]


def test_numbers_that_do_not_exist_are_null(report: Report) -> None:
    scores = report.files[0].plain
    assert scores is not None
    broken = dataclasses.replace(scores, ap=Interval(value=-1.0, low=math.nan, high=math.nan))
    changed = dataclasses.replace(report, files=(dataclasses.replace(report.files[0], plain=broken),))
    text = report_to_json(changed)
    assert json.loads(text)["files"][0]["plain"]["ap"]["low"] is None
    restored = report_from_json(text).files[0].plain
    assert restored is not None
    assert math.isnan(restored.ap.low)
    assert "NaN" not in text
    assert "| – |" in report_to_markdown(changed)


def test_markdown_names_everything(report: Report) -> None:
    text = report_to_markdown(report)
    for expected in (
        "| onnx int8 | onnx | int8 | int8-static | 0.00 | 25 % |",
        "template (shift 6), simulated",
        "## Accuracy on the plain set: noise",
        "## Accuracy on the cropped set: noise, cut",
        "| flip test | none |",
        "| bootstrap | 60 samples over images, seed 0 |",
        "`probpose-edge report`",
    ):
        assert expected in text
    assert report.plain is not None
    assert report.plain.annotations_sha256[:16] in text
    widths = {line.count("|") for line in text.split("\n\n")[2].splitlines()}
    assert len(widths) == 1


def test_a_set_or_latency_may_be_missing(entries: list[ReportEntry], cropped: EvaluationSet) -> None:
    config = dataclasses.replace(CONFIG, latency_rounds=0)
    only = build_report(entries, reference="onnx fp32", cropped=cropped, config=config)
    assert only.plain is None
    assert all(file.plain is None and file.latency is None for file in only.files)
    assert only.protocol.latency == "not measured"
    assert "plain" not in report_to_markdown(only).split("## Protocol")[0]
    bare = build_report(entries[:2], reference="onnx fp32")
    assert bare.files[1].within_limit is None
    assert bare.files[1].verdict.startswith("accuracy not measured, 25 %")
    assert report_from_json(report_to_json(bare)) == bare


def test_a_model_without_a_file(template_estimator: Make, plain: EvaluationSet) -> None:
    entry = ReportEntry(label="network", estimator=template_estimator())
    report = build_report([entry], reference="network", plain=plain, config=CONFIG)
    assert (report.files[0].size_bytes, report.files[0].size_ratio, report.files[0].file_name) == (None, None, None)


def test_one_threshold_for_all_or_each_its_own(template_estimator: Make, plain: EvaluationSet) -> None:
    pair = [
        ReportEntry(label="a", estimator=template_estimator()),
        ReportEntry(label="b", estimator=template_estimator(presence_threshold=0.95)),
    ]
    own = build_report(pair, reference="a", plain=plain, config=dataclasses.replace(CONFIG, latency_rounds=0))
    fixed = dataclasses.replace(CONFIG, latency_rounds=0, presence_threshold=0.5)
    same = build_report(pair, reference="a", plain=plain, config=fixed)
    thresholds = [[f.plain.presence.threshold for f in r.files if f.plain is not None] for r in (own, same)]
    assert thresholds == [[0.5, 0.95], [0.5, 0.5]]


def test_progress_reaches_the_end(entries: list[ReportEntry], plain: EvaluationSet) -> None:
    steps: list[tuple[str, int, int]] = []
    build_report(entries, reference="onnx fp32", plain=plain, config=CONFIG, progress=lambda *step: steps.append(step))
    last = {stage: (done, total) for stage, done, total in steps}
    assert set(last) == {"predicting (plain)", "scoring (plain)", "timing"}
    assert all(done == total for done, total in last.values())


def test_hashes_tell_the_data(photographed: tuple[Path, Path], plain: EvaluationSet) -> None:
    again = load_evaluation_set(*photographed, name="x")
    assert (again.annotations_sha256, again.pictures_sha256) == (plain.annotations_sha256, plain.pictures_sha256)
    picture = photographed[1] / "000001.png"
    picture.write_bytes(picture.read_bytes() + b"0")
    changed = load_evaluation_set(*photographed, name="x")
    assert changed.annotations_sha256 == plain.annotations_sha256
    assert changed.pictures_sha256 != plain.pictures_sha256


def test_bad_reports_are_named(entries: list[ReportEntry], report: Report, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one of them the reference 'none', got onnx fp32, onnx int8"):
        build_report(entries[:2], reference="none")
    with pytest.raises(InputError, match="needs different labels"):
        build_report([entries[0], entries[0]], reference="onnx fp32")
    with pytest.raises(InputError, match=r"max_drop is a share of 1 .* got 5\. Use 0\.01"):
        ReportConfig(max_drop=5)
    with pytest.raises(InputError, match="bootstrap_samples must be at least 2, got 1"):
        ReportConfig(bootstrap_samples=1)
    with pytest.raises(InputError, match="definition of Ex-OKS must be one of"):
        ReportConfig(definition="x")
    with pytest.raises(InputError, match=r"The report .*none\.json cannot be read"):
        read_report(tmp_path / "none.json")
    for text, message in (
        ("{", "A report must be JSON"),
        ("[]", r"reads report schema 1, got None"),
        ('{"schema_version": 9}', r"reads report schema 1, got 9\. Make the report again"),
        ('{"schema_version": 1}', "lacks a field or has a wrong one"),
        (report_to_json(report).replace('"boxes"', '"bxs"'), r"unknown fields \['bxs'\]"),
    ):
        with pytest.raises(InputError, match=message):
            report_from_json(text)


def test_missing_pictures_stop_before_anything_runs(photographed: tuple[Path, Path]) -> None:
    (photographed[1] / "000002.png").unlink()
    with pytest.raises(AnnotationError, match="picture of image 2 must be at"):
        load_evaluation_set(*photographed, name="x")


# --- latency ------------------------------------------------------------------------------------------------------


def test_latency_takes_turns(template_estimator: Make) -> None:
    order: list[str] = []
    quick, slow = template_estimator(delay=0.002).runtime, template_estimator(delay=0.015).runtime
    for name, runtime in (("quick", quick), ("slow", slow)):
        real = runtime.run
        runtime.run = lambda crops, name=name, real=real: (order.append(name), real(crops))[1]  # type: ignore[method-assign]
    crops = np.zeros((2, 256, 192, 3), dtype=np.uint8)
    steps: list[tuple[int, int]] = []
    measured = measure_latency(
        {"quick": quick, "slow": slow}, crops, rounds=5, warmup=1, progress=lambda *step: steps.append(step)
    )
    assert order == ["quick", "slow", "slow", "quick"] * 3
    assert steps[-1] == (6, 6)
    assert measured["slow"].median_ms >= 15
    assert measured["quick"].median_ms >= 2
    assert measured["slow"].rounds == 5
    with pytest.raises(InputError, match=r"at least one crop, one round and no negative warm-up, got 0 crops"):
        measure_latency({"quick": quick}, crops[:0])


def test_machine_description_is_anonymous() -> None:
    machine = describe_machine()
    assert machine.logical_cores >= 1
    assert machine.processor
    assert machine.python.count(".") == 2
    text = json.dumps(dataclasses.asdict(machine))
    assert platform.node() == "" or platform.node() not in text
    assert str(Path.home()) not in text
