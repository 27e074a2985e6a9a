"""Load time and peak memory of one model file, in a process of its own.

``python -m probpose_eval.benchmark.footprint FILE THREADS BATCH``
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import ModelFileError
from probpose_edge.runtimes.open_runtime import open_runtime

LOADS = 3


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What holding a file costs.

    Attributes
    ----------
    load_ms: the fastest of three loads, the runtime's library being imported already.
    peak_mb: largest memory of a process that loads the file and runs it, in 10^6 bytes, Python and libraries included;
        None on systems that do not tell.
    model_mb: the share of it that was not there before the file was loaded.
    """

    load_ms: float
    peak_mb: float | None
    model_mb: float | None


def measure_footprint(path: Path, *, threads: int, batch: int) -> Footprint:
    """Load a file and run two batches of noise, in a new process.

    Raises `ModelFileError` if that process fails.
    """
    command = [sys.executable, "-m", "probpose_eval.benchmark.footprint", str(path), str(threads), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return Footprint(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError) as error:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ModelFileError(
            f"A process of its own must load and run {path}, but it ended with: {last}. Free some memory, or leave the "
            "file out."
        ) from error


def _measure(path: Path, threads: int, batch: int) -> dict[str, float | None]:
    # Loading once brings in the runtime's library and the file's pages; neither is what the file costs.
    _import_runtime(path)
    before = _memory_mb("VmRSS")
    first = time.perf_counter()
    estimator = PoseEstimator.open(path, threads=threads)
    loads = [time.perf_counter() - first]
    width, height = estimator.contract.input_wh
    crops = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    windows = np.tile(np.array([[width / 2, height / 2, width, height]]), (batch, 1))
    for _ in range(2):
        estimator.predict_crops(crops, windows)
    peak = _memory_mb("VmHWM")
    estimator.close()
    for _ in range(LOADS - 1):
        start = time.perf_counter()
        open_runtime(path, threads=threads).close()
        loads.append(time.perf_counter() - start)
    own = None if peak is None or before is None else peak - before
    return {"load_ms": min(loads) * 1e3, "peak_mb": peak, "model_mb": own}


def _import_runtime(path: Path) -> None:
    module = {".onnx": "probpose_edge.runtimes.onnx", ".tflite": "probpose_edge.runtimes.litert"}.get(path.suffix)
    libraries = {".onnx": ("onnxruntime",), ".tflite": ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")}
    for name in (module, *libraries.get(path.suffix, ())):
        try:
            if name is not None:
                __import__(name)
                if name != module:
                    return
        except ImportError:
            continue


def _memory_mb(field: str) -> float | None:
    """A line of ``/proc/self/status``; elsewhere the peak that the system reports, and nothing for the present."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) * 1024 / 1e6
    except OSError:
        if field == "VmHWM" and sys.platform == "darwin":
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return None


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
