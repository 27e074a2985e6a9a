"""A report as Markdown, for people."""

from __future__ import annotations

from collections.abc import Sequence

from probpose_eval.bootstrap import Interval
from probpose_eval.report import FileReport, Report, SetDescription, SetScores

NONE = "–"


def report_to_markdown(report: Report) -> str:
    """The whole report as Markdown tables, ending in a newline."""
    parts = ["# Model report", _verdicts(report), _files(report)]
    for name, description in (("plain", report.plain), ("cropped", report.cropped)):
        if description is not None:
            parts.append(_accuracy(report, name, description))
    parts.append(_protocol(report))
    return "\n\n".join(parts) + "\n"


def _verdicts(report: Report) -> str:
    marks = {True: "yes", False: "**no**", None: NONE}
    rows = [[file.label, marks[file.within_limit], file.verdict] for file in report.files]
    return "## Verdict\n\n" + _table(["file", f"drop ≤ {100 * report.protocol.max_drop:g} points", "why"], rows)


def _files(report: Report) -> str:
    header = [
        "file",
        "format",
        "precision",
        "recipe",
        "size (MB)",
        "of fp32",
        "run by",
        "latency (ms)",
        "× fp32",
        "threads",
    ]
    rows = [
        [
            file.label,
            file.format,
            file.precision,
            file.recipe,
            NONE if file.size_bytes is None else f"{file.size_bytes / 1e6:.2f}",
            NONE if file.size_ratio is None else f"{100 * file.size_ratio:.0f} %",
            f"{file.runtime}{', simulated' if file.provenance == 'simulated' else ''}",
            _latency(file),
            NONE if file.speedup_over_fp32 is None else f"{file.speedup_over_fp32:.2f}",
            "default" if file.threads is None else str(file.threads),
        ]
        for file in report.files
    ]
    machine = report.machine
    return (
        "## Size and speed\n\n"
        + _table(header, rows)
        + f"\n\nLatency: median (quartiles), {report.protocol.latency}. Machine: {machine.processor}, "
        + f"{machine.logical_cores} logical cores, {machine.system}, Python {machine.python}."
    )


def _accuracy(report: Report, name: str, description: SetDescription) -> str:
    header = ["file", "mean OKS", "AP", "Δ AP", "Ex-AP", "Δ Ex-AP", "presence accuracy", "balanced", "threshold"]
    rows = []
    for file in report.files:
        scores: SetScores | None = getattr(file, name)
        if scores is None:
            continue
        rows.append(
            [
                file.label,
                _share(scores.mean_oks),
                _points(scores.ap),
                _change(scores.ap_difference),
                _points(scores.ex_ap),
                _change(scores.ex_ap_difference),
                _percent(scores.presence.accuracy),
                _percent(scores.presence.balanced_accuracy),
                f"{scores.presence.threshold:g}",
            ]
        )
    shares = ", ".join(f"{area} {share:.1f}" for area, share in description.domain_shares.items())
    title = {"plain": "Accuracy on the plain set", "cropped": "Accuracy on the cropped set"}[name]
    return (
        f"## {title}: {description.name}\n\n"
        f"{description.persons} labelled persons in {description.images} pictures; keypoints by area (%): {shares}. "
        f"Annotations sha256 `{description.annotations_sha256[:16]}`, pictures `{description.pictures_sha256[:16]}`. "
        "Points with 95 % bootstrap intervals; differences are paired.\n\n" + _table(header, rows)
    )


def _protocol(report: Report) -> str:
    protocol = report.protocol
    threshold = "each file's own" if protocol.presence_threshold is None else f"{protocol.presence_threshold:g}"
    rows = [
        ["reference", protocol.reference],
        ["boxes", protocol.boxes],
        ["flip test", "yes" if protocol.flip_test else "none"],
        [
            "input, padding of the activation window",
            f"{protocol.input_wh[0]}×{protocol.input_wh[1]}, {protocol.padding:g}",
        ],
        ["Ex-OKS definition", protocol.definition],
        ["presence threshold", threshold],
        ["bootstrap", f"{protocol.bootstrap_samples} samples over images, seed {protocol.seed}"],
        ["versions", ", ".join(f"{name} {version}" for name, version in protocol.versions.items())],
        ["command", f"`{protocol.command}`" if protocol.command else NONE],
    ]
    return "## Protocol\n\n" + _table(["what", "how"], rows)


def _latency(file: FileReport) -> str:
    latency = file.latency
    if latency is None:
        return NONE
    return f"{latency.median_ms:.1f} ({latency.lower_quartile_ms:.1f} to {latency.upper_quartile_ms:.1f})"


def _share(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _points(interval: Interval) -> str:
    if interval.value < 0:
        return NONE
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _change(interval: Interval | None) -> str:
    if interval is None:
        return NONE
    return f"{100 * interval.value:+.1f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f} %"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
