"""Frames from whatever is given: files, folders, patterns, cameras, addresses, arrays."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.sources.array_source import ArrayCamera, array_frames, picamera_frames
from probpose_edge.sources.camera_source import camera_frames
from probpose_edge.sources.frames import Frame, FrameSource
from probpose_edge.sources.picture_source import PICTURE_SUFFIXES, picture_frames
from probpose_edge.sources.video_source import VIDEO_SUFFIXES, video_frames

_ADDRESS = re.compile(r"^[a-z][a-z0-9+.\-]+://", re.IGNORECASE)
_CAMERA = re.compile(r"^(camera:)?(\d+)$")


def open_source(source: str | os.PathLike[str] | int | NDArray[Any] | ArrayCamera | Iterable[Any]) -> FrameSource:
    """Open anything that gives pictures.

    source:
        a path, or a pattern such as ``"walks/*.jpg"``: a picture, a video (`VIDEO_SUFFIXES`), or a folder, of which the
            pictures and videos are taken in the order of their names;
        a list of such paths;
        a number, or text such as ``"0"`` or ``"camera:0"``: a camera; text with ``://``, or a file in /dev: a stream or
            camera that OpenCV opens (see `camera_frames`);
        an array or an iterable of arrays (see `array_frames`); a Picamera2 object (see `picamera_frames`).

    Raises `InputError` if there is nothing to read, `SourceError` if a video, camera or stream cannot be opened.
    """
    if isinstance(source, FrameSource):
        return source
    if isinstance(source, int):
        return camera_frames(source)
    if isinstance(source, (str, os.PathLike)):
        device = camera_of(source)
        return _open_files(find_files([source])) if device is None else camera_frames(device)
    if isinstance(source, ArrayCamera):
        return picamera_frames(source)
    if isinstance(source, Sequence) and source and isinstance(source[0], (str, os.PathLike)):
        return _open_files(find_files(source))
    return array_frames(cast("Iterable[Any]", source))


def camera_of(source: str | os.PathLike[str]) -> int | str | None:
    """The camera number or address that this text names, None if it names files."""
    text = os.fspath(source)
    if number := _CAMERA.match(text):
        return None if Path(text).exists() else int(number[2])
    return text if _ADDRESS.match(text) or text.startswith("/dev/") else None


def find_files(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Picture and video files named one by one, by folder or by pattern, in order.

    A folder gives its pictures and videos by name, without those in folders below; a pattern whatever it matches. A
    file that is named itself is taken whatever its suffix. Raises `InputError` if a pattern or folder gives nothing.
    """
    files: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = sorted(child for child in path.iterdir() if is_picture(child) or is_video(child))
        elif not path.exists() and glob.has_magic(os.fspath(source)):
            found = [Path(match) for match in sorted(glob.glob(os.fspath(source), recursive=True))]
            found = [match for match in found if match.is_file()]
        else:
            found = [path]
        if not found:
            raise InputError(
                f"Pictures ({', '.join(PICTURE_SUFFIXES)}) or videos ({', '.join(VIDEO_SUFFIXES)}) are needed, but "
                f"found none in {os.fspath(source)!r}. Name files, folders, patterns, a camera number or an address."
            )
        files += found
    return files


def is_picture(path: Path) -> bool:
    """Whether the suffix is one of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def is_video(path: Path) -> bool:
    """Whether the suffix is one of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _open_files(files: list[Path]) -> FrameSource:
    if len(files) == 1 and is_video(files[0]):
        return video_frames(files[0])
    if not any(map(is_video, files)):
        return picture_frames(files)
    return FrameSource(_read_in_turn(files), name=f"{len(files)} files")


def _read_in_turn(files: list[Path]) -> Iterator[Frame]:
    index = 0
    for of_videos, group in groupby(files, is_video):
        chosen = list(group)
        for source in map(video_frames, chosen) if of_videos else [picture_frames(chosen)]:
            with source:
                for frame in source:
                    yield Frame(image=frame.image, index=index, time_s=frame.time_s, name=frame.name, path=frame.path)
                    index += 1
