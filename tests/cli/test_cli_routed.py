"""--routed: two models behind a router, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probpose_edge import COCO_17, shipped_model
from probpose_edge.routing.router_contract import RouterContract
from probpose_eval import read_report

pytest.importorskip("onnxruntime", reason="needs onnxruntime to run models")


@pytest.fixture(scope="module")
def router(
    tmp_path_factory: pytest.TempPathFactory, write_brightness_router: Callable[[Path, str, tuple[int, int]], None]
) -> Path:
    """A router that scores crops by their brightness."""
    contract = RouterContract(
        model="bright",
        format="onnx",
        precision="fp32",
        recipe="fp32",
        input_wh=(192, 256),
        padding=1.25,
        small="a",
        large="b",
        keypoint_names=COCO_17.keypoint_names,
        score_quantiles=(0.0, 0.2, 0.4),
        checkpoint_sha256="0" * 64,
        licence="Apache-2.0",
    )
    path = tmp_path_factory.mktemp("router") / "bright.onnx"
    write_brightness_router(path, contract.to_json(), contract.input_wh)
    return path


def test_predict_and_evaluate_with_a_router(
    cli: Callable[..., Any], router: Path, drawn_set: Path, tmp_path: Path
) -> None:
    small = shipped_model("onnx")
    routed = f"{router}:{small}:flip"
    picture = sorted((drawn_set / "images").iterdir())[0]
    outcome = cli("predict", picture, "--routed", routed, "--share", 0.5, "--out", tmp_path, "--json")
    assert outcome.code == 0, outcome.err
    assert len(json.loads(outcome.out)) == 1
    data = ("--annotations", drawn_set / "annotations.json", "--images", drawn_set / "images")
    outcome = cli("evaluate", small, *data, "--routed", routed, "--share", 0.75, "--json")
    assert outcome.code == 0, outcome.err
    rows = json.loads(outcome.out)
    assert list(rows) == [small.name, "bright.onnx, 75%"]
    assert rows["bright.onnx, 75%"]["ran on"] == f"{small.name} and {small.name}, flip test"
    assert rows["bright.onnx, 75%"]["mean OKS"] != rows[small.name]["mean OKS"]


def test_what_is_wrong_is_said(cli: Callable[..., Any], router: Path, drawn_set: Path, tmp_path: Path) -> None:
    small = shipped_model("onnx")
    picture = sorted((drawn_set / "images").iterdir())[0]
    data = ("--annotations", drawn_set / "annotations.json", "--images", drawn_set / "images")
    for arguments, message in (
        (("predict", picture, "--routed", "a:b"), "named by three files, ROUTER:SMALL:LARGE, got 'a:b'"),
        (("predict", small, picture, "--routed", f"{router}:{small}:flip"), "--routed names its models itself"),
        (("predict", picture, "--routed", f"{router}:{small}:flip", "--share", 1.5), "share must be a number in"),
        (("predict", picture, "--routed", f"{small}:{small}:flip"), "A router was asked for"),
        (("predict", picture, "--routed", f"{router}:{router}:flip"), "A pose model was asked for"),
        (("evaluate", small, *data, "--routed", f"{router}:{router}:flip"), "must be named among the models"),
    ):
        outcome = cli(*arguments, *(("--out", tmp_path) if arguments[0] == "predict" else ()))
        assert outcome.code == 2
        assert message in " ".join(outcome.err.split())


def test_what_fails_on_the_way_is_one_line(
    cli: Callable[..., Any], router: Path, drawn_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise OSError("the accelerator is gone")

    monkeypatch.setattr("probpose_edge.routing.router.Router.__call__", gone)
    pictures = sorted((drawn_set / "images").iterdir())
    outcome = cli("predict", *pictures, "--routed", f"{router}:{shipped_model('onnx')}:flip", "--out", tmp_path)
    assert outcome.code == 0
    # A warning that comes again is said once, as everywhere in Python.
    (line,) = outcome.err.splitlines()
    assert line.startswith("warning: The router of a RoutedEstimator must run, but it failed (OSError): the accelerat")


def test_a_report_tells_what_routing_is_worth(
    cli: Callable[..., Any], router: Path, drawn_set: Path, tmp_path: Path
) -> None:
    small = shipped_model("onnx")
    data = ("--annotations", drawn_set / "annotations.json", "--images", drawn_set / "images")
    routed = ("--routed", f"{router}:{small}:flip")
    outcome = cli(
        "report", small, "--reference", small, *data, *routed, "--no-pictures", "--latency-rounds", 1, "--out", tmp_path
    )
    assert outcome.code == 0, outcome.err
    (said,) = read_report(tmp_path / "report.json").routing
    assert (said.small, said.large) == (small.name, f"{small.name}, flip test")
    assert {name: len(points) for name, points in said.curves.items()} == {"plain": 5, "cropped": 5}
    assert said.costs[0].macs
    assert said.costs[-1].macs == pytest.approx(2 * said.costs[0].macs)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "What is routing worth?" in text
        assert "cropped, 75%" in text


def test_a_benchmark_times_every_share(cli: Callable[..., Any], router: Path) -> None:
    small = shipped_model("onnx")
    outcome = cli("benchmark", small, "--rounds", 1, "--routed", f"{router}:{small}:flip", "--json")
    assert outcome.code == 0, outcome.err
    (said,) = json.loads(outcome.out)["routing"]
    assert (said["router"], said["small"]) == ("bright.onnx", small.name)
    assert [cost["share"] for cost in said["costs"]] == [0, 0.25, 0.5, 0.75, 1]
    outcome = cli("benchmark", small, "--rounds", 1, "--routed", f"{router}:{small}:flip")
    assert "bright.onnx, 25%" in outcome.out
