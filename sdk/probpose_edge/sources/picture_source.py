"""Frames from picture files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from probpose_edge.images import read_image
from probpose_edge.sources.frames import Frame, FrameSource

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def picture_frames(paths: Sequence[str | os.PathLike[str]]) -> FrameSource:
    """Pictures in the order of their paths, each read when its turn comes, upright as `read_image` reads them.

    Iterating raises `ImageReadError` for a file that cannot be read.
    """
    files = [Path(path) for path in paths]
    name = str(files[0]) if len(files) == 1 else f"{len(files)} pictures"
    return FrameSource(_read(files), name=name, total=len(files))


def _read(files: Sequence[Path]) -> Iterator[Frame]:
    for index, path in enumerate(files):
        yield Frame(image=read_image(path), index=index, time_s=0.0, name=str(path), path=path)
