"""The page and the short text of a report: they say the answer first, and need nothing from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from probpose_edge import PoseEstimator
from probpose_eval import EvaluationSet, Report, ReportConfig, ReportEntry, load_evaluation_set, report_to_markdown
from probpose_eval.benchmark.latency import Latency
from probpose_eval.benchmark.placement import Placement
from probpose_eval.report.build_report import build_report_and_pictures
from probpose_eval.report.limits import MAX_DROP, parse_limits
from probpose_eval.report.report import FileReport
from probpose_eval.report.report_html import TEMPLATE, report_to_html
from probpose_eval.report.report_page import MOST_KEYPOINTS
from probpose_eval.report.report_text import headline, interval_is_open, remarks
from probpose_eval.report.worst_pictures import WorstPicture

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
LIMITS = parse_limits(MAX_DROP, ["Ex-AP=1,presence-ece=0.01"])
CONFIG = ReportConfig(bootstrap_samples=40, latency_rounds=2, latency_warmup=0, limits=LIMITS, command="probpose <x>")
LATENCY = Latency(median_ms=5.0, lower_quartile_ms=4.0, upper_quartile_ms=6.0, rounds=2)


@pytest.fixture
def made(
    template_estimator: Callable[..., PoseEstimator], photographed: tuple[Path, Path]
) -> tuple[Report, tuple[WorstPicture, ...]]:
    """A reference, a file like it, and a simulated one whose keypoints and presence are off."""
    data: EvaluationSet = load_evaluation_set(*photographed, name="noise & more")
    entries = [
        ReportEntry(label="m-fp32.onnx", estimator=template_estimator()),
        ReportEntry(label="m-int8.onnx", estimator=template_estimator(precision="int8", recipe="int8-static")),
        ReportEntry(
            label="m-<b>.mlpackage",
            estimator=template_estimator(
                shift=6, presence=0.6, provenance="simulated", format="coreml", precision="int8", recipe="int8-static"
            ),
        ),
    ]
    return build_report_and_pictures(entries, reference="m-fp32.onnx", plain=data, config=CONFIG, pictures=2)


def test_the_page_needs_nothing_from_elsewhere(made: tuple[Report, tuple[WorstPicture, ...]]) -> None:
    report, pictures = made
    page = report_to_html(report, pictures)
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "http" not in without_namespaces
    assert "<script" not in page
    assert "<link" not in page
    assert re.findall(r'src="(?!data:)', page) == []
    assert re.findall(r"url\((?!#)", page) == []
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', page)
    assert set(used) <= set(ids)
    assert page == report_to_html(report, pictures)


def test_the_page_begins_with_the_answer(made: tuple[Report, tuple[WorstPicture, ...]]) -> None:
    report, _ = made
    page = report_to_html(report)
    body = page[page.index("<body>") :]
    answer = "1 of 2 files breaks a limit: m-&lt;b&gt;.mlpackage."
    assert answer in body
    assert body.index(answer) < body.index("<table>") < body.index("<figure>") < body.index("How it was measured")
    assert '<section class="verdict fail">' in body
    assert "<b>.mlpackage" not in page
    for expected in (
        "noise &amp; more", "probpose &lt;x&gt;", "no flip test", "re-tuned", "simulated",
        "Can the probabilities", "Keypoint by keypoint", "presence-ece rises by at most 0.01",
    ):  # fmt: skip
        assert expected in page
    # Text of the figures is text.
    assert re.search(r"<text[^>]*>\s*left wrist\s*</text>", page)


def test_pictures_are_in_the_page_only_where_they_are_given(made: tuple[Report, tuple[WorstPicture, ...]]) -> None:
    report, pictures = made
    assert len(pictures) == 2
    assert pictures[0].drift.agreement <= pictures[1].drift.agreement
    assert all(picture.label == "m-<b>.mlpackage" for picture in pictures)
    assert all(picture.jpeg[:2] == b"\xff\xd8" for picture in pictures)
    with_pictures, without = report_to_html(report, pictures), report_to_html(report)
    for picture in pictures:
        assert base64.b64encode(picture.jpeg).decode() in with_pictures
    assert "<img" not in without
    assert f"<td>{pictures[0].drift.image_id}</td>" in without


def test_a_broken_figure_is_red_where_it_stands(made: tuple[Report, tuple[WorstPicture, ...]]) -> None:
    report, _ = made
    page = report_to_html(report)
    assert page.count('class="bad"') >= 2
    good = dataclasses.replace(report, files=report.files[:2])
    assert 'class="bad"' not in report_to_html(good)
    assert '<section class="verdict pass">' in report_to_html(good)


def test_layers_that_ran_elsewhere_are_named(made: tuple[Report, tuple[WorstPicture, ...]]) -> None:
    report, _ = made
    placement = Placement(
        asked="XNNPACK", asked_type="int8", layers=90, multiplying=70, other_place={"CAST": 2}, other_type={"fp32": 4}
    )
    changed = dataclasses.replace(report.files[1], placement=placement, latency=LATENCY)
    page = report_to_html(dataclasses.replace(report, files=(report.files[0], changed)))
    assert "4 of 70 layers in fp32, not int8" in page
    assert "2 of 90 layers outside XNNPACK" in page


def test_the_headline_and_its_remarks(made: tuple[Report, tuple[WorstPicture, ...]]) -> None:
    report, _ = made
    kind, words = headline(report)
    assert (kind, words) == ("fail", "1 of 2 files breaks a limit: m-<b>.mlpackage.")
    assert remarks(report)[0].startswith("m-<b>.mlpackage: Ex-AP on the plain set ")
    assert any(line.startswith("1 of 3 files was simulated") for line in remarks(report))
    good = dataclasses.replace(report, files=report.files[:2])
    assert headline(good) == (
        "pass",
        "The file keeps the limits: Ex-AP falls by at most 1 point, presence-ece rises by at most 0.01.",
    )
    timed = tuple(dataclasses.replace(file, latency=LATENCY, size_bytes=2_000_000) for file in good.files)
    assert "Fastest within the limits here: m-fp32.onnx (5.0 ms)." in remarks(dataclasses.replace(good, files=timed))
    assert headline(dataclasses.replace(report, files=report.files[:1]))[0] == "open"


def test_an_interval_that_reaches_beyond_a_limit_is_said(made: tuple[Report, tuple[WorstPicture, ...]]) -> None:
    report, _ = made
    file = report.files[1]
    assert not interval_is_open(file)
    scores = file.sets()["plain"]
    wide = dataclasses.replace(scores.differences["presence-ece"], high=0.02)
    unsure = dataclasses.replace(
        file, plain=dataclasses.replace(scores, differences={**scores.differences, "presence-ece": wide})
    )
    assert interval_is_open(unsure)
    words = remarks(dataclasses.replace(report, files=(report.files[0], unsure)))
    assert any("too small to rule a larger loss out (m-int8.onnx)" in line for line in words)


def test_the_short_text_has_one_row_per_file(made: tuple[Report, tuple[WorstPicture, ...]]) -> None:
    report, _ = made
    text = report_to_markdown(report)
    assert text.splitlines()[2] == "❌ **1 of 2 files breaks a limit: m-<b>.mlpackage.**"
    assert "| m-fp32.onnx (reference) | – |" in text
    assert "| m-int8.onnx | yes |" in text
    assert "| m-<b>.mlpackage | **no** |" in text
    assert "`probpose <x>`" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert len(text) < 6000


def test_the_template_is_in_the_package() -> None:
    assert files("probpose_eval.report").joinpath(TEMPLATE).is_file()


def test_of_many_keypoints_those_that_change_most_have_bars(made: tuple[Report, tuple[WorstPicture, ...]]) -> None:
    report, _ = made

    def many(file: FileReport, changed: float) -> FileReport:
        scores = file.sets()["plain"]
        one = scores.scores.keypoints["nose"]
        keypoints = {f"finger{i:02d}": dataclasses.replace(one, ex_oks=0.5 + changed * i / 100) for i in range(40)}
        return dataclasses.replace(
            file, plain=dataclasses.replace(scores, scores=dataclasses.replace(scores.scores, keypoints=keypoints))
        )

    files = tuple(many(file, changed) for file, changed in zip(report.files, (0, -1, 1), strict=True))
    page = report_to_html(dataclasses.replace(report, files=files))
    assert f"The {MOST_KEYPOINTS} of 40 keypoints that change most." in page
    assert re.search(r">\s*finger39\s*</text>", page)
    assert not re.search(r">\s*finger05\s*</text>", page)
    assert "finger39 −39.0, finger14 −14.0" in page
