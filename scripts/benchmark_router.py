"""What a router costs beside the small model, one crop at a time, one thread.

    python scripts/benchmark_router.py SMALL ROUTER... [--rounds 200]

In turn: every call comes after one of the small model, as in a stream of single persons; what the call needs of
program and data has left the caches then. In a row: the last of ten calls one after the other. A file that does nothing
is called in the same way: that is what any call costs, whatever is in the file. Times are those of one call of the
runtime, Python included; shares are those of the medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from calibration_page import table
from onnx import TensorProto, helper

from probpose_edge.contract.read_contract import read_contract
from probpose_edge.routing.router import read_router_contract
from probpose_edge.runtimes.open_runtime import open_runtime

NOTHING = "a file that does nothing"
IN_A_ROW = 10


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("small", type=Path)
    parser.add_argument("routers", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    small = call_of(options.small, read_contract(options.small).input_wh)
    calls = {NOTHING: nothing()}
    calls |= {path.name: call_of(path, read_router_contract(path).input_wh) for path in options.routers}
    alone: list[float] = []
    turns: dict[str, list[float]] = {name: [] for name in calls}
    row: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(options.rounds + 10):
        for name, call in calls.items():
            before, times = seconds(small), [seconds(call) for _ in range(IN_A_ROW)]
            if turn >= 10:
                alone.append(before)
                turns[name].append(times[0])
                row[name].append(times[-1])
    base = float(np.median(alone))
    rows = [[options.small.name, f"{1e3 * base:.3f}", "100.0 %", "", ""]]
    for name in calls:
        medians = [float(np.median(times[name])) for times in (turns, row)]
        rows.append([name] + [text for m in medians for text in (f"{1e3 * m:.3f}", f"{100 * m / base:.1f} %")])
    print(table(["file", "in turn, ms", "share", "in a row, ms", "share"], rows))


def call_of(path: Path, input_wh: tuple[int, int]) -> Callable[[], object]:
    """One inference of one crop."""
    runtime = open_runtime(path, threads=1)
    crop = np.random.default_rng(0).integers(0, 256, (1, input_wh[1], input_wh[0], 3), dtype=np.uint8)
    return lambda: runtime.run(crop)


def nothing() -> Callable[[], object]:
    """An inference of an .onnx file that passes one number on."""
    number = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "nothing", number[:1], number[1:])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nothing.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {"x": np.zeros(1, dtype=np.float32)}
    return lambda: session.run(None, given)


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
