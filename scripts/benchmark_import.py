"""How long `import probpose_edge` takes, in fresh processes.

    python scripts/benchmark_import.py [--runs 11]

Wall time and processor time of the import alone, without the start of the interpreter; medians. Other work on the
machine stretches wall time, hardly processor time.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

PROGRAM = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
import probpose_edge
print(time.perf_counter() - wall, time.process_time() - cpu, "torch" in sys.modules)
"""


def main() -> None:
    """Import once to warm the file cache, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    rows = [
        subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(runs + 1)
    ][1:]
    wall, cpu = (statistics.median(float(row[column]) for row in rows) for column in (0, 1))
    print(f"import probpose_edge: {wall:.3f} s wall, {cpu:.3f} s processor (medians of {runs})")
    print(f"torch loaded by it: {rows[0][2]}")


if __name__ == "__main__":
    main()
