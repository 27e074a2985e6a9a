"""The Python on the page about probabilities runs as it stands there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from probpose_convert.write_contract import write_contract
from probpose_edge import read_contract, shipped_model
from probpose_eval.calibration.measure_presence_rates import measure_presence_rates
from probpose_eval.synth import draw_scene

PAGE = Path(__file__).resolve().parents[1] / "docs" / "probabilities.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="the page runs the shipped .onnx file")
    scene = draw_scene(np.random.default_rng(8), persons=(1, 1), cut_share=0.0, occluder_share=0.0)
    cv2.imwrite(str(tmp_path / "photo.jpg"), scene.image)
    rng = np.random.default_rng(0)
    present = np.arange(1000) % 5 > 0
    contract = read_contract(shutil.copy(shipped_model("onnx"), tmp_path / "calibrated.onnx"))
    rates = measure_presence_rates(np.clip(rng.normal(np.where(present, 0.9, 0.3), 0.2), 0, 0.99), present)
    write_contract(
        tmp_path / "calibrated.onnx",
        contract.replace(calibration={**contract.calibration, "presence_rates": rates}),
    )
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert json.dumps(names["poses"].to_coco(1))  # type: ignore[attr-defined]
    assert names["chosen"].false_positive_rate <= 0.1  # type: ignore[attr-defined]
    printed = capsys.readouterr().out
    assert "False" in printed
    assert "nan" not in printed
