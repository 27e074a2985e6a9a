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
    report_to_html,
    report_to_markdown,
    write_crop_set,
    write_report,
)
from probpose_eval.report.figures_by_name import NAMED_FIGURES
from probpose_eval.report.limits import Limit, LimitResult, parse_limits
from probpose_eval.report.report import INTERVALS, report_from_json, report_to_json
from probpose_eval.report.verdict import verdict

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
            each = file.sets()[name]
            standard, extended = (evaluate(data.annotations, results, extended=e) for e in (False, True))
            metrics = {metric: None if value == -1 else value for metric, value in {**standard, **extended}.items()}
            assert each.scores.metrics == pytest.approx(metrics)
            assert each.scores.mean_oks == pytest.approx(mean_oks(data.annotations, results).mean)
            for figure in INTERVALS:
                interval = each.intervals[figure]
                assert interval.value == pytest.approx(NAMED_FIGURES[figure].read(each.scores))
            assert each.intervals["AP"].low <= standard["AP"] <= each.intervals["AP"].high
            (presence,) = presence_accuracy(data.annotations, results)
            assert each.scores.whole.presence.accuracy == presence.accuracy
            if entry is entries[0]:
                assert (each.differences, each.drift) == ({}, None)
                continue
            base = report.files[0].sets()[name]
            for figure in INTERVALS:
                change = NAMED_FIGURES[figure].read(each.scores) - NAMED_FIGURES[figure].read(base.scores)
                assert each.differences[figure].value == pytest.approx(change)
            assert each.drift is not None
    int8, coreml = (file.sets()["plain"].drift for file in report.files[1:])
    assert int8 is not None
    assert coreml is not None
    assert int8.overall.moved_px == 0
    assert coreml.overall.moved_px is not None
    assert coreml.overall.moved_px > 5


def test_frozen_own_and_retuned_thresholds(template_estimator: Make, plain: EvaluationSet) -> None:
    """The second file says 0.4 of every present keypoint: it needs its own threshold, and has a wrong one."""
    pair = [
        ReportEntry(label="a", estimator=template_estimator()),
        ReportEntry(label="b", estimator=template_estimator(presence=0.4, presence_threshold=0.95)),
    ]
    config = dataclasses.replace(CONFIG, latency_rounds=0)
    a, b = (file.sets()["plain"] for file in build_report(pair, reference="a", plain=plain, config=config).files)
    assert (a.scores.presence_threshold, b.scores.presence_threshold) == (0.5, 0.5)
    assert (a.own.threshold, b.own.threshold) == (0.5, 0.95)
    assert a.own.ex_ap == a.scores.metrics["Ex-AP"]
    assert b.own.ex_ap is not None
    assert b.retuned.ex_ap is not None
    assert b.retuned.ex_ap > max(b.own.ex_ap, b.scores.metrics["Ex-AP"] or 0) + 0.1
    assert 0.1 < b.retuned.threshold <= 0.4
    fixed = dataclasses.replace(config, presence_threshold=0.3)
    b = build_report(pair, reference="a", plain=plain, config=fixed).files[1].sets()["plain"]
    assert b.scores.presence_threshold == 0.3
    assert b.scores.metrics["Ex-AP"] == b.retuned.ex_ap


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
    assert (full.within_limits, full.verdict, full.limits) == (None, "the reference", ())
    assert int8.within_limits is True
    assert "(0.0) on the plain set" in int8.verdict
    assert "25 % of the full-precision size" in int8.verdict
    assert "× as fast as fp32" in int8.verdict
    assert coreml.within_limits is False
    assert "Ex-AP on the plain set " in coreml.verdict
    assert "allowed −1)" in coreml.verdict
    assert "simulated, so without latency" in coreml.verdict
    assert not report.kept
    assert report.reference is full


def test_verdict_says_what_the_interval_leaves_open(report: Report) -> None:
    def words(figure: str, amount: float, low: float, high: float) -> str:
        scores = report.files[1].sets()["plain"]
        interval = Interval(value=0.0, low=low, high=high)
        changed = dataclasses.replace(scores, differences={**scores.differences, figure: interval})
        file = dataclasses.replace(report.files[1], plain=changed, cropped=None)
        limit = Limit(kind="max-drop", figure=figure, amount=amount)
        kept = LimitResult(limit=limit, set_name="plain", kept=True, value=0.0, reference=0.0)
        return verdict(file, [kept], is_reference=False)[1]

    assert "the 95 % interval of Ex-AP on the plain set reaches −2.0" in words("Ex-AP", 1, -0.02, 0.01)
    assert "interval" not in words("Ex-AP", 1, -0.009, 0.02)
    assert "of presence-ece on the plain set reaches +0.030" in words("presence-ece", 0.01, -0.04, 0.03)
    assert "interval" not in words("presence-ece", 0.01, -0.04, 0.009)


