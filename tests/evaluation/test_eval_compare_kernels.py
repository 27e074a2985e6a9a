"""The script that compares decode kernels, on drawn data and a runtime whose answers are known."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from probpose_edge import PoseEstimator
from probpose_edge.contract.metadata import KERNELS
from probpose_eval import load_evaluation_set

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("compare_kernels")


def test_the_network_runs_once_and_every_kernel_has_a_row(
    script: ModuleType, photographed: tuple[Path, Path], template_estimator: Callable[..., PoseEstimator]
) -> None:
    estimator = template_estimator()
    data = load_evaluation_set(*photographed, name="drawn")
    rows = script.compare(estimator, data, samples=20, seed=0)
    persons = sum(estimator.runtime.calls)  # type: ignore[attr-defined]
    assert persons == len([p for p in data.annotations.persons if p.num_keypoints and not p.iscrowd])
    assert [row.kernel for row in rows] == list(KERNELS)
    assert all(interval.value == 0 for interval in rows[0].differences.values())
    argmax = rows[KERNELS.index("argmax")]
    for metric, difference in argmax.differences.items():
        assert difference.value == pytest.approx(argmax.values[metric].value - rows[0].values[metric].value)
    text = script.page(rows, [data], {"model": "template"})
    assert text.count("| drawn | ") >= 3
    assert "| model | template |" in text
    assert data.pictures_sha256 in text
