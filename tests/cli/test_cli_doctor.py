"""`doctor`: what is installed, what works, what to do about the rest."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_cli import doctor_checks
from probpose_edge import RawOutputs, read_contract, shipped_model
from probpose_edge.extras import _broken as broken_import
from probpose_edge.runtimes.onnx import OnnxRuntime

pytest.importorskip("onnxruntime", reason="doctor is shown with onnxruntime")
pytest.importorskip("ai_edge_litert", reason="doctor is shown with LiteRT")
Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "_cameras", list)


def by_name(answer: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {check["what"]: check for check in answer["checks"]}


def test_a_healthy_machine(cli: Cli) -> None:
    done = cli("doctor", "--json")
    assert done.code == 0, done.out
    answer = json.loads(done.out)
    assert answer["ok"] is True
    here = answer["installed"]
    assert here["packages"]["numpy"] == [f"numpy {np.__version__}"]
    assert "CPUExecutionProvider" in here["onnxruntime providers"]
    assert here["machine"]
    checks = by_name(answer)
    for what in ("onnxruntime, CPUExecutionProvider", "LiteRT"):
        assert checks[what]["state"] == "ok"
        assert "as recorded: " in checks[what]["said"]
    assert checks["camera"]["state"] == "remark"


def test_people_read_it_too(cli: Cli) -> None:
    done = cli("doctor")
    assert done.code == 0
    assert done.out.startswith("probpose-edge 0.")
    assert "ok      LiteRT: as recorded" in done.out
    assert done.out.strip().endswith("Everything that is here works.")


def test_files_are_recorded_and_compared(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.tflite"
    # Another file than the shipped one: its contract says so.
    from probpose_convert.write_contract import write_contract

    path.write_bytes(shipped_model("tflite").read_bytes())
    write_contract(path, read_contract(path).replace(recipe="int8-mine"))
    checks = by_name(json.loads(cli("doctor", path, "--json").out))
    assert checks[str(path)]["state"] == "remark"
    assert "no numbers were recorded to compare with" in checks[str(path)]["said"]
    assert checks[str(path)]["remedy"].endswith(f"probpose-edge doctor {path} --record")
    before = path.read_bytes()
    done = cli("doctor", path, "--record", "--json")
    assert done.code == 0
    assert "recorded in" in done.err
    assert by_name(json.loads(done.out))[str(path)]["state"] == "ok"
    size = int.from_bytes(before[4:8], "big") and before.index(b"PK\x03\x04")
    assert path.read_bytes()[:size] == before[:size]
    wrong = read_contract(path)
    wrong.self_test["presence"] = (1 - np.array(wrong.self_test["presence"])).tolist()
    write_contract(path, wrong)
    done = cli("doctor", path, "--json")
    assert done.code == 1
    check = by_name(json.loads(done.out))[str(path)]
    assert check["state"] == "problem"
    assert "the drawn picture gives other answers than recorded" in check["said"]
    assert "copy the file again, update the runtime" in check["remedy"]


def test_problems_name_their_remedy(cli: Cli, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(shipped_model("onnx").read_bytes()[:-5000])
    text = tmp_path / "text.tflite"
    text.write_text("no model")
    done = cli("doctor", tmp_path / "none.onnx", cut, text, tmp_path / "x.pb", "--json")
    assert done.code == 1
    answer = json.loads(done.out)
    assert answer["ok"] is False
    checks = by_name(answer)
    for path, said, remedy in (
        (tmp_path / "none.onnx", "There is no model file", "Check the path"),
        (cut, "is not a complete ONNX model", "Copy it again, or convert the checkpoint again"),
        (text, "does not start with the TFL3 mark", "Copy it again, or convert the checkpoint again"),
        (tmp_path / "x.pb", "must end in .onnx, .tflite or .mlpackage", "Make one from a checkpoint"),
    ):
        assert checks[str(path)]["state"] == "problem"
        assert said in checks[str(path)]["said"]
        assert remedy in checks[str(path)]["remedy"]
    assert all(check["remedy"] for check in checks.values() if check["state"] == "problem")
    assert "4 problems." in cli("doctor", tmp_path / "none.onnx", cut, text, tmp_path / "x.pb").out


def test_without_a_runtime(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "find_spec", lambda name: None)
    done = cli("doctor")
    assert done.code == 1
    assert "PROBLEM runtime: none is installed that could run a model here" in done.out
    assert 'pip install "probpose-edge[onnx]", or [tflite]' in done.out


def test_a_runtime_that_does_not_load(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(purpose: str, module: str, extra: str) -> None:
        raise broken_import(purpose, module, extra, OSError("libgomp.so.1: no such file"))

    monkeypatch.setattr(doctor_checks, "import_extra", fail)
    done = cli("doctor", "--json")
    assert done.code == 1
    check = by_name(json.loads(done.out))["onnxruntime, CPUExecutionProvider"]
    assert check["state"] == "problem"
    assert "installed but does not load here: libgomp" in check["said"]
    assert check["remedy"] == 'Reinstall it with: pip install --force-reinstall "probpose-edge[onnx]"'


def test_a_provider_that_is_listed_but_does_not_start(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers",
        lambda: ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
    )  # fmt: skip
    straight = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession",
        lambda path, options, providers: straight(path, options, providers=["CPUExecutionProvider"]),
    )  # fmt: skip
    checks = by_name(json.loads(cli("doctor", "--json").out))
    assert "it takes minutes" in checks["onnxruntime, TensorrtExecutionProvider"]["said"]
    check = checks["onnxruntime, CUDAExecutionProvider"]
    assert check["state"] == "problem"
    assert "it is listed but did not start" in check["said"]
    assert "install the drivers" in check["remedy"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (RuntimeError("kernel\ncrashed"), "it fails with RuntimeError: kernel crashed"),
        (None, "must be finite, but has NaN or infinite values"),
    ],
)
def test_a_runtime_that_breaks_while_it_runs(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, broken: Exception | None, said: str
) -> None:
    straight = OnnxRuntime.run

    def run(self: OnnxRuntime, crops: np.ndarray[Any, Any]) -> RawOutputs:
        if broken is not None:
            raise broken
        raw = straight(self, crops)
        assert raw.presence is not None
        raw.presence[:] = np.nan
        return raw

    monkeypatch.setattr(OnnxRuntime, "run", run)
    done = cli("doctor", "--json")
    assert done.code == 1
    check = by_name(json.loads(done.out))["onnxruntime, CPUExecutionProvider"]
    assert check["state"] == "problem"
    assert said in check["said"]
    assert check["remedy"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="device files are Linux's")
def test_cameras(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    devices = [tmp_path / "video0", tmp_path / "video1"]
    for device in devices:
        device.touch()
    monkeypatch.setattr(doctor_checks, "_cameras", lambda: devices)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != devices[1])
    done = cli("doctor", "--camera", "97", "--json")
    assert done.code == 1
    checks = by_name(json.loads(done.out))
    assert checks[str(devices[0])]["state"] == "ok"
    assert checks[str(devices[1])]["remedy"].startswith('sudo usermod -aG video "$USER"')
    assert checks["camera 97"]["said"] == "Camera 97 cannot be opened"


def test_recording_needs_files_that_devices_run(cli: Cli, tmp_path: Path) -> None:
    done = cli("doctor", "--record")
    assert done.code == 2
    assert "doctor --record needs the model files to record, got none. Name them." in done.err
    done = cli("doctor", tmp_path / "a.safetensors", "--record")
    assert done.code == 2
    assert "A self-test is recorded in .onnx, .tflite and .mlpackage files, got 'a.safetensors'" in done.err