def test_a_file_that_was_calibrated_on_these_pictures_is_marked(template_estimator: Make, plain: EvaluationSet) -> None:
    entry = ReportEntry(label="a", estimator=template_estimator(), shared_calibration_pictures=3)
    report = build_report([entry], reference="a", plain=plain, config=dataclasses.replace(CONFIG, latency_rounds=0))
    assert "calibrated on 3 of these pictures" in report.files[0].verdict
    assert "a was calibrated on 3 of these pictures" in report_to_markdown(report)


def test_report_reads_back_as_written(report: Report, tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "out", report)
    path = tmp_path / "new" / "out" / "report.json"
    assert report_to_json(read_report(path)) + "\n" == path.read_text(encoding="utf-8")
    assert (tmp_path / "new" / "out" / "report.md").read_text(encoding="utf-8") == report_to_markdown(report)
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "report.json", "report.md"]


def test_numbers_that_do_not_exist_are_null(report: Report) -> None:
    each = report.files[0].sets()["plain"]
    broken = dataclasses.replace(each, intervals={"AP": Interval(value=0.5, low=math.nan, high=math.nan)})
    changed = dataclasses.replace(report, files=(dataclasses.replace(report.files[0], plain=broken),))
    text = report_to_json(changed)
    assert json.loads(text)["files"][0]["plain"]["intervals"]["AP"]["low"] is None
    assert math.isnan(report_from_json(text).files[0].sets()["plain"].intervals["AP"].low)
    assert "NaN" not in text


def test_a_set_or_latency_may_be_missing(entries: list[ReportEntry], cropped: EvaluationSet) -> None:
    config = dataclasses.replace(CONFIG, latency_rounds=0)
    only = build_report(entries, reference="onnx fp32", cropped=cropped, config=config)
    assert only.plain is None
    assert all(file.plain is None and file.latency is None for file in only.files)
    assert only.protocol.latency == "not measured"
    assert "plain" not in report_to_markdown(only)
    bare = build_report(entries[:2], reference="onnx fp32")
    assert bare.files[1].within_limits is None
    assert "No file was judged" in report_to_markdown(bare)
    assert "No file was judged" in report_to_html(bare)
    assert "plain" not in report_to_html(only)[report_to_html(only).index("<body>") :]
    assert bare.files[1].verdict.startswith("accuracy not measured; 25 %")
    assert report_from_json(report_to_json(bare)) == bare


def test_a_model_without_a_file(template_estimator: Make, plain: EvaluationSet) -> None:
    entry = ReportEntry(label="network", estimator=template_estimator())
    report = build_report([entry], reference="network", plain=plain, config=CONFIG)
    assert (report.files[0].size_bytes, report.files[0].size_ratio, report.files[0].file_name) == (None, None, None)


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


def test_bad_reports_are_named(
    entries: list[ReportEntry], report: Report, plain: EvaluationSet, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"one of them the reference 'none', got onnx fp32, onnx int8"):
        build_report(entries[:2], reference="none")
    with pytest.raises(InputError, match="needs different labels"):
        build_report([entries[0], entries[0]], reference="onnx fp32")
    limits = parse_limits("fail-under", ["cropped:AP=1"])
    with pytest.raises(InputError, match=r"cropped:AP ≥ 1 is about a set that is not given\. Give that set"):
        build_report(entries[:1], reference="onnx fp32", plain=plain, config=ReportConfig(limits=limits))
    with pytest.raises(InputError, match="bootstrap_samples must be at least 2, got 1"):
        ReportConfig(bootstrap_samples=1)
    with pytest.raises(InputError, match="definition of Ex-OKS must be one of"):
        ReportConfig(definition="x")
    with pytest.raises(InputError, match=r"The report .*none\.json cannot be read"):
        read_report(tmp_path / "none.json")
    for text, message in (
        ("{", "A report must be JSON"),
        ("[]", r"reads report schema 2, got None"),
        ('{"schema_version": 1}', r"reads report schema 2, got 1\. Make the report again"),
        ('{"schema_version": 2}', "lacks a field or has a wrong one"),
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


def test_int8_files_are_compared_with_each_other(
    report: Report, entries: list[ReportEntry], plain: EvaluationSet
) -> None:
    (pair,) = report.agreements
    assert (pair.first, pair.second) == ("onnx int8", "coreml int8")
    assert pair.crops == min(32, report.cropped.persons if report.cropped else 0)
    assert pair.overlap is not None
    assert 0 <= pair.overlap < 0.9  # the maps of one are shifted by six cells
    again = dataclasses.replace(entries[1], label="again")
    (same,) = build_report(
        [entries[0], entries[1], again], reference="onnx fp32", plain=plain, config=CONFIG
    ).agreements
    assert same.overlap == pytest.approx(1)
    assert same.presence == 0
    text, page = report_to_markdown(report), report_to_html(report)
    for shown in (text, page):
        assert "Do the int8 files agree?" in shown
    assert f"| onnx int8 | coreml int8 | {pair.overlap:.3f} |" in text
    alone = build_report(entries[:2], reference="onnx fp32", plain=plain, config=CONFIG)
    assert alone.agreements == ()
    assert "agree?" not in report_to_markdown(alone) + report_to_html(alone)
    assert report_from_json(report_to_json(report)).agreements == report.agreements or pair.overlap > 0
