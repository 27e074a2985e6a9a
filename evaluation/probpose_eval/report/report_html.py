"""A report as one HTML page that needs no network: light, printable, readable on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from probpose_eval.report.report import Report
from probpose_eval.report.report_figures import require_figures
from probpose_eval.report.report_page import page_of
from probpose_eval.report.worst_pictures import WorstPicture

TEMPLATE = "templates/report.html.jinja"


def report_to_html(report: Report, pictures: Sequence[WorstPicture] = ()) -> str:
    """The page, with `pictures` in it. Raises `MissingExtraError` without matplotlib or jinja2."""
    require_figures()
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("probpose_eval.report").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(page_of(report, pictures)) + "\n"
