"""What a router costs beside the small model: both take turns, one crop at a time, one thread.

    python scripts/benchmark_router.py SMALL ROUTER... [--rounds 200]

Times are those of one call of the runtime, Python included. The share is that of the medians; minima stand beside them,
because on a machine that others use they say more.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from probpose_edge.contract.read_contract import read_contract
from probpose_edge.routing.router import read_router_contract
from probpose_edge.runtimes.open_runtime import open_runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("small", type=Path)
    parser.add_argument("routers", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    sizes = {options.small: read_contract(options.small).input_wh}
    sizes |= {path: read_router_contract(path).input_wh for path in options.routers}
    rng = np.random.default_rng(0)
    runs = {
        path: (open_runtime(path, threads=1), rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8))
        for path, (width, height) in sizes.items()
    }
    times: dict[Path, list[float]] = {path: [] for path in runs}
    for turn in range(options.rounds + 10):
        for path, (runtime, crop) in runs.items():
            start = time.perf_counter()
            runtime.run(crop)
            if turn >= 10:
                times[path].append(time.perf_counter() - start)
    small = np.array(times[options.small])
    print("| file | crop | median ms | share | least ms | share |\n| --- | --- | --- | --- | --- | --- |")
    for path, values in times.items():
        median, least = float(np.median(values)), min(values)
        shares = [f"{100 * part:.1f} %" for part in (median / np.median(small), least / small.min())]
        size = "×".join(map(str, sizes[path]))
        print(f"| {path.name} | {size} | {1e3 * median:.3f} | {shares[0]} | {1e3 * least:.3f} | {shares[1]} |")


if __name__ == "__main__":
    main()
