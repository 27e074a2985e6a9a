"""How long a program waits for its first pose, in fresh processes: `import probpose_edge`, open a file, one picture.

    python scripts/benchmark_import.py [MODEL ...] [--runs 11] [--threads N] [--profile]

Without MODEL both shipped INT8 files are measured, each with its runtime. Wall time from the start of the process to
the first pose, its parts, and the processor time of all; medians, and the slowest. Files take turns, after a round that
warms the file cache. Other work on the machine stretches wall time, hardly processor time. --profile lists the modules
whose import takes longest instead, their own time without what they import.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

MOST_S = 1.0
"""What the first pose may take, from the start of the process."""
PARTS = ("start", "import", "open", "first", "all", "processor")
PROGRAM = """
import sys, time
started = time.monotonic()
import probpose_edge
imported = time.monotonic()
import_cpu = time.process_time()
import numpy as np
threads = int(sys.argv[2]) or None
with probpose_edge.PoseEstimator.open(sys.argv[1], threads=threads) as estimator:
    opened = time.monotonic()
    poses = estimator(np.zeros((480, 640, 3), np.uint8), np.array([[200.0, 80.0, 320.0, 440.0]]))
    done = time.monotonic()
    import json
    print(json.dumps({"started": started, "import": imported - started, "open": opened - imported,
                      "first": done - opened, "done": done, "processor": time.process_time(),
                      "import processor": import_cpu, "torch": "torch" in sys.modules,
                      "runtime": estimator.runtime.name}))
"""


def fresh_process(model: Path, threads: int) -> dict[str, float | str | bool]:
    """Times of one process, in seconds."""
    before = time.monotonic()
    command = [sys.executable, "-c", PROGRAM, str(model), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{model} gave no pose:\n{done.stderr[-1500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {**found, "start": found["started"] - before, "all": found["done"] - before}


def slowest_imports(text: str, count: int = 15) -> list[tuple[float, str]]:
    """Milliseconds of their own and names of the modules in what `python -X importtime` wrote, longest first."""
    rows = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", text)
    return sorted(((int(own) / 1000, name) for own, name in rows), reverse=True)[:count]


def profile(model: Path, threads: int) -> None:
    command = [sys.executable, "-X", "importtime", "-c", PROGRAM, str(model), str(threads)]
    subprocess.run(command, capture_output=True, check=True)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"{model.name}: imports until the first pose")
    for milliseconds, name in slowest_imports(done.stderr):
        print(f"  {milliseconds:7.1f} ms  {name}")


def main() -> None:
    """Run each file once, then measure in turns."""
    from probpose_edge import shipped_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="*", type=Path, help="files; the shipped INT8 ones without any")
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--threads", type=int, default=0, help="0 is the runtime's own default")
    parser.add_argument("--profile", action="store_true", help="what the imports take")
    options = parser.parse_args()
    models = options.model or [shipped_model(kind) for kind in ("onnx", "tflite")]
    if options.profile:
        for model in models:
            profile(model, options.threads)
        return
    rounds = [{model: fresh_process(model, options.threads) for model in models} for _ in range(options.runs + 1)][1:]
    every = [row for turn in rounds for row in turn.values()]
    wall, cpu = (statistics.median(float(row[name]) for row in every) for name in ("import", "import processor"))
    print(f"import probpose_edge: {wall:.3f} s wall, {cpu:.3f} s processor, Python's start included in the latter")
    print(f"torch loaded by it: {any(row['torch'] for row in every)}")
    print(f"From the start of the process to the first pose, in seconds, medians of {options.runs} processes:")
    print("| file | runtime | " + " | ".join(PARTS) + " | slowest |")
    print("| --- " * (len(PARTS) + 3) + "|")
    for model in models:
        rows = [turn[model] for turn in rounds]
        medians = [statistics.median(float(row[part]) for row in rows) for part in PARTS]
        slowest = max(float(row["all"]) for row in rows)
        cells = [f"{value:.3f}" for value in (*medians, slowest)]
        print(f"| {model.name} | {rows[0]['runtime']} | {' | '.join(cells)} |")
        if medians[PARTS.index("all")] > MOST_S:
            print(f"  longer than {MOST_S:.0f} s")


if __name__ == "__main__":
    main()
