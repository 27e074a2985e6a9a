"""Calibration curves as pictures, with matplotlib (extra ``eval``)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from probpose_edge.atomic_write import write_bytes_atomically
from probpose_edge.extras import import_extra
from probpose_eval.calibration.calibrate import Calibration, Reliability
from probpose_eval.metrics.coverage import LEVELS, coverage_error

BEFORE, AFTER = "tab:red", "tab:blue"


def draw_calibration(folder: Path, name: str, calibration: Calibration) -> tuple[Path, ...]:
    """Write ``{name}-coverage.png``, ``-presence.png`` and ``-quality.png`` into an existing folder; gives their paths.

    "After" is what held-out pictures showed. Raises `MissingExtraError` without matplotlib.
    """
    require_drawing()
    pictures = {
        folder / f"{name}-coverage.png": _coverage(name, calibration),
        folder / f"{name}-presence.png": _presence(name, calibration),
        folder / f"{name}-quality.png": _quality(name, calibration),
    }
    for path, picture in pictures.items():
        write_bytes_atomically(path, picture)
    return tuple(pictures)


def require_drawing() -> None:
    """Raise `MissingExtraError` without matplotlib, before anything takes time."""
    import_extra("Drawing calibration curves", "matplotlib", "eval")


def _coverage(name: str, calibration: Calibration) -> bytes:
    figure, axes = _figure()
    for shares, when, color in (
        (calibration.coverage_before, "before", BEFORE),
        (calibration.coverage_held_out, "after, held-out pictures", AFTER),
    ):
        label = f"{when}: {100 * coverage_error(shares):.1f} points off"
        axes.plot(100 * LEVELS, 100 * shares, color=color, marker="o", markersize=4, label=label)
    _finish(axes, f"{name}: coverage of the maps", "mass of the map in the region, %", "keypoints in the region, %")
    return _png(figure)


def _presence(name: str, calibration: Calibration) -> bytes:
    figure, axes = _figure()
    held_out = calibration.presence_held_out[calibration.chosen]
    for curve, when, ece, color in (
        (calibration.reliability_before, "before", calibration.presence_before.ece, BEFORE),
        (calibration.reliability_held_out, "after, held-out pictures", held_out.ece, AFTER),
    ):
        _reliability(axes, curve, f"{when}: ECE {100 * ece:.1f} points", color)
    threshold = calibration.thresholds[calibration.chosen]
    axes.axvline(100 * threshold, color="grey", linestyle=":", label=f"threshold {threshold:.3f}")
    _finish(axes, f"{name}: reliability of presence", "presence, %", "keypoints in the window, %")
    return _png(figure)


def _quality(name: str, calibration: Calibration) -> bytes:
    figure, axes = _figure()
    for scores, when, color in (
        (calibration.quality_before, "before", BEFORE),
        (calibration.quality_held_out, "after, held-out pictures", AFTER),
    ):
        columns = zip(*((step.said, step.true, step.count) for step in scores.curve), strict=True)
        said, true, count = (np.array(column) for column in columns)
        _reliability(axes, (said, true, count), f"{when}: ECE {100 * (scores.ece or 0):.1f} points", color)
    _finish(axes, f"{name}: reliability of the quality", "expected OKS, %", "mean true OKS, %")
    return _png(figure)


def _reliability(axes: Any, curve: Reliability, label: str, color: str) -> None:
    said, true, count = curve
    some = count > 0
    # The area of a dot grows with the logarithm of its samples: most of them lie in the last bin.
    axes.plot(100 * said[some], 100 * true[some], color=color, label=label)
    axes.scatter(100 * said[some], 100 * true[some], color=color, s=12 * np.log1p(count[some]), alpha=0.6)


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _finish(axes: Any, title: str, x: str, y: str) -> None:
    axes.plot((0, 100), (0, 100), color="black", linewidth=0.8, linestyle="--")
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-2, 102), ylim=(-2, 102), aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()
