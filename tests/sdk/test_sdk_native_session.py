"""Open models where the process forks, threads share them, or their files change on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probpose_edge import InputError, ModelFileError, open_runtime
from probpose_edge.extras import import_extra

FORKS = """
import os, sys
import numpy as np
from probpose_edge import LiveStream, InputError, PoseEstimator

image = np.random.default_rng(0).integers(0, 255, (120, 90, 3)).astype(np.uint8)
live = LiveStream([image] * 3, lambda frame: frame.index)
with PoseEstimator.open(sys.argv[1], threads=2) as estimator, live:
    before = estimator(image, [[5, 5, 70, 100]]).keypoints
    child = os.fork()
    same = np.array_equal(estimator(image, [[5, 5, 70, 100]]).keypoints, before)
    if child == 0:
        try:
            next(live)
        except InputError as error:
            print(error)
if child == 0:
    sys.exit(0 if same else 3)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print("child", status, "parent", same)
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture(params=["onnx", "tflite"])
def model(request: pytest.FixtureRequest) -> Path:
    """A tiny file of each format."""
    pytest.importorskip({"onnx": "onnxruntime", "tflite": "ai_edge_litert"}[request.param])
    return Path(request.getfixturevalue(f"write_{request.param}")())


def crops_for(model: Path, n: int = 1, seed: int = 0) -> np.ndarray:
    size = (64, 48) if model.suffix == ".onnx" else (16, 12)
    return np.random.default_rng(seed).integers(0, 255, (n, *size, 3)).astype(np.uint8)


@needs_fork
def test_a_forked_process_estimates_too_and_both_end(model: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKS, model], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "child 0 parent True" in done.stdout
    assert "forked from it, which has none of its threads. Open a stream in the process that takes" in done.stdout


def test_a_file_that_is_overwritten_or_cut_does_not_touch_the_open_model(model: Path) -> None:
    """A mapped file would end the process with SIGBUS, or change the answers."""
    runtime, crops = open_runtime(model, threads=1), crops_for(model)
    before = runtime.run(crops).logits.copy()
    with model.open("r+b") as file:
        file.write(b"\x00" * model.stat().st_size)
    np.testing.assert_array_equal(runtime.run(crops).logits, before)
    os.truncate(model, 0)
    np.testing.assert_array_equal(runtime.run(crops).logits, before)
    model.unlink()
    np.testing.assert_array_equal(runtime.run(crops).logits, before)


def test_a_forked_process_does_not_take_another_file_for_the_same(write_onnx: Callable[..., Path]) -> None:
    pytest.importorskip("onnxruntime")
    model = write_onnx()
    runtime, crops = open_runtime(model), crops_for(model)
    before = runtime.run(crops).logits
    runtime._session.leave()  # what the fork does in the child
    np.testing.assert_array_equal(runtime.run(crops).logits, before)
    runtime._session.leave()
    model.write_bytes(model.read_bytes() + b"\x00")
    with pytest.raises(ModelFileError, match=r"opens its models again, but .*tiny.onnx was replaced or removed since"):
        runtime.run(crops)
    runtime.close()
    with pytest.raises(InputError, match="This model was closed"):
        runtime.run(crops)


def test_one_model_in_several_threads_gives_everybody_the_right_answer(model: Path) -> None:
    runtime = open_runtime(model, threads=1)
    crops = [crops_for(model, seed=seed) for seed in range(4)]
    expected = [runtime.run(crop).logits.copy() for crop in crops]
    wrong: list[object] = []

    def work(index: int) -> None:
        try:
            for _ in range(100):
                if not np.array_equal(runtime.run(crops[index]).logits, expected[index]):
                    wrong.append(index)
        except Exception as error:  # a thread has nobody else to tell
            wrong.append(error)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(crops))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_onnxruntime_is_asked_not_to_report_home(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "")  # so that it is restored
    if before is None:
        monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    else:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", before)
    import_extra("Running .onnx files", "onnxruntime", "onnx")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == after
