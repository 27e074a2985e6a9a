"""Write a file, or a folder that counts as one, so that its name only ever means a complete one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probpose_edge.exceptions import ConversionError


@contextmanager
def pending_output(out: Path) -> Iterator[Path]:
    """Give a path beside `out` to write to; on leaving without an error it is renamed to `out`.

    The given path has the name of `out` inside a temporary folder of the same directory, so suffixes stay and the
    rename never crosses file systems. An older file or package of that name stays untouched until then. Whatever
    ends the block, Ctrl-C included, the temporary folder is removed.

    Raises
    ------
    ConversionError: the folder cannot be written to, or the disk is full.
    """
    try:
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
        try:
            pending = folder / out.name
            yield pending
            if out.is_dir():
                # A folder cannot be renamed onto another one: the old package moves aside, and back if that fails.
                aside = folder / f"{out.name}.old"
                os.replace(out, aside)
                try:
                    os.replace(pending, out)
                except BaseException:
                    os.replace(aside, out)
                    raise
            else:
                os.replace(pending, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise ConversionError(
            f"{out} must be writable, but writing it failed: {error.strerror or error}. "
            "Free disk space, or choose another output folder; nothing was changed."
        ) from error


def check_writable(folder: Path) -> None:
    """Raise `ConversionError` if files cannot be written to a folder, or to the place where it is to be made.

    A conversion takes minutes; this is known before. Nothing is made.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ConversionError(
            f"The output folder {folder} must be writable, but {place} is not: {error.strerror or error}. Choose "
            "another one with --out; nothing was changed."
        ) from error


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    parts = path.rglob("*") if path.is_dir() else (path,)
    return sum(part.stat().st_size for part in parts if part.is_file())
