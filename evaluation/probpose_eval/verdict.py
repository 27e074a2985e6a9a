"""One line that says whether a file keeps the accuracy of the reference."""

from __future__ import annotations

from probpose_eval.report import FileReport


def verdict(report: FileReport, *, is_reference: bool, max_drop: float) -> tuple[bool | None, str]:
    """Whether Ex-AP fell by at most `max_drop` on every set (None for the reference and without sets), and why.

    The value decides, not its interval; the words say where the interval leaves it open.
    """
    if is_reference:
        return None, "reference: every difference is to this file"
    scores = {"plain": report.plain, "cropped": report.cropped}
    differences = {
        name: s.ex_ap_difference for name, s in scores.items() if s is not None and s.ex_ap_difference is not None
    }
    facts = _facts(report)
    if not differences:
        return None, ", ".join(["accuracy not measured", *facts])
    changes = ", ".join(
        f"{100 * (s.ex_ap.value - d.value):.1f} to {100 * s.ex_ap.value:.1f} ({100 * d.value:+.1f}) on the {name} set"
        for name, d in differences.items()
        if (s := scores[name]) is not None
    )
    limit = f"{100 * max_drop:g}"
    within = all(d.value >= -max_drop for d in differences.values())
    if within:
        sentence = f"keeps Ex-AP within {limit} points: {changes}"
        open_ends = [d.low for d in differences.values() if d.low < -max_drop]
        if open_ends:
            sentence += f" (95 % intervals reach down to {100 * min(open_ends):+.1f})"
    else:
        sentence = f"costs more than {limit} points of Ex-AP: {changes}"
        open_ends = [d.high for d in differences.values() if d.value < -max_drop <= d.high]
        if open_ends:
            sentence += f" (95 % intervals reach up to {100 * max(open_ends):+.1f})"
    return within, "; ".join([sentence, *facts])


def _facts(report: FileReport) -> list[str]:
    facts = []
    if report.size_ratio is not None and report.precision != "fp32":
        facts.append(f"{100 * report.size_ratio:.0f} % of the full-precision size")
    if report.speedup_over_fp32 is not None and report.precision != "fp32":
        facts.append(f"{report.speedup_over_fp32:.2f} x as fast as fp32")
    if report.provenance == "simulated":
        facts.append("simulated, so without latency")
    return facts
