"""What an amount of work costs in energy, on machines that tell: Intel and AMD counters, or a battery."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
POWER_SUPPLY = Path("/sys/class/power_supply")


@dataclass(frozen=True, kw_only=True)
class EnergyMeter:
    """source: what tells, in words; None if nothing does, and then `why` says so. measure: a call → joules it took."""

    source: str | None
    why: str
    measure: Callable[[Callable[[], object]], float] | None


def find_energy_meter(powercap: Path = POWERCAP, power_supply: Path = POWER_SUPPLY) -> EnergyMeter:
    """The best source of this machine: counters of the processor packages, else a battery that is being emptied."""
    packages = [
        folder
        for folder in sorted(powercap.glob("*:*"))
        if folder.name.count(":") == 1 and _reads(folder / "energy_uj")
    ]
    if packages:
        return EnergyMeter(
            source=f"{len(packages)} processor package(s), whole package, by powercap",
            why="",
            measure=lambda work: _counted(work, packages),
        )
    for battery in sorted(power_supply.glob("BAT*")):
        if _text(battery / "status") == "Discharging" and _reads(battery / "power_now"):
            return EnergyMeter(
                source="the battery, whole machine, by power_supply",
                why="",
                measure=lambda work, battery=battery: _drained(work, battery),  # type: ignore[misc]
            )
    locked = list(powercap.glob("*:*/energy_uj"))
    if locked:
        why = f"{locked[0]} exists, but only an administrator may read it"
    else:
        why = "this machine has no energy counter (powercap) and no battery in use"
    return EnergyMeter(source=None, why=why, measure=None)


def _counted(work: Callable[[], object], packages: list[Path]) -> float:
    before = [_integer(folder / "energy_uj") for folder in packages]
    work()
    joules = 0.0
    for folder, start in zip(packages, before, strict=True):
        used = _integer(folder / "energy_uj") - start
        # The counter starts again at 0 when it reaches its range.
        joules += (used if used >= 0 else used + _integer(folder / "max_energy_range_uj")) / 1e6
    return joules


def _drained(work: Callable[[], object], battery: Path) -> float:
    start, watts = time.perf_counter(), _integer(battery / "power_now") / 1e6
    work()
    watts = (watts + _integer(battery / "power_now") / 1e6) / 2
    return watts * (time.perf_counter() - start)


def _reads(path: Path) -> bool:
    return bool((_text(path) or "x").isdigit())


def _integer(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
