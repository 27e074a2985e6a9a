"""What the page of a report shows, as plain texts, tables and figures: the template only lays it out."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import takewhile

from probpose_eval.metrics.model_scores import BinaryScores
from probpose_eval.report.limits import MAX_DROP, signed
from probpose_eval.report.report import FileReport, Report, SetScores
from probpose_eval.report.report_figures import (
    FORMAT_COLORS,
    HEADS,
    Curve,
    TradePoint,
    keypoint_figure,
    reliability_figure,
    trade_figure,
)
from probpose_eval.report.report_tables import (
    Cell,
    Texts,
    agreement_table,
    broken_figures,
    is_reference,
    routing_tables,
    set_tables,
)
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
from probpose_eval.report.worst_pictures import WorstPicture


def page_of(report: Report, pictures: Sequence[WorstPicture]) -> Texts:
    """Everything the template needs, by name."""
    kind, answer = headline(report)
    focus = _focus(report)
    return {
        "title": f"{report.reference.model}: what conversion cost",
        "subtitle": _subtitle(report),
        "kind": kind,
        "headline": answer,
        "remarks": remarks(report),
        "files": _files(report, focus),
        "trade": _trade(report, focus),
        "sets": [set_tables(report, name) for name in report.sets()],
        "agreement": agreement_table(report),
        "routing": routing_tables(report),
        "reliability": _reliability(report, focus),
        "keypoints": _keypoints(report, focus),
        "worst": _worst(report, pictures),
        "protocol": _protocol(report),
        "command": report.protocol.command,
    }


def _focus(report: Report) -> str | None:
    """The set that the figures show: the one with the most absent keypoints, where presence is put to the test."""
    scores = report.reference.sets()
    return max(scores, key=lambda name: scores[name].scores.whole.presence.negatives, default=None)


def _subtitle(report: Report) -> str:
    parts = [f"{len(report.files)} files" if len(report.files) > 1 else "1 file"]
    parts += [f"{each.persons} persons in {each.images} pictures ({name})" for name, each in report.sets().items()]
    return " · ".join([*parts, report.machine.processor, f"probpose-edge {report.protocol.versions['probpose-edge']}"])


def _short(report: Report, label: str) -> str:
    """The label without what all labels begin with, up to a dash."""
    columns = zip(*(file.label for file in report.files), strict=False)
    common = "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, columns))
    return label[common.rfind("-") + 1 :] if len(report.files) > 1 else label


def _files(report: Report, focus: str | None) -> Texts:
    names = list(report.sets())
    header = ["File", "Limits", "Size, MB", "Latency, ms"]
    header += [f"{figure}, {name}" for name in names for figure in ("AP", "Ex-AP")]
    header += [f"Presence ECE, {focus}"] if focus else []
    rows = []
    for file in report.files:
        cells = [_mark(file, is_reference=is_reference(report, file)), _size(file), _latency(file)]
        for name in names:
            scores = file.sets()[name]
            broken = broken_figures(file, name)
            cells.append(_metric(scores, "AP", bad="AP" in broken))
            cells.append(_metric(scores, "Ex-AP", bad="Ex-AP" in broken))
        if focus:
            scores = file.sets()[focus]
            ece = scores.differences.get("presence-ece")
            cells.append(
                Cell(
                    value=number(scores.scores.whole.presence.ece),
                    notes=() if ece is None else tuple(change(ece, unit=1, decimals=3).split(" ", 1)),
                    bad="presence-ece" in broken_figures(file, focus),
                )
            )
        rows.append(
            {
                "label": file.label,
                "kind": f"{file.format} · {file.recipe}",
                "run": how_run(file),
                "notes": _layers(file),
                "reference": is_reference(report, file),
                "cells": cells,
            }
        )
    threshold = report.protocol.presence_threshold
    note = (
        f"Points of AP and Ex-AP; below, the difference to the reference with its paired 95 % interval. Ex-AP at the "
        f"reference's presence threshold {threshold:g}, and re-tuned: at the threshold best for the file on these very "
        "pictures, which is optimistic. Presence ECE: how far the presence probability is from the truth, on average. "
        "Below a file: layers that did not run in the type or place that was asked for; the first count is of those "
        "that multiply."
    )
    return {"header": header, "rows": rows, "note": note}


def _mark(file: FileReport, *, is_reference: bool) -> Cell:
    if file.within_limits is None:
        return Cell(value="reference" if is_reference else "not judged", tag="neutral")
    return Cell(value="kept", tag="kept") if file.within_limits else Cell(value="broken", tag="broken")


def _size(file: FileReport) -> Cell:
    notes = () if file.size_ratio is None else (f"{100 * file.size_ratio:.0f} % of fp32",)
    return Cell(value=megabytes(file), notes=notes)


def _latency(file: FileReport) -> Cell:
    latency = file.latency
    if latency is None:
        return Cell(value=NONE)
    notes = [f"{latency.lower_quartile_ms:.1f} to {latency.upper_quartile_ms:.1f}"]
    if file.speedup_over_fp32 is not None and file.precision != "fp32":
        notes.append(f"{speed(file)} its fp32")
    return Cell(value=milliseconds(file), notes=tuple(notes))


def _metric(scores: SetScores, name: str, *, bad: bool) -> Cell:
    interval = scores.differences.get(name)
    notes = [] if interval is None else [change(interval).split(" ")[0]]
    if name == "Ex-AP":
        notes = [] if interval is None else [change(interval)]
        notes.append(f"re-tuned {points(scores.retuned.ex_ap)} at {scores.retuned.threshold:g}")
    return Cell(value=points(scores.scores.metrics.get(name)), notes=tuple(notes), bad=bad)


def _layers(file: FileReport) -> list[str]:
    """What ran, and which layers did not run where, or as, they were asked to."""
    notes = [] if file.machine is None else [f"on {file.machine.processor}"]
    placement = file.placement
    if placement is None:
        return notes
    notes += [
        f"{count} of {placement.multiplying} layers in {name}, not {placement.asked_type}"
        for name, count in placement.other_type.items()
    ]
    if placement.other_place:
        count = sum(placement.other_place.values())
        notes.append(f"{count} of {placement.layers} layers outside {placement.asked}")
    return notes


def _trade(report: Report, focus: str | None) -> Texts:
    files = [file for file in report.files if focus and "Ex-AP" in file.sets()[focus].scores.metrics]
    limits = [
        limit.amount
        for limit in report.protocol.limits
        if limit.kind == MAX_DROP and limit.figure == "Ex-AP" and limit.only_set in (None, focus)
    ]
    costs = (
        ("latency of one crop, ms", [(file, file.latency.median_ms) for file in files if file.latency]),
        ("size, MB", [(file, file.size_bytes / 1e6) for file in files if file.size_bytes]),
    )
    figures = []
    for index, (cost, placed) in enumerate(costs):
        kinds = [(file.format, file.precision) for file, _ in placed]
        dots = [
            _dot(report, file, value, focus or "", named=kinds.count((file.format, file.precision)) > 1)
            for file, value in placed
        ]
        if len(dots) > 1:
            svg = trade_figure(dots, cost=cost, limit=min(limits, default=None), name=f"trade{index}")
            figures.append({"svg": svg, "caption": ""})
    formats = list(dict.fromkeys(file.format for file in files))
    shapes = {"fp32": "border-radius: 50%", "fp16": "", "int8": "transform: rotate(45deg) scale(.85)"}
    legend = [{"label": name, "style": f"background: {FORMAT_COLORS[name]}"} for name in formats]
    legend += [
        {"label": name, "style": f"background: #6b7280; {shapes[name]}"}
        for name in dict.fromkeys(file.precision for file in files)
    ]
    if any(file.provenance == "simulated" for file in files):
        legend.append({"label": "hollow: simulated, no latency", "style": "border: 2px solid #6b7280"})
    note = (
        f"Further left is cheaper, higher is more accurate: change of Ex-AP to the reference on the {focus} set, with "
        "its paired 95 % interval."
    )
    return {"figures": figures, "legend": legend, "note": note}


def _dot(report: Report, file: FileReport, cost: float, focus: str, *, named: bool) -> TradePoint:
    interval = file.sets()[focus].differences.get("Ex-AP")
    value, low, high = (0.0, 0.0, 0.0) if interval is None else (interval.value, interval.low, interval.high)
    return TradePoint(
        label=_short(report, file.label),
        format=file.format,
        precision=file.precision,
        named=named,
        simulated=file.provenance == "simulated",
        cost=cost,
        change=100 * value,
        low=100 * low,
        high=100 * high,
    )


MOST_KEYPOINTS = 26
"""Keypoints with a bar: those of a body, not those of every finger."""
FEWEST_IN_BIN = 10
"""Bins with fewer keypoints are not drawn: their share of true ones is mostly chance."""


def _curve(scores: BinaryScores, label: str) -> Curve:
    bins = [each for each in scores.curve if each.count >= FEWEST_IN_BIN]
    return Curve(
        label=label,
        said=tuple(each.said for each in bins),
        true=tuple(each.true for each in bins),
        count=tuple(each.count for each in bins),
    )


def _reliability(report: Report, focus: str | None) -> Texts:
    if focus is None:
        return {"figures": []}

    def curves(file: FileReport) -> list[Curve]:
        whole = file.sets()[focus].scores.whole
        return [_curve(whole.presence, "presence"), _curve(whole.visibility, "visibility")]

    references = curves(report.reference)
    figures = []
    for index, file in enumerate(report.files):
        whole = file.sets()[focus].scores.whole
        svg = reliability_figure(
            curves(file), references=[] if is_reference(report, file) else references, name=f"reliability{index}"
        )
        caption = f"ECE: presence {number(whole.presence.ece)}, visibility {number(whole.visibility.ece)}"
        figures.append({"title": _short(report, file.label), "caption": caption, "svg": svg})
    legend = [
        {"label": "presence: is the keypoint in the window?", "style": f"background: {HEADS[0]}"},
        {"label": "visibility: is it visible?", "style": f"background: {HEADS[1]}"},
        {"label": "the reference", "style": "background: #c5c9d0"},
    ]
    note = (
        f"What the file says against how often it is true, on the {focus} set, in 15 bins, those of fewer than "
        f"{FEWEST_IN_BIN} keypoints left out; the area of a dot is its share of the keypoints. On the dotted line "
        "probabilities mean what they say."
    )
    return {"figures": figures, "legend": legend, "note": note}


def _keypoints(report: Report, focus: str | None) -> Texts:
    if focus is None:
        return {"figures": []}
    base = report.reference.sets()[focus].scores.keypoints
    changes = {
        file.label: {
            name: _points_between(scores.ex_oks, base[name].ex_oks)
            for name, scores in file.sets()[focus].scores.keypoints.items()
        }
        for file in report.files
        if not is_reference(report, file)
    }
    sizes = {name: max((abs(each[name] or 0) for each in changes.values()), default=0) for name in base}
    shown = set(sorted(base, key=lambda name: -sizes[name])[:MOST_KEYPOINTS])
    largest = max(sizes.values(), default=0) or 1
    figures = []
    for index, (label, each) in enumerate(changes.items()):
        names = [name.replace("_", " ") for name in base if name in shown]
        values = [each[name] for name in base if name in shown]
        known = [(value, name) for name, value in zip(names, values, strict=True) if value is not None]
        worst, best = min(known, default=(0.0, NONE)), max(known, default=(0.0, NONE))
        svg = keypoint_figure(names, values, largest=largest, axis="Δ mean Ex-OKS × 100", name=f"keypoint{index}")
        caption = f"{worst[1]} {signed(worst[0], 1)}, {best[1]} {signed(best[0], 1)}"
        figures.append({"title": _short(report, label), "caption": caption, "svg": svg})
    note = (
        f"Change of the mean Ex-OKS of a keypoint to the reference, × 100, on the {focus} set: place and presence "
        "together. Red is worse."
        + (f" The {MOST_KEYPOINTS} of {len(base)} keypoints that change most." if len(base) > MOST_KEYPOINTS else "")
    )
    return {"figures": figures, "note": note}


def _points_between(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else 100 * (value - reference)


def _worst(report: Report, pictures: Sequence[WorstPicture]) -> Texts:
    rows = []
    for file in report.files:
        for name, scores in file.sets().items():
            if scores.drift is None or not scores.drift.worst_pictures:
                continue
            each = scores.drift.worst_pictures[0]
            values = [name, str(each.image_id), str(each.annotation_id), number(each.agreement)]
            moved = NONE if each.keypoint is None else f"{each.keypoint.replace('_', ' ')}, {each.moved_px:.0f} px"
            cells = [Cell(value=value) for value in [*values, moved, str(each.presence_flipped)]]
            rows.append({"label": file.label, "reference": False, "cells": cells})
    shown = [
        {
            "title": f"{picture.label}, {picture.set_name}, picture {picture.drift.image_id}",
            "caption": f"person {picture.drift.annotation_id}, agreement {picture.drift.agreement:.3f}, "
            f"{picture.drift.presence_flipped} presence decisions flipped",
            "jpeg": base64.b64encode(picture.jpeg).decode("ascii"),
        }
        for picture in pictures
    ]
    note = (
        "Agreement: mean OKS between the two estimates over the keypoints that either says are present, 0 where only "
        "one does. "
        + ("Left the reference, right the file; magenta lines lead from the one to the other. " if shown else "")
        + "The table names the worst person of every file."
    )
    header = ["File", "set", "picture", "person", "agreement", "moved farthest", "presence flipped"]
    return {"rows": rows, "header": header, "pictures": shown, "note": note}


def _protocol(report: Report) -> list[Texts]:
    protocol, machine = report.protocol, report.machine
    entries = {
        "reference": protocol.reference,
        "limits": ", ".join(map(str, protocol.limits)) + ("" if protocol.enforced else " (not enforced)"),
        "boxes, flip test": f"{protocol.boxes}, {'flip test' if protocol.flip_test else 'no flip test'}",
        "input and activation window": f"{protocol.input_wh[0]} × {protocol.input_wh[1]}, padding {protocol.padding:g}",
        "Ex-OKS": f"definition “{protocol.definition}”, presence threshold {protocol.presence_threshold:g} for all",
        "intervals": f"95 %, bootstrap over images, {protocol.bootstrap_samples} samples, seed {protocol.seed}; paired",
        "latency": protocol.latency,
        "threads": ", ".join(
            dict.fromkeys("default" if f.threads is None else str(f.threads) for f in report.files if f.latency)
        )
        or NONE,
        "machine": f"{machine.processor}, {machine.logical_cores} logical cores, {machine.system}, "
        f"Python {machine.python}",
        "versions": ", ".join(f"{name} {version}" for name, version in protocol.versions.items()),
    }
    for name, description in report.sets().items():
        entries[f"{name} set"] = (
            f"{description.name}; annotations sha256 {description.annotations_sha256[:16]}, pictures "
            f"{description.pictures_sha256[:16]}"
        )
    for file in report.files:
        hash_ = "" if file.sha256 is None else f"; sha256 {file.sha256[:16]}"
        entries[file.label] = f"{file.runtime}, {how_run(file)}; its own threshold {file.presence_threshold:g}{hash_}"
    return [{"what": what, "how": how} for what, how in entries.items()]
