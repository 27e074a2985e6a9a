"""Accuracy against average cost as a picture, with matplotlib (extra ``eval``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from probpose_edge.extras import import_extra
from probpose_eval.routing.routed_curve import RoutedPoint

ROUTED, RANDOM, BEST = "#0b63a5", "#6b7280", "#c4520c"


@dataclass(frozen=True, kw_only=True)
class CurvePanel:
    """One panel: a title, the points of a pair on a set, and what each costs on average (ms), in the same order."""

    title: str
    points: Sequence[RoutedPoint]
    ms: Sequence[float]


def draw_routing(rows: Sequence[Sequence[CurvePanel]], *, metric: str = "mean-OKS") -> bytes:
    """A PNG with a row of panels per pair: routed with its interval of the difference, random, and the best routing.

    metric: one of `ROUTING_METRICS`. Raises `MissingExtraError` without matplotlib.
    """
    import_extra("Drawing curves of routing", "matplotlib", "eval")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * max(map(len, rows)), 3.9 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
    for axes_of_row, panels in zip(grid, rows, strict=True):
        for axes, panel in zip(axes_of_row, panels, strict=True):
            _panel(axes, panel, metric)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def _panel(axes: Any, panel: CurvePanel, metric: str) -> None:
    percent = [100 * point.routed[metric].value for point in panel.points]
    chance = [100 * point.random[metric] for point in panel.points]
    # The interval is that of the difference to random routing, so it stands around the routed value.
    below = [100 * (point.gain[metric].value - point.gain[metric].low) for point in panel.points]
    above = [100 * (point.gain[metric].high - point.gain[metric].value) for point in panel.points]
    axes.plot(panel.ms, [100 * p.best[metric] for p in panel.points], color=BEST, ls=":", label="best, by the truth")
    axes.errorbar(
        panel.ms, percent, yerr=(below, above), color=ROUTED, marker="o", capsize=3, label="routed (95 % of the gain)"
    )
    axes.plot(panel.ms, chance, color=RANDOM, marker="o", ls="--", label="random, expected")
    for point, x, y in zip(panel.points, panel.ms, chance, strict=True):
        axes.annotate(f"{point.share:.0%}", (x, y), xytext=(4, -11), textcoords="offset points", color=RANDOM, size=8)
    axes.set_title(panel.title, fontsize=9)
    axes.set(xlabel="ms per person, average", ylabel=f"{metric.replace('-', ' ')}, points")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
