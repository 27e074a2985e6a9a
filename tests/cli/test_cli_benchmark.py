"""`benchmark` on the shipped files, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from probpose_edge.weights import shipped_model

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("ai_edge_litert", reason="needs the extra tflite")

Cli = Callable[..., "Outcome"]  # noqa: F821 (defined in conftest)


def test_a_table_and_a_verdict(cli: Cli) -> None:
    done = cli("benchmark", shipped_model("onnx"), shipped_model("tflite"), "--rounds", 2)
    assert done.code == 0
    assert "medians of 2 rounds in turns [quartiles]" in done.out
    for text in ("probpose-m-int8.onnx", "probpose-m-int8.tflite", "peak MB", "large matrix product", "energy: "):
        assert text in done.out
    assert "\nShip probpose-m-int8." in done.out


def test_json(cli: Cli) -> None:
    done = cli("benchmark", shipped_model("onnx"), "--rounds", 1, "--batch", 2, "--json")
    document = json.loads(done.out)
    (file,) = document["files"]
    assert file["path"] == str(shipped_model("onnx"))
    assert file["network_crops_per_second"] == pytest.approx(2000 / file["network"]["median_ms"])
    assert file["operators"]["int8_macs"] > file["operators"]["float_macs"]
    assert (document["batch"], document["threads"], document["rounds"]) == (2, 1, 1)
    assert document["verdict"][0].startswith("One file alone has nothing to be compared with")


def test_what_is_refused(cli: Cli, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"no model")
    for arguments, text in (
        ((tmp_path / "gone.onnx",), "There is no model file"),
        ((shipped_model("onnx"), damaged, shipped_model("tflite")), "damaged.tflite is not a complete TFLite model"),
        ((tmp_path / "picture.png",), "must end in .onnx, .tflite or .mlpackage"),
        ((shipped_model("onnx"), "--rounds", 0), "needs rounds of at least 1, got 0"),
        ((shipped_model("onnx"), "--threads", 0), "needs threads of at least 1, got 0"),
    ):
        done = cli("benchmark", *arguments)
        assert done.code == 2
        assert done.err.startswith("error: ")
        assert text in " ".join(done.err.split())
