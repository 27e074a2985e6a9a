"""Rows of a report say how they came about: measured here or elsewhere, or simulated with or without rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probpose_edge import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_eval import ReportConfig, ReportEntry, build_report, load_evaluation_set
from probpose_eval.benchmark.latency import Latency, Machine
from probpose_eval.evaluation_set import EvaluationSet
from probpose_eval.mac.measured_files import MeasuredFile
from probpose_eval.observations.observe import observe_set
from probpose_eval.report.report_text import how_run

Make = Callable[..., PoseEstimator]
MAC = Machine(processor="Apple M2", logical_cores=8, system="macOS 15.1 arm64", python="3.12.1")
LATENCY = Latency(median_ms=0.5, lower_quartile_ms=0.4, upper_quartile_ms=0.6, rounds=30)
QUICK = ReportConfig(bootstrap_samples=20, latency_rounds=2)


@pytest.fixture
def data(photographed: tuple[Path, Path]) -> EvaluationSet:
    return load_evaluation_set(*photographed, name="photographed")


def from_the_mac(data: EvaluationSet, estimator: PoseEstimator, reference: PoseEstimator) -> MeasuredFile:
    observed = observe_set([reference, estimator], data.annotations, data.images_dir, reference=0)[1]
    return MeasuredFile(
        file_name="m.mlpackage",
        sha256="a" * 64,
        runtime="CoreML (coremltools 9.0)",
        machine=MAC,
        latency=LATENCY,
        observed={"plain": observed},
    )


@pytest.mark.parametrize(("rounds", "words"), [(True, "yes"), (False, "no")])
def test_simulated_rows_tell_of_rounding(
    data: EvaluationSet, template_estimator: Make, rounds: bool, words: str
) -> None:
    simulated = template_estimator(provenance="simulated", format="coreml")
    simulated.runtime.fp16_rounding = rounds  # type: ignore[attr-defined]
    entries = [ReportEntry(label="r", estimator=template_estimator()), ReportEntry(label="m", estimator=simulated)]
    report = build_report(entries, reference="r", plain=data, config=QUICK)
    assert [how_run(file) for file in report.files] == ["measured", f"simulated (fp16 rounding: {words})"]
    assert report.files[1].latency is None


def test_a_row_from_another_machine_is_that_of_a_run_here_with_its_own_latency(
    data: EvaluationSet, template_estimator: Make
) -> None:
    reference = template_estimator()
    full: dict[str, Any] = {"format": "coreml", "provenance": "simulated"}
    small = {**full, "shift": 2, "precision": "int8", "recipe": "int8-static"}
    here = build_report(
        [ReportEntry(label="r", estimator=reference), ReportEntry(label="m", estimator=template_estimator(**small))],
        reference="r",
        plain=data,
        config=QUICK,
    )
    on_mac = template_estimator(**small)
    measured = from_the_mac(data, on_mac, reference)
    on_mac.runtime.calls.clear()  # type: ignore[attr-defined]
    there = build_report(
        [
            ReportEntry(label="r", estimator=reference),
            ReportEntry(label="m", estimator=on_mac, measured=measured),
            ReportEntry(label="f", estimator=template_estimator(**full)),
        ],
        reference="r",
        plain=data,
        config=QUICK,
    )
    assert on_mac.runtime.calls == [], "not run here"  # type: ignore[attr-defined]
    row = there.files[1]
    assert row.plain == here.files[1].plain
    assert (row.provenance, row.machine, row.latency) == ("measured", MAC, LATENCY)
    assert how_run(row) == "measured, Apple M2"
    assert row.runtime == "CoreML (coremltools 9.0)"
    assert row.speedup_over_fp32 is None, "times of two machines make no ratio"
    assert row.placement is None
    assert there.files[0].machine is None


def test_the_reference_runs_here(data: EvaluationSet, template_estimator: Make) -> None:
    reference = template_estimator()
    measured = from_the_mac(data, reference, reference)
    with pytest.raises(InputError, match=r"reference of a report must run here, but r was measured on another machine"):
        build_report(
            [ReportEntry(label="r", estimator=reference, measured=measured)], reference="r", plain=data, config=QUICK
        )
