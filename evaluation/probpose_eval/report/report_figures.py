"""Figures of a report as SVG, with matplotlib (extra ``eval``): text stays text, and equal data give equal bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from probpose_edge.extras import import_extra

FORMAT_COLORS = {"onnx": "#0b63a5", "tflite": "#c4520c", "coreml": "#6a3d9a", "safetensors": "#444444"}
PRECISION_MARKERS = {"fp32": "o", "fp16": "s", "int8": "D"}
INK, QUIET, GRID, GOOD, BAD, HEADS = "#1b1f24", "#6b7280", "#e3e6ea", "#0b63a5", "#b3261e", ("#0b63a5", "#c4520c")
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "probpose-edge",
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "text.color": INK,
    "grid.color": GRID,
    "axes.axisbelow": True,
}


@dataclass(frozen=True, kw_only=True)
class TradePoint:
    """One file in the plot of cost against accuracy.

    named: whether its label is written beside it. cost: where it lies on the axis.
    change: of Ex-AP to the reference, in points, with the ends of its interval.
    """

    label: str
    format: str
    precision: str
    named: bool
    simulated: bool
    cost: float
    change: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A reliability curve: mean probability and share that is true per bin that has samples, and their number."""

    label: str
    said: tuple[float, ...]
    true: tuple[float, ...]
    count: tuple[int, ...]


def require_figures() -> None:
    """Raise `MissingExtraError` without matplotlib or jinja2, before anything takes time."""
    import_extra("Drawing reports", "matplotlib", "eval")
    import_extra("Drawing reports", "jinja2", "eval")


def trade_figure(points: Sequence[TradePoint], *, cost: str, limit: float | None, name: str) -> str:
    """Change of Ex-AP over a cost (latency, size), one marker per file; the dashed line is what may be lost.

    limit: points of Ex-AP that a file may lose, None without a limit. name: what makes the figure's ids its own.
    """
    with _style():
        figure, axes = _figure(4.7, 3.3)
        axes.axhline(0, color=QUIET, linewidth=0.8)
        if limit is not None:
            axes.axhline(-limit, color=BAD, linewidth=1, linestyle="--")
            axes.annotate(
                f"limit −{limit:g}", (1, -limit), xycoords=("axes fraction", "data"), xytext=(0, -2),
                textcoords="offset points", ha="right", va="top", color=BAD, fontsize=8,
            )  # fmt: skip
        for point in points:
            color = FORMAT_COLORS[point.format]
            axes.plot((point.cost, point.cost), (point.low, point.high), color=color, linewidth=1, alpha=0.45)
            axes.plot(
                point.cost, point.change, PRECISION_MARKERS[point.precision], color=color, markersize=7,
                markerfacecolor="white" if point.simulated else color, markeredgewidth=1.3,
            )  # fmt: skip
            if point.named:
                axes.annotate(
                    point.label, (point.cost, point.change), xytext=(6, 4), textcoords="offset points", fontsize=7.5,
                    color=color,
                )  # fmt: skip
        ends = [value for point in points for value in (point.low, point.high)] + [-(limit or 0), 0.0]
        margin = 0.08 * (max(ends) - min(ends) or 1)
        axes.set(xlabel=cost, ylabel="Δ Ex-AP, points", ylim=(min(ends) - margin, max(ends) + margin))
        axes.set_xlim(0, 1.08 * max((point.cost for point in points), default=1))
        axes.grid(axis="y")
        return _svg(figure, name)


def reliability_figure(curves: Sequence[Curve], *, references: Sequence[Curve], name: str) -> str:
    """What is said against what is true, one color per head; the reference's curves are thin and grey."""
    with _style():
        figure, axes = _figure(2.5, 2.5)
        axes.plot((0, 1), (0, 1), color=QUIET, linewidth=0.8, linestyle=":")
        for curve in references:
            axes.plot(curve.said, curve.true, color="#9aa1ab", linewidth=2.4, alpha=0.7)
        for curve, color in zip(curves, HEADS, strict=False):
            total = sum(curve.count) or 1
            axes.plot(curve.said, curve.true, color=color, linewidth=1.2, label=curve.label)
            # The area of a dot grows with its share of the samples: most of them lie in the last bin.
            axes.scatter(curve.said, curve.true, s=[6 + 60 * count / total for count in curve.count], color=color)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set(xlabel="said", ylabel="true")
        axes.grid()
        return _svg(figure, name)


def keypoint_figure(
    names: Sequence[str], values: Sequence[float | None], *, largest: float, axis: str, name: str
) -> str:
    """One bar per keypoint of its change to the reference; what is worse is red.

    values: None where a keypoint has no cases, which leaves its row empty. largest: end of the axis, the same in
    figures that are compared.
    """
    with _style():
        figure, axes = _figure(2.7, 0.7 + 0.155 * len(names))
        rows = range(len(names))
        known = [value or 0.0 for value in values]
        axes.barh(rows, known, height=0.68, color=[BAD if value < 0 else GOOD for value in known])
        axes.axvline(0, color=QUIET, linewidth=0.8)
        axes.set(yticks=rows, ylim=(len(names) - 0.5, -0.5), xlim=(-1.1 * largest, 1.1 * largest), xlabel=axis)
        axes.set_yticklabels(names, fontsize=7.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        return _svg(figure, name)


def _style() -> Any:
    require_figures()
    from matplotlib import rc_context

    return rc_context(_STYLE)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def _svg(figure: Any, name: str) -> str:
    """The figure as an element to put into a page: no prologue, sizes left to the page, ids that start with `name`."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
                   transparent=True)  # fmt: skip
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"\d+\.\d{4,}", lambda match: f"{float(match[0]):.1f}", text)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: (\S+) [^;\"]*", rf"font: \1 {_FONTS}", text)
    return re.sub(r"\s*\n\s*", "\n", text)
