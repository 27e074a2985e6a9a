"""Latency of several runtimes, measured side by side."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.runtimes.base import Runtime


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Wall time of one crop through one runtime, in milliseconds: median and quartiles over the rounds."""

    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the timings depend on, and nothing that tells whose machine it is."""

    processor: str
    logical_cores: int
    system: str
    python: str


def measure_latency(
    runtimes: Mapping[str, Runtime],
    crops: NDArray[np.uint8],
    *,
    rounds: int = 30,
    warmup: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Latency]:
    """Time one crop at a time, all runtimes in turn (see `measure_calls`).

    runtimes: name -> runtime. crops: (N, H, W, 3) uint8 RGB, taken in rotation. The order of the runtimes rotates too.
    `warmup` untimed rounds come first. `progress` is called with (rounds done, rounds in all).

    Raises `InputError` without crops, or for counts that are too small.
    """
    if len(crops) == 0 or rounds < 1 or warmup < 0:
        raise InputError(
            f"Latency needs at least one crop, one round and no negative warm-up, got {len(crops)} crops, {rounds} "
            f"rounds and {warmup} for warm-up. Give real crops."
        )
    calls = {
        name: lambda step, runtime=runtime: runtime.run(crops[step % len(crops)][None])
        for name, runtime in runtimes.items()
    }
    return measure_calls(calls, rounds=rounds, warmup=warmup, progress=progress)


def measure_calls(
    calls: Mapping[str, Callable[[int], object]],
    *,
    rounds: int,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Latency]:
    """Time calls side by side: every round makes each of them once, so that a busy machine is busy for all of them.

    calls: name -> what to time; it is given the number of the round, from 0. The order rotates from round to round.
    clock: seconds; ``time.process_time`` on a machine that other work keeps busy, for calls of one thread.
    `warmup` untimed rounds come first. `progress` is called with (rounds done, rounds in all).

    Raises `InputError` for less than one round or a negative warm-up.
    """
    if rounds < 1 or warmup < 0:
        raise InputError(f"Timing needs at least one round and no negative warm-up, got {rounds} and {warmup}.")
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for step in range(warmup + rounds):
        shift = step % max(len(names), 1)
        for name in names[shift:] + names[:shift]:
            start = clock()
            calls[name](step)
            elapsed = clock() - start
            if step >= warmup:
                times[name].append(elapsed * 1000)
        if progress is not None:
            progress(step + 1, warmup + rounds)
    latencies = {}
    for name in names:
        lower, median, upper = np.quantile(times[name], [0.25, 0.5, 0.75])
        latencies[name] = Latency(
            median_ms=float(median), lower_quartile_ms=float(lower), upper_quartile_ms=float(upper), rounds=rounds
        )
    return latencies


def describe_machine() -> Machine:
    """Processor, cores, operating system and Python of this machine; no names, paths or addresses."""
    return Machine(
        processor=_processor(),
        logical_cores=os.cpu_count() or 1,
        system=f"{_system()} {platform.machine()}",
        python=platform.python_version(),
    )


def _system() -> str:
    # Which units CoreML takes depends on the release of macOS, whose own name for itself is that of its kernel.
    return f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else platform.system()


def _processor() -> str:
    if sys.platform == "darwin":
        return _mac_processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for field in ("model name", "Model", "Hardware"):
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == field and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def _mac_processor() -> str:
    """The brand of the processor, for example "Apple M2"; empty where the system does not tell."""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
