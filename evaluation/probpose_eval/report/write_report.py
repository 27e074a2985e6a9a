"""Write a report for programs and for people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from probpose_edge.atomic_write import write_text_atomically
from probpose_eval.report.report import Report, report_to_json
from probpose_eval.report.report_html import report_to_html
from probpose_eval.report.report_markdown import report_to_markdown
from probpose_eval.report.worst_pictures import WorstPicture


def write_report(out_dir: str | os.PathLike[str], report: Report, pictures: Sequence[WorstPicture] = ()) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html`` into a folder, which is made if need be.

    Each appears complete. The pictures are in ``report.html`` only: without them, nothing of the set's photographs is
    in any file. Raises `MissingExtraError` without matplotlib or jinja2, before anything is written.
    """
    page = report_to_html(report, pictures)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / "report.json", report_to_json(report) + "\n")
    write_text_atomically(folder / "report.md", report_to_markdown(report))
    write_text_atomically(folder / "report.html", page)
