"""Frames from video files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from probpose_edge.exceptions import SourceError
from probpose_edge.quiet_opencv import quiet_opencv
from probpose_edge.sources.frames import Frame, FrameSource

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".ts", ".wmv", ".flv")
_HIGHEST_FPS = 1000.0
"""More is a time base that was taken for a rate."""
_MISSING_SHARE = 0.02
"""Frame counts of videos of varying rate are computed from their length; a count may be off by this."""


def video_frames(path: str | os.PathLike[str]) -> FrameSource:
    """Every frame of a video file that OpenCV can decode, turned upright as its metadata says.

    Raises `SourceError` for a file that is missing or no video. Iterating raises it after the last frame that could be
    decoded, if the file announces clearly more: the frames so far are good, the rest is damaged or missing.
    """
    file = Path(path)
    if not file.is_file():
        raise SourceError(f"There is no video {file}. Check the path.")
    with quiet_opencv():
        capture = cv2.VideoCapture(str(file))
    if not capture.isOpened():
        raise SourceError(
            f"The video {file} ({file.stat().st_size} bytes) must be one that OpenCV can decode, but it is damaged, "
            "cut short or of another kind. Copy it again, or convert it with: ffmpeg -i IN -c:v libx264 OUT.mp4"
        )
    count, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    total = int(count) if math.isfinite(count) and count > 0 else None
    fps = rate if math.isfinite(rate) and 0 < rate < _HIGHEST_FPS else None
    frames = _read(file, capture, total, fps)
    return FrameSource(frames, name=str(file), total=total, fps=fps, close=capture.release)


def _read(file: Path, capture: cv2.VideoCapture, total: int | None, fps: float | None) -> Iterator[Frame]:
    index, last_s = 0, -1.0
    while True:
        with quiet_opencv():
            good, image = capture.read()
        if not good:
            break
        stamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        # Files without usable time stamps repeat one.
        time_s = stamp_s if stamp_s > last_s else last_s + 1 / (fps or 30.0)
        last_s = time_s = max(time_s, 0.0)
        yield Frame(
            image=np.asarray(image, dtype=np.uint8),
            index=index,
            time_s=time_s,
            name=f"{file} #{index}",
            path=file,
        )
        index += 1
    if total is not None and total - index > max(2, _MISSING_SHARE * total):
        raise SourceError(
            f"The video {file} announces {total} frames, but only {index} can be decoded: the rest is damaged or "
            "missing. What was read is good; copy the file again for the rest."
        )
