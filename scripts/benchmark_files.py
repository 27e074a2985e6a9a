"""Time model files beside each other on this machine, one crop at a time, and print their ratios.

    python scripts/benchmark_files.py fp32.onnx int8.onnx fp32.tflite int8.tflite --threads 1

Every round runs each file once, so that a busy machine is busy for all of them. Ratios are to the first file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from probpose_edge.read_contract import read_contract
from probpose_edge.runtimes.open_runtime import open_runtime
from probpose_eval.latency import describe_machine, measure_latency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help=".onnx and .tflite files; the first is what others face")
    parser.add_argument("--threads", type=int, default=1, help="threads within one inference (default 1)")
    parser.add_argument("--rounds", type=int, default=50, help="timed rounds (default 50)")
    options = parser.parse_args()

    width, height = read_contract(options.files[0]).input_wh
    crops = np.random.default_rng(0).integers(0, 256, (8, height, width, 3)).astype(np.uint8)
    runtimes = {str(path): open_runtime(path, threads=options.threads) for path in options.files}
    latencies = measure_latency(runtimes, crops, rounds=options.rounds)

    machine = describe_machine()
    print(f"{machine.processor}, {machine.logical_cores} logical cores, {machine.system}; {options.threads} thread(s), "
          f"{options.rounds} rounds, milliseconds per crop")  # fmt: skip
    first = latencies[str(options.files[0])].median_ms
    longest = max(len(name) for name in runtimes)
    print(f"{'file':{longest}}  {'MB':>6}  {'median':>7}  {'quartiles':>15}  {'faster':>6}  runtime")
    for path in options.files:
        name = str(path)
        time = latencies[name]
        spread = f"{time.lower_quartile_ms:.2f} to {time.upper_quartile_ms:.2f}"
        print(
            f"{name:{longest}}  {path.stat().st_size / 1e6:6.2f}  {time.median_ms:7.2f}  {spread:>15}  "
            f"{first / time.median_ms:5.2f}x  {runtimes[name].name}"
        )


if __name__ == "__main__":
    main()
