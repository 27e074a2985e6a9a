"""One line that says whether a file keeps its limits, and what else the conversion brought."""

from __future__ import annotations

from collections.abc import Sequence

from probpose_eval.report.limits import MAX_DROP, LimitResult, signed
from probpose_eval.report.report import FileReport, SetScores


def verdict(file: FileReport, limits: Sequence[LimitResult], *, is_reference: bool) -> tuple[bool | None, str]:
    """Whether every limit is kept (None if there was nothing to judge), and why, in words.

    Values decide, not their intervals; the words say where an interval reaches beyond a limit.
    """
    judged = [result for result in limits if result.kept is not None]
    broken = [result for result in judged if not result.kept]
    within = None if not judged else not broken
    if broken:
        words = ["; ".join(map(str, broken))]
    elif is_reference:
        words = ["the reference"]
    elif not file.sets():
        words = ["accuracy not measured"]
    else:
        words = ["; ".join(_change(name, scores) for name, scores in file.sets().items()), *_open(file, judged)]
    return within, "; ".join([*words, *_facts(file)])


def _change(name: str, scores: SetScores) -> str:
    after, difference = scores.scores.metrics.get("Ex-AP"), scores.differences.get("Ex-AP")
    if after is None or difference is None:
        return f"Ex-AP is not defined on the {name} set"
    before = after - difference.value
    return f"Ex-AP {100 * before:.1f} → {100 * after:.1f} ({signed(100 * difference.value, 1)}) on the {name} set"


def beyond_limit(file: FileReport, result: LimitResult) -> float | None:
    """The end of an interval, in the unit of its limit, where it reaches beyond a limit that the value keeps."""
    limit = result.limit
    difference = file.sets()[result.set_name].differences.get(limit.figure)
    if not result.kept or limit.kind != MAX_DROP or difference is None:
        return None
    worse = difference.high if limit.named.smaller_is_better else -difference.low
    if not worse / limit.named.unit > limit.amount:
        return None
    return (worse if limit.named.smaller_is_better else -worse) / limit.named.unit


def _open(file: FileReport, judged: Sequence[LimitResult]) -> list[str]:
    """What small sets leave open."""
    words = []
    for result in judged:
        end = beyond_limit(file, result)
        if end is not None:
            words.append(
                f"the 95 % interval of {result.limit.figure} on the {result.set_name} set reaches "
                f"{signed(end, 1 if result.limit.named.points else 3)}"
            )
    return words


def _facts(file: FileReport) -> list[str]:
    facts = []
    if file.size_ratio is not None and file.precision != "fp32":
        facts.append(f"{100 * file.size_ratio:.0f} % of the full-precision size")
    if file.speedup_over_fp32 is not None and file.precision != "fp32":
        facts.append(f"{file.speedup_over_fp32:.2f} × as fast as fp32")
    if file.provenance == "simulated":
        facts.append("simulated, so without latency")
    if file.shared_calibration_pictures:
        facts.append(
            f"calibrated on {file.shared_calibration_pictures} of these pictures, so that its figures are optimistic"
        )
    return facts
