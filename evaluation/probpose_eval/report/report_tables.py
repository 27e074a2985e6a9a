"""The tables of a report's page about one set: against the truth, against the reference, by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from probpose_eval.report.figures_by_name import NAMED_FIGURES
from probpose_eval.report.report import FileReport, Report
from probpose_eval.report.report_text import change, difference, number, points
from probpose_eval.routing.routed_curve import ROUTING_METRICS
from probpose_eval.routing.routed_report import RoutedReport

Texts = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table: a value with smaller lines below; bad: red. tag: how it is set off, a class of the page."""

    value: str
    notes: tuple[str, ...] = ()
    bad: bool = False
    tag: str = ""


def set_tables(report: Report, name: str) -> Texts:
    """The tables about one set, with what to know about them."""
    description = report.sets()[name]
    shares = ", ".join(f"{area} {share:.1f}" for area, share in description.domain_shares.items())
    presence = report.reference.sets()[name].scores.whole.presence
    return {
        "name": name,
        "description": (
            f"{description.name}: {description.persons} labelled persons in {description.images} pictures; "
            f"{presence.positives} keypoints in the window and {presence.negatives} that are not; by area (%): "
            f"{shares}."
        ),
        "truth_note": (
            "The reference's figures in the first row; small: difference to it. ECE and AUSE are errors, smaller is "
            "better; r: correlation of the predicted quality with the true OKS; credible regions: how far their "
            "coverage is from what they claim. Best score: AP with the true OKS as score, what a better score could "
            "bring."
        ),
        "drift_note": (
            "Same crops, whoever is right. Keypoints that the reference says are present: how far they moved, the OKS "
            "between the two places, divergence and overlap of the maps. Presence, visibility, quality: size of the "
            "shift, mean and 95th percentile, and decisions that flipped."
        ),
        "areas_note": (
            "Mean Ex-OKS × 100 by where the keypoint is: A in the box, B beside it but in window and picture, C in the "
            "window but beyond the border of the picture, D in the picture but outside the window, E outside both."
        ),
        "truth": _truth(report, name),
        "drift": _drift(report, name),
        "areas": _areas(report, name),
    }


def agreement_table(report: Report) -> Texts:
    """How alike every two int8 files answer the same crops; without rows where there are no two."""
    rows = [
        {
            "label": each.first,
            "reference": False,
            "cells": [Cell(value=each.second), Cell(value=number(each.overlap)), Cell(value=number(each.presence))],
        }
        for each in report.agreements
    ]
    note = f"On {report.agreements[0].crops} crops, whoever is right." if rows else ""
    return {"header": ["File", "and", "map overlap", "presence shift"], "rows": rows, "note": note}


def routing_tables(report: Report) -> list[Texts]:
    """Every router and pair: accuracy against average cost at each share, beside random routing."""
    return [{"title": f"{each.small} and {each.large}", **_routing(each)} for each in report.routing]


def _routing(routed: RoutedReport) -> Texts:
    costs = {cost.share: cost for cost in routed.costs}
    rows = []
    for name, points_of_set in routed.curves.items():
        for point in points_of_set:
            cost = costs.get(point.share)
            cells = [number(None if cost is None else cost.ms, 2)]
            cells.append(number(None if cost is None or cost.macs is None else cost.macs / 1e6, 0))
            for metric in ROUTING_METRICS:
                cells += [points(point.routed[metric].value), change(point.gain[metric], decimals=2)]
            label = f"{name}, {point.share:.0%}"
            rows.append({"label": label, "reference": False, "cells": [Cell(value=text) for text in cells]})
    metrics = [text for metric in ROUTING_METRICS for text in (metric.replace("-OKS", " OKS"), "− random")]
    return {
        "header": ["To the large one", "ms per person", "M multiply-adds", *metrics],
        "rows": rows,
        "note": f"Persons chosen by {routed.router}, in points; − random: to the expected value of as many persons "
        "drawn by lot, with 95 % intervals over pictures. Average cost over all persons.",
    }


