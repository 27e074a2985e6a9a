"""Frames: pictures one after another, from whatever gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes
    ----------
    image: (H, W, 3) uint8 BGR; frames of one source may differ in size.
    index: number in its source, from 0. Of a camera the frames that were captured count, used or not.
    time_s: seconds since the first frame: by the time stamps or the rate of a video, by the clock of this machine for a
        camera, and 0 for pictures and arrays, which have no time.
    name: what a person calls it, e.g. ``"walk.mp4 #12"``.
    path: the file it came from, if any.
    """

    image: NDArray[np.uint8]
    index: int
    time_s: float
    name: str
    path: Path | None = None


class FrameSource:
    """An iterator over frames that is closed after use; a context manager.

    Attributes
    ----------
    name: what a person calls the source.
    total: number of frames if it is known, else None. Videos may name a few too many.
    fps: frames per second of a video or camera, None if it has no rate or does not tell.
    live: whether frames come at their own pace and are lost when nobody takes them.
    """

    def __init__(
        self,
        frames: Iterator[Frame],
        *,
        name: str,
        total: int | None = None,
        fps: float | None = None,
        live: bool = False,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._frames = frames
        self._close = close
        self.name, self.total, self.fps, self.live = name, total, fps, live

    def __iter__(self) -> FrameSource:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Release the file or camera; iteration then ends. A second call does nothing."""
        self._frames = iter(())
        if self._close is not None:
            close, self._close = self._close, None
            close()

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
