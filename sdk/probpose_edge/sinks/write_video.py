"""Write annotated videos."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError, SourceError
from probpose_edge.images import to_bgr
from probpose_edge.quiet_opencv import quiet_opencv
from probpose_edge.sinks.part_file import PartFile

CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
"""Suffix → code of the video format, all of which OpenCV's wheels can write."""


class VideoFile:
    """A video file that appears under its name when it is complete; a context manager.

    path: ends in one of `CODECS`.
    fps: frames per second; None writes 30. Every frame is shown equally long.

    The first frame decides the size. Frames of another size are scaled to fit, with black bars. Raises `InputError` for
    another suffix or rate; `close` raises `SourceError` if what was written cannot be read again, as on a full disk.
    """

    def __init__(self, path: str | os.PathLike[str], *, fps: float | None = None) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in CODECS:
            raise InputError(f"A video must end in {', '.join(CODECS)}, got {self.path.name!r}. Choose another name.")
        if fps is not None and not 0 < fps <= 1000:
            raise InputError(f"fps must lie in (0, 1000], got {fps!r}. Leave it out for 30.")
        self.fps = fps or 30.0
        self.frames = 0
        self._part = PartFile(self.path)
        self._writer: Any = None
        self._size_wh = (0, 0)
        self._open = True

    def write(self, image_bgr: NDArray[Any]) -> None:
        """Append one picture (see `to_bgr` for what it may be)."""
        if not self._open:
            raise InputError(f"The video {self.path} was closed. Open another one for more frames.")
        image = to_bgr(image_bgr)
        if self._writer is None:
            self._size_wh = (image.shape[1], image.shape[0])
            code = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
            with quiet_opencv():
                self._writer = cv2.VideoWriter(str(self._part.temporary), code, self.fps, self._size_wh)
            if not self._writer.isOpened():
                self.discard()
                raise SourceError(
                    f"OpenCV cannot write the video {self.path} of {self._size_wh[0]} x {self._size_wh[1]} pixels. Try "
                    "another suffix, a smaller size, or install opencv-python with FFmpeg."
                )
        self._writer.write(fit(image, self._size_wh))
        self.frames += 1

    def close(self) -> None:
        """Complete the file and give it its name; without frames there is none. A second call does nothing."""
        if not self._open:
            return
        self._open = False
        if self._writer is None:
            self._part.discard()
            return
        self._writer.release()
        with quiet_opencv():
            check = cv2.VideoCapture(str(self._part.temporary))
        count = check.get(cv2.CAP_PROP_FRAME_COUNT) if check.isOpened() else 0
        check.release()
        if count < self.frames:
            self._part.discard()
            raise SourceError(
                f"The video {self.path} could not be written: {count:g} of {self.frames} frames can be read again. "
                "Free some space on the disk and run again."
            )
        self._part.finish()

    def discard(self) -> None:
        """Remove what was written, if it is not complete yet."""
        if self._open:
            self._open = False
            if self._writer is not None:
                self._writer.release()
            self._part.discard()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()


def fit(image_bgr: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture (H, W, 3) scaled to fit into `size_wh` px, in the middle of black; itself if it has that size."""
    height, width = image_bgr.shape[:2]
    if (width, height) == size_wh:
        return image_bgr
    scale = min(size_wh[0] / width, size_wh[1] / height)
    inner_wh = (max(round(width * scale), 1), max(round(height * scale), 1))
    left, top = (size_wh[0] - inner_wh[0]) // 2, (size_wh[1] - inner_wh[1]) // 2
    canvas = np.zeros((size_wh[1], size_wh[0], 3), dtype=np.uint8)
    scaled = cv2.resize(image_bgr, inner_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas[top : top + inner_wh[1], left : left + inner_wh[0]] = scaled
    return canvas
