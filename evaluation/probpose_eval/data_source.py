"""How the command line names a data set: ``annotations.json:images/``."""

from __future__ import annotations

from pathlib import Path

from probpose_edge.exceptions import InputError


def split_source(text: str) -> tuple[Path, Path]:
    """Annotation file and picture folder of ``annotations.json:images/``; raises `InputError` for another form."""
    annotations, separator, images = text.partition(":")
    if not (annotations and separator and images):
        raise InputError(f"A data set is written annotations.json:images/, got {text!r}. Name both parts.")
    return Path(annotations), Path(images)
