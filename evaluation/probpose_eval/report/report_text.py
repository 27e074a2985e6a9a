"""The sentences and numbers of a report, as every form of it shows them."""

from __future__ import annotations

import math

from probpose_eval.metrics.bootstrap import Interval
from probpose_eval.report.limits import signed
from probpose_eval.report.report import FileReport, Report
from probpose_eval.report.verdict import beyond_limit

NONE = "–"


def headline(report: Report) -> tuple[str, str]:
    """``"pass"``, ``"fail"`` or ``"open"`` (nothing was judged), and the answer in one sentence."""
    judged = [file for file in report.files if file.within_limits is not None]
    failed = [file.label for file in judged if not file.within_limits]
    if not judged:
        return "open", "No file was judged: there is nothing to compare, or no limit."
    rules = ", ".join(map(str, report.protocol.limits))
    if not failed:
        whole = "The file keeps" if len(judged) == 1 else f"All {len(judged)} files keep"
        return "pass", f"{whole} the limits: {rules}."
    few = ", ".join(failed[:3]) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "")
    return "fail", f"{len(failed)} of {len(judged)} files break{'s' if len(failed) == 1 else ''} a limit: {few}."


def remarks(report: Report) -> list[str]:
    """What to know beside the headline: what broke, the best choice, what is open, what is not measured."""
    lines = [
        f"{file.label}: {'; '.join(str(result) for result in file.limits if result.kept is False)}."
        for file in report.files
        if file.within_limits is False
    ]
    kept = [file for file in report.files if file.within_limits is not False]
    timed = [file for file in kept if file.latency is not None and file.machine is None]
    if len(timed) > 1:
        quickest = min(timed, key=lambda file: file.latency.median_ms if file.latency else math.inf)
        lines.append(f"Fastest within the limits here: {quickest.label}{_facts(quickest)}.")
    sized = [file for file in kept if file.size_bytes]
    if len(sized) > 1:
        smallest = min(sized, key=lambda file: file.size_bytes or 0)
        lines.append(f"Smallest: {smallest.label}, {megabytes(smallest)} MB.")
    unsure = [file.label for file in kept if interval_is_open(file)]
    if unsure:
        lines.append(
            f"Of {len(unsure)} of the files that keep them, a 95 % interval reaches beyond a limit: this set is too "
            f"small to rule a larger loss out ({', '.join(unsure)})."
        )
    simulated = sum(file.provenance == "simulated" for file in report.files)
    if simulated:
        lines.append(
            f"{simulated} of {len(report.files)} files {'were' if simulated > 1 else 'was'} simulated, not run on the "
            "runtime they are made for: no latency, and numbers may differ on the device."
        )
    for file in report.files:
        if file.shared_calibration_pictures:
            lines.append(
                f"{file.label} was calibrated on {file.shared_calibration_pictures} of these pictures: its figures are "
                "optimistic."
            )
    return lines


def interval_is_open(file: FileReport) -> bool:
    """Whether a limit is kept by the value of a difference but not by the whole of its interval."""
    return any(beyond_limit(file, result) is not None for result in file.limits)


def points(share: float | None) -> str:
    """A share as points with one digit."""
    return NONE if share is None or math.isnan(share) else f"{100 * share:.1f}"


def number(value: float | None, decimals: int = 3) -> str:
    """A number with so many digits."""
    return NONE if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def change(interval: Interval | None, *, unit: float = 0.01, decimals: int = 1) -> str:
    """A difference with its interval, in units: ``+0.1 (−0.3 to +0.6)``."""
    if interval is None or math.isnan(interval.value):
        return NONE
    ends = (interval.value, interval.low, interval.high)
    value, low, high = (NONE if math.isnan(end) else signed(end / unit, decimals) for end in ends)
    return f"{value} ({low} to {high})"


def difference(value: float | None, reference: float | None, *, unit: float = 1, decimals: int = 3) -> str:
    """value - reference in units, with its sign."""
    if value is None or reference is None:
        return NONE
    return signed((value - reference) / unit, decimals)


def megabytes(file: FileReport) -> str:
    """Size with one digit."""
    return NONE if file.size_bytes is None else f"{file.size_bytes / 1e6:.1f}"


def milliseconds(file: FileReport) -> str:
    """Median latency with one digit."""
    return NONE if file.latency is None else f"{file.latency.median_ms:.1f}"


def speed(file: FileReport) -> str:
    """How many times as fast as fp32."""
    return NONE if file.speedup_over_fp32 is None else f"{file.speedup_over_fp32:.2f} ×"


def how_run(file: FileReport) -> str:
    """Measured or simulated, with what honesty, and where."""
    if file.fp16_rounding is not None:
        return f"{file.provenance} (fp16 rounding: {'yes' if file.fp16_rounding else 'no'})"
    where = f", {file.machine.processor}" if file.machine is not None else ""
    return f"{file.provenance}{where}"


def _facts(file: FileReport) -> str:
    facts = [f"{milliseconds(file)} ms"]
    if file.speedup_over_fp32 is not None and file.precision != "fp32":
        facts.append(f"{file.speedup_over_fp32:.2f} × its fp32")
    if file.size_ratio is not None and file.precision != "fp32":
        facts.append(f"{100 * file.size_ratio:.0f} % of the size")
    return f" ({', '.join(facts)})"
