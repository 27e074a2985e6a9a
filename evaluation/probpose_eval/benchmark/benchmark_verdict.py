"""What a benchmark says in sentences: which file to ship on this machine, and whether INT8 pays."""

from __future__ import annotations

from collections.abc import Sequence

from probpose_eval.benchmark.benchmark import Benchmark, FileTiming

WEIGHTS_ONLY = ("int8-weights", "palette6")
"""Recipes that make files small, not fast."""
UNSTEADY = 0.3
"""Quartiles further apart than this share of the median: something else kept the machine busy."""
CLOSE = 1.05
"""Files whose medians differ by less than this factor count as equally fast: runs differ by as much."""


def benchmark_verdict(benchmark: Benchmark) -> tuple[str, ...]:
    """Sentences, the advice first. Speed decides, of the whole way from picture to poses; of files that are equally
    fast, size. Accuracy was not measured, and the sentences say where to find it.
    """
    files = benchmark.files
    if len(files) == 1:
        return ("One file alone has nothing to be compared with: name its other precisions and formats as well.",)
    fastest = min(file.person.median_ms for file in files)
    equals = [file for file in files if file.person.median_ms <= CLOSE * fastest]
    best = min(equals, key=lambda file: (file.size_bytes, file.person.median_ms))
    sentences = [_advice(best, equals, files)]
    sentences += _integer_sentences(files)
    if benchmark.peak is not None and (gops := benchmark.gops(best)) is not None:
        integer = best.operators is not None and best.operators.int8_macs > best.operators.float_macs
        kind, limit = ("int8", benchmark.peak.int8_gops) if integer else ("fp32", benchmark.peak.fp32_gops)
        sentences.append(
            f"Its network does {gops:.0f} GOP/s, {gops / limit:.0%} of the {limit:.0f} GOP/s of a large {kind} matrix "
            "product here."
        )
    if unsteady := [file.path.name for file in files if _spread(file) > UNSTEADY]:
        sentences.append(
            f"The times of {', '.join(unsteady)} spread by more than {UNSTEADY:.0%}: something else kept the machine "
            "busy. Ratios of one run still hold; for times, run again when it is idle."
        )
    return (*sentences, "Accuracy was not measured: `probpose-edge report` says what each file costs.")


def _spread(file: FileTiming) -> float:
    """Of the whole way: distance of the quartiles, as a share of the median."""
    return (file.person.upper_quartile_ms - file.person.lower_quartile_ms) / file.person.median_ms


def _advice(best: FileTiming, equals: Sequence[FileTiming], files: Sequence[FileTiming]) -> str:
    others = [file for file in files if file not in equals]
    text = f"Ship {best.path.name} on this machine: "
    if len(equals) > 1:
        names = ", ".join(file.path.name for file in equals if file is not best)
        text += f"as fast as {names} (within {CLOSE - 1:.0%}), and smaller"
    if others:
        slowest = max(others, key=lambda file: file.person.median_ms)
        ratio = slowest.person.median_ms / best.person.median_ms
        text += (", " if len(equals) > 1 else "") + f"{ratio:.2f} times as fast as {slowest.path.name}"
        return text + ", from picture to poses."
    return text + "."


def _integer_sentences(files: Sequence[FileTiming]) -> list[str]:
    """Whether INT8 pays, per model, format and kind of output, against the fastest float file of that kind."""
    sentences = []
    several = len({file.model for file in files}) > 1
    for kind in dict.fromkeys((file.format, file.output_kind, file.model) for file in files):
        alike = [file for file in files if (file.format, file.output_kind, file.model) == kind]
        ours, floats = ([f for f in alike if (f.precision == "int8") == integer] for integer in (True, False))
        if not ours or not floats:
            continue
        integer = min(ours, key=lambda file: file.network.median_ms)
        fastest = min(file.network.median_ms for file in floats)
        equals = [file for file in floats if file.network.median_ms <= CLOSE * fastest]
        rival = next((file for file in equals if file.precision == "fp32"), equals[0])
        notes = [*([] if kind[1] == "logits" else [kind[1]]), *([kind[2]] if several else [])]
        what = f"{kind[0]} ({', '.join(notes)})" if notes else kind[0]
        sentences.append(_integer_sentence(what, integer, rival))
    return sentences


def _integer_sentence(what: str, integer: FileTiming, rival: FileTiming) -> str:
    ratio = rival.network.median_ms / integer.network.median_ms
    share = integer.size_bytes / rival.size_bytes
    if ratio >= CLOSE:
        return (
            f"INT8 pays in {what}: the network of {integer.path.name} is {ratio:.2f} times as fast as that of "
            f"{rival.path.name}, at {share:.0%} of its size."
        )
    return (
        f"INT8 does not pay in {what} here: the network of {rival.path.name} takes {rival.network.median_ms:.1f} ms, "
        f"that of {integer.path.name} {integer.network.median_ms:.1f} ms, at {share:.0%} of the size. {_why(integer)}"
    )


def _why(file: FileTiming) -> str:
    if file.recipe in WEIGHTS_ONLY:
        return "Its weights alone are small, the arithmetic is float."
    profile = file.operators
    if profile is None:
        return "Its runtime does not tell why."
    reasons = []
    if profile.macs and profile.int8_macs < 0.9 * profile.macs:
        reasons.append(f"only {profile.int8_macs / profile.macs:.0%} of its multiply-adds are int8")
    if profile.slow:
        reasons.append(", ".join(profile.slow[:4]))
    if not reasons:
        return "All its products are int8, so its int8 kernels are slow on this processor."
    return f"Why: {'; '.join(reasons)}."