_NAMED_COLUMNS = {
    "mean-OKS": "mean OKS",
    "presence-ece": "presence ECE",
    "presence-auroc": "AUROC",
    "presence-balanced-accuracy": "balanced accuracy",
    "visibility-ece": "visibility ECE",
    "visibility-auroc": "AUROC",
    "quality-pearson": "quality r",
    "quality-ause": "quality AUSE",
    "coverage-error": "credible regions",
}
"""Name of a figure → title of its column."""


def _truth(report: Report, name: str) -> Texts:
    base = report.reference.sets()[name].scores
    rows = []
    for file in report.files:
        scores, broken = file.sets()[name].scores, broken_figures(file, name)
        same = is_reference(report, file)
        cells = []
        for figure in _NAMED_COLUMNS:
            value, reference = (NAMED_FIGURES[figure].read(each) for each in (scores, base))
            notes = () if same else (difference(value, reference),)
            cells.append(Cell(value=number(value), notes=notes, bad=figure in broken))
        for gap in ("constant", "true_oks"):
            value, reference = (getattr(each.score_gap, gap) for each in (scores, base))
            notes = () if same else (difference(value, reference, unit=0.01, decimals=1),)
            cells.append(Cell(value=points(value), notes=notes))
        rows.append({"label": file.label, "reference": same, "cells": cells})
    return {"header": ["File", *_NAMED_COLUMNS.values(), "AP, constant score", "AP, best score"], "rows": rows}


def _drift(report: Report, name: str) -> Texts:
    rows = []
    for file in report.files:
        drift = file.sets()[name].drift
        if drift is None:
            continue
        all_ = drift.overall
        cells = [
            Cell(value=number(all_.moved_px, 1), notes=(f"95 %: {number(all_.moved_px_p95, 1)}",)),
            Cell(value=points(all_.moved_share), notes=(f"95 %: {points(all_.moved_share_p95)}",)),
            Cell(value=number(all_.oks), notes=(f"5 %: {number(all_.oks_p05)}",)),
            Cell(value=number(all_.kl)),
            Cell(value=number(all_.overlap)),
            *(
                Cell(value=number(head.mean), notes=(f"95 %: {number(head.p95)}",))
                for head in (all_.presence, all_.visibility, all_.quality)
            ),
            Cell(value=points(all_.presence.flipped), notes=(f"visible: {points(all_.visibility.flipped)}",)),
            Cell(value=", ".join(drift.worst_keypoints[:2]).replace("_", " ")),
        ]
        rows.append({"label": file.label, "reference": False, "cells": cells})
    header = [
        "File", "moved, px", "moved, % of box", "OKS between", "map KL, nats", "map overlap", "presence shift",
        "visibility shift", "quality shift", "presence flipped, %", "worst keypoints",
    ]  # fmt: skip
    return {"header": header, "rows": rows}


def _areas(report: Report, name: str) -> Texts:
    base = report.reference.sets()[name].scores.areas
    rows = []
    for file in report.files:
        areas = file.sets()[name].scores.areas
        cells = [
            Cell(
                value=points(scores.ex_oks),
                notes=()
                if is_reference(report, file) or scores.ex_oks is None
                else (difference(scores.ex_oks, base[area].ex_oks, unit=0.01, decimals=1),),
            )
            for area, scores in areas.items()
        ]
        rows.append({"label": file.label, "reference": is_reference(report, file), "cells": cells})
    return {"header": ["File", *(f"{area} ({scores.labelled})" for area, scores in base.items())], "rows": rows}


def is_reference(report: Report, file: FileReport) -> bool:
    return file.label == report.protocol.reference


def broken_figures(file: FileReport, name: str) -> set[str]:
    return {result.limit.figure for result in file.limits if result.set_name == name and result.kept is False}
