"""Keep OpenCV from writing to the error stream what an exception says as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's own log within the block. FFmpeg's log is its own: OPENCV_FFMPEG_LOGLEVEL=-8 silences it."""
    log: Any = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        log.setLogLevel(level)
