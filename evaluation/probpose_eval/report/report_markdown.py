"""A report as short Markdown, for pull requests: the answer, one table, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence

from probpose_eval.report.report import FileReport, Report
from probpose_eval.report.report_tables import routing_tables
from probpose_eval.report.report_text import (
    NONE,
    change,
    headline,
    how_run,
    megabytes,
    milliseconds,
    number,
    points,
    remarks,
    speed,
)

MARKS = {True: "yes", False: "**no**", None: NONE}
SIGNS = {"pass": "✅", "fail": "❌", "open": "➖"}


def report_to_markdown(report: Report) -> str:
    """The report as Markdown, ending in a newline."""
    kind, answer = headline(report)
    parts = [f"# Accuracy drop of {report.reference.model}", f"{SIGNS[kind]} **{answer}**", _remarks(report)]
    parts += [_files(report), *(_set(report, name) for name in report.sets()), _agreements(report)]
    parts += [_routing(report), _protocol(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _remarks(report: Report) -> str:
    return "\n".join(f"- {line}" for line in remarks(report))


def _files(report: Report) -> str:
    header = ["file", "in limits", "MB", "of fp32", "ms", "speed", *(f"Δ Ex-AP {name}" for name in report.sets())]
    rows = [
        [
            f"{file.label}{' (reference)' if file.label == report.protocol.reference else ''}",
            MARKS[file.within_limits],
            megabytes(file),
            NONE if file.size_ratio is None else f"{100 * file.size_ratio:.0f} %",
            milliseconds(file),
            speed(file),
            *(change(scores.differences.get("Ex-AP")) for scores in file.sets().values()),
            how_run(file),
        ]
        for file in report.files
    ]
    return _table([*header, "run"], rows)


def _set(report: Report, name: str) -> str:
    description = report.sets()[name]
    header = [
        "file", "mean OKS", "AP", "Ex-AP", "re-tuned", "presence ECE", "balanced accuracy", "quality r",
        "moved, px", "map overlap", "presence flipped",
    ]  # fmt: skip
    rows = [_set_row(file, name) for file in report.files if name in file.sets()]
    shares = ", ".join(f"{area} {share:.1f}" for area, share in description.domain_shares.items())
    return (
        f"## On the {name} set: {description.name}\n\n"
        f"{description.persons} labelled persons in {description.images} pictures; keypoints by area (%): {shares}.\n\n"
        + _table(header, rows)
    )


def _set_row(file: FileReport, name: str) -> list[str]:
    each = file.sets()[name]
    scores, drift = each.scores, each.drift
    moved, flipped = (None, None) if drift is None else (drift.overall.moved_px, drift.overall.presence.flipped)
    return [
        file.label,
        number(scores.mean_oks),
        points(scores.metrics.get("AP")),
        points(scores.metrics.get("Ex-AP")),
        f"{points(each.retuned.ex_ap)} at {each.retuned.threshold:g}",
        number(scores.whole.presence.ece),
        points(scores.whole.presence.balanced_accuracy),
        number(scores.whole.quality.pearson),
        number(moved, 2),
        number(None if drift is None else drift.overall.overlap),
        NONE if flipped is None else f"{100 * flipped:.1f} %",
    ]


def _agreements(report: Report) -> str:
    if not report.agreements:
        return ""
    rows = [[each.first, each.second, number(each.overlap), number(each.presence)] for each in report.agreements]
    return f"## Do the int8 files agree?\n\nOn {report.agreements[0].crops} crops, whoever is right.\n\n" + _table(
        ["file", "and", "map overlap", "presence shift"], rows
    )


def _routing(report: Report) -> str:
    tables = [
        f"### {each['title']}\n\n{each['note']}\n\n"
        + _table(each["header"], [[row["label"], *(cell.value for cell in row["cells"])] for row in each["rows"]])
        for each in routing_tables(report)
    ]
    return "\n\n".join(["## What is routing worth?", *tables]) if tables else ""


def _protocol(report: Report) -> str:
    protocol, machine = report.protocol, report.machine
    return (
        f"Ex-AP ({protocol.definition}) in points at the presence threshold {protocol.presence_threshold:g} of "
        f"{protocol.reference}, *re-tuned*: at the best one for the file on these very pictures, which is optimistic; "
        "differences are paired, with 95 % bootstrap intervals over images. Moved, overlap and flipped compare with "
        f"the reference. Boxes: {protocol.boxes}; flip test: {'yes' if protocol.flip_test else 'none'}; padding "
        f"{protocol.padding:g}. Latency: {protocol.latency}; {machine.processor}, {machine.logical_cores} logical "
        f"cores, {machine.system}. Everything else is in `report.html` and `report.json`."
        + (f"\n\n`{protocol.command}`" if protocol.command else "")
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
