"""The benchmark of the first pose: its parts come from one fresh process, and its profile reads Python's own."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from probpose_edge import shipped_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import benchmark_import

    return benchmark_import


def test_the_parts_are_those_of_one_process(benchmark: ModuleType) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    found = benchmark.fresh_process(shipped_model("tflite"), 1)
    assert set(benchmark.PARTS) <= set(found)
    parts = sum(found[name] for name in ("start", "import", "open", "first"))
    assert parts == pytest.approx(found["all"], abs=1e-6)
    assert found["torch"] is False
    assert "ai-edge-litert" in found["runtime"]


def test_a_file_without_a_pose_ends_it(benchmark: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"gave no pose:[\s\S]*There is no model file"):
        benchmark.fresh_process(tmp_path / "none.onnx", 0)


def test_the_profile_lists_own_time_longest_first(benchmark: ModuleType) -> None:
    text = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:       300 |        300 |   zipimport\n"
        "INFO: something else\n"
        "import time:     45258 |      90000 | numpy\n"
        "import time:      1500 |      50000 |     cv2\n"
    )
    assert benchmark.slowest_imports(text, 2) == [(45.258, "numpy"), (1.5, "cv2")]
