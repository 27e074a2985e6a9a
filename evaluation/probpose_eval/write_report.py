"""Write a report for programs and for people."""

from __future__ import annotations

import os
from pathlib import Path

from probpose_edge.atomic_write import write_text_atomically
from probpose_eval.report import Report, report_to_json
from probpose_eval.report_markdown import report_to_markdown


def write_report(out_dir: str | os.PathLike[str], report: Report) -> None:
    """Write ``report.json`` and ``report.md`` into a folder, which is made if need be; each appears complete."""
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / "report.json", report_to_json(report) + "\n")
    write_text_atomically(folder / "report.md", report_to_markdown(report))
