"""The schema of report.json is documented: every field by its name, every limit, and the version."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

from probpose_eval.report.report import REPORT_SCHEMA_VERSION, Report

PAGE = Path(__file__).resolve().parents[2] / "docs" / "report-schema.md"


def dataclasses_of(kind: typing.Any, found: set[type]) -> set[type]:
    """All dataclasses that a type is made of."""
    for part in typing.get_args(kind):
        dataclasses_of(part, found)
    if dataclasses.is_dataclass(kind) and kind not in found:
        found.add(typing.cast(type, kind))
        for hint in typing.get_type_hints(kind).values():
            dataclasses_of(hint, found)
    return found


def test_every_field_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    kinds = dataclasses_of(Report, set())
    assert {kind.__name__ for kind in kinds} >= {
        "Report",
        "FileReport",
        "ModelScores",
        "Drift",
        "LimitResult",
        "Placement",
    }
    missing = {
        f"{kind.__name__}.{field.name}"
        for kind in kinds
        for field in dataclasses.fields(kind)
        if f"`{field.name}`" not in text
    }
    assert missing == set()
    assert text.startswith(f"# report.json, schema {REPORT_SCHEMA_VERSION}\n")
