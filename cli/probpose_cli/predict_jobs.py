"""What `predict` is asked to do: sources one after another, and the files that their drawings go to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from probpose_edge.exceptions import InputError
from probpose_edge.sources.camera_source import camera_frames
from probpose_edge.sources.frames import FrameSource
from probpose_edge.sources.open_source import camera_of, find_files, is_video
from probpose_edge.sources.picture_source import picture_frames
from probpose_edge.sources.video_source import video_frames


@dataclass(frozen=True, kw_only=True)
class Job:
    """One source.

    open: opens it. moving: a video, a camera or a stream, else pictures. live: a camera or a stream. drawn: where the
    drawing goes, by the index of a picture; one file for what moves; empty without drawings.
    """

    open: Callable[[], FrameSource]
    moving: bool
    live: bool
    drawn: tuple[Path, ...]


def list_jobs(sources: list[str], out_dir: Path | None) -> list[Job]:
    """The jobs in order: every camera and video alone, pictures that follow one another together.

    out_dir: folder of the drawings, None for none. Raises `InputError` if there is nothing to read, or if a drawing
    would replace its source.
    """
    if not sources:
        raise InputError("predict needs pictures, videos, folders, patterns, a camera number or an address. Name some.")
    items: list[Path | int | str] = []
    for source in sources:
        device = camera_of(source)
        items += find_files([source]) if device is None else [device]
    names = _drawing_names(items)
    jobs, index = [], 0
    for kind, group in groupby(items, _kind):
        chosen = list(group)
        drawn = tuple(out_dir / name for name in names[index : index + len(chosen)]) if out_dir else ()
        _refuse_replacing(chosen, drawn)
        index += len(chosen)
        if kind == "pictures":
            paths = [item for item in chosen if isinstance(item, Path)]
            opened = partial(picture_frames, paths)
            jobs.append(Job(open=opened, moving=False, live=False, drawn=drawn))
            continue
        for place, item in enumerate(chosen):
            jobs.append(
                Job(
                    open=partial(video_frames, item) if isinstance(item, Path) else partial(camera_frames, item),
                    moving=True,
                    live=kind == "camera",
                    drawn=drawn[place : place + 1],
                )
            )
    return jobs


def _kind(item: Path | int | str) -> str:
    if not isinstance(item, Path):
        return "camera"
    return "video" if is_video(item) else "pictures"


def _drawing_names(items: list[Path | int | str]) -> list[str]:
    """Names of the drawings; those of the same name from different folders are told apart by number."""
    plain = []
    for item in items:
        if isinstance(item, Path):
            plain.append((item.stem, ".mp4" if is_video(item) else ".png"))
        else:
            plain.append((f"camera-{item}" if isinstance(item, int) else _plain(item), ".mp4"))
    return [
        f"{stem}-{index}{suffix}" if plain.count((stem, suffix)) > 1 else f"{stem}{suffix}"
        for index, (stem, suffix) in enumerate(plain)
    ]


def _plain(address: str) -> str:
    """A file name from an address, without user and password."""
    place = address.partition("://")[2].rpartition("@")[2] or address
    stem = place.removesuffix(Path(place).suffix) if is_video(Path(place)) else place
    return re.sub(r"[^A-Za-z0-9.]+", "-", stem).strip("-.") or "stream"


def _refuse_replacing(items: list[Path | int | str], drawn: tuple[Path, ...]) -> None:
    for item, path in zip(items, drawn, strict=False):
        if isinstance(item, Path) and path.exists() and item.exists() and path.samefile(item):
            raise InputError(f"The drawing of {item} would replace it. Choose another folder with --out.")
