"""Several persons per frame: crops through the network in parts of 1, 2, 4, 8 or 16, all in turns in one run.

    python scripts/benchmark_batches.py MODEL... [--persons 1 8 16] [--rounds 40] [--threads 1]

The network alone on drawn people: processor time with one thread, which other work on the machine stretches little, and
wall time with more. Files that hold one crop (.tflite, .mlpackage) have one row.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # numpy's libraries read them when they are imported

import numpy as np  # noqa: E402

from probpose_edge import Runtime, open_runtime, read_contract  # noqa: E402
from probpose_edge.drawn_crops import drawn_crops  # noqa: E402
from probpose_edge.runtimes import onnx as onnx_runtime  # noqa: E402
from probpose_edge.runtimes.base import run_in_parts  # noqa: E402

PARTS = (1, 2, 4, 8, 16)


def calls_of(path: Path, runtime: Runtime, crops: np.ndarray) -> dict[tuple[str, int, int], Callable[[], object]]:
    """(file, persons, crops per call) → what to time."""
    sizes = [part for part in PARTS if part <= len(crops)] if path.suffix == ".onnx" else [1]
    return {(path.name, len(crops), size): lambda size=size: run_in_parts(crops, size, runtime.run) for size in sizes}


def main() -> None:
    """Time every file and part in turns, print medians and quartiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--persons", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    clock = time.process_time if options.threads == 1 else time.perf_counter

    onnx_runtime.LARGEST_BATCH = max(PARTS)  # the SDK's own limit is what is chosen by this
    runtimes = [open_runtime(path, threads=options.threads) for path in options.models]
    drawn = drawn_crops(read_contract(options.models[0]).input_wh)
    calls: dict[tuple[str, int, int], Callable[[], object]] = {}
    for path, runtime in zip(options.models, runtimes, strict=True):
        for persons in options.persons:
            calls |= calls_of(path, runtime, np.resize(drawn, (persons, *drawn.shape[1:])))
    times: dict[tuple[str, int, int], list[float]] = {name: [] for name in calls}
    names = list(calls)
    for step in range(options.rounds + 3):
        shift = step % len(names)
        for name in names[shift:] + names[:shift]:
            start = clock()
            calls[name]()
            if step >= 3:
                times[name].append(1000 * (clock() - start))

    print(f"{options.threads} thread(s), medians of {options.rounds} rounds in turns")
    print("| file | persons | crops per call | ms | quartiles | ms per person |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, persons, size), values in times.items():
        lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
        print(f"| {name} | {persons} | {size} | {median:.1f} | {lower:.1f} to {upper:.1f} | {median / persons:.2f} |")


if __name__ == "__main__":
    main()
