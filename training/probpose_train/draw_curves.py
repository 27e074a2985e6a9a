"""The log of a run as a picture."""

from __future__ import annotations

import io
from pathlib import Path

from probpose_edge.atomic_write import write_bytes_atomically
from probpose_train.run_folder import CURVES, read_log

NOT_TERMS = ("step", "learning_rate", "samples_per_s", "total", "mean_oks")


def write_curves(folder: Path) -> None:
    """Write ``curves.png`` from the log. Raises `ImportError` without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_log(folder)
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    terms = [name for name in names if name not in NOT_TERMS and not name.startswith("val")]
    figures = [name for name in names if name.startswith("val")]
    panels: list[tuple[str, list[str], bool]] = [
        ("loss", ["total"], False),
        ("loss terms", terms, True),
        ("OKS and AP", [*figures, "mean_oks"], False),
        ("learning rate", ["learning_rate"], False),
        ("samples per second", ["samples_per_s"], False),
    ]
    figure = Figure(figsize=(15, 8))
    FigureCanvasAgg(figure)
    for axes, (title, shown, logarithmic) in zip(figure.subplots(2, 3).flat, panels, strict=False):
        for name in shown:
            points = [(row["step"], row[name]) for row in rows if name in row]
            # Terms of weight zero have no place on a logarithmic axis.
            points = [(x, y) for x, y in points if y > 0 or not logarithmic]
            if points:
                label = "mean_oks (training)" if name == "mean_oks" else name
                axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else None, label=label)
        if logarithmic:
            axes.set_yscale("log")
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.lines and title in ("loss terms", "OKS and AP"):
            axes.legend(fontsize=8)
    figure.subplots_adjust(left=0.05, right=0.98, bottom=0.07, top=0.95, hspace=0.3)
    figure.axes[-1].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80)
    write_bytes_atomically(folder / CURVES, content.getvalue())
