"""Frames from cameras and streams that OpenCV opens."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError, SourceError
from probpose_edge.quiet_opencv import quiet_opencv
from probpose_edge.sources.frames import Frame, FrameSource

_RETRY_S = 0.5


def camera_frames(
    device: int | str,
    *,
    size_wh: tuple[int, int] | None = None,
    fps: float | None = None,
    patience_s: float = 10.0,
) -> FrameSource:
    """Frames of a camera or of a stream, as they come; `FrameSource.live` is True.

    Parameters
    ----------
    device: number of a camera, or anything else that OpenCV opens: a device file, an rtsp, http or udp address, a
        GStreamer pipeline where OpenCV has it.
    size_wh, fps: what to ask of a camera; cameras that cannot choose the nearest they can.
    patience_s: how long it may give no frame: it is opened again meanwhile, so that a plug pulled and put back or a
        stream that restarts does no harm. Opening and reading a network stream wait no longer either.

    Raises `SourceError` if it cannot be opened, `InputError` for other arguments. Iterating raises `SourceError` when
    no frame came for `patience_s`.
    """
    if isinstance(device, bool) or not isinstance(device, (int, str)) or (isinstance(device, int) and device < 0):
        raise InputError(f"A camera is a number from 0 on, or an address, got {device!r}. Pass for example 0.")
    if not (math.isfinite(patience_s) and patience_s >= 0):
        raise InputError(f"patience_s must be a number of seconds from 0 on, got {patience_s!r}. Pass for example 10.")
    camera = _Camera(device, size_wh, fps, patience_s)
    if not camera.open():
        raise SourceError(
            f"{camera.name} cannot be opened. Check that it is there and that no other program uses it, the "
            "rights of this user (group 'video' on Linux), and the address and password of a stream."
        )
    rate = camera.capture.get(cv2.CAP_PROP_FPS)
    known = rate if math.isfinite(rate) and 0 < rate < 1000 else None
    return FrameSource(camera.frames(), name=camera.name, fps=known, live=True, close=camera.release)


class _Camera:
    """A capture that is opened again when it fails."""

    def __init__(
        self, device: int | str, size_wh: tuple[int, int] | None, fps: float | None, patience_s: float
    ) -> None:
        self.device, self.size_wh, self.fps, self.patience_s = device, size_wh, fps, patience_s
        self.name = f"Camera {device}" if isinstance(device, int) else f"Stream {_without_password(device)}"
        self.capture: Any = None

    def open(self) -> bool:
        wait_ms = max(int(self.patience_s * 1000), 1)
        with quiet_opencv():
            # Only FFmpeg's reader knows limits on how long it may block; some builds of OpenCV lack it.
            limited = cv2.CAP_FFMPEG in cv2.videoio_registry.getStreamBackends()
            if limited and isinstance(self.device, str) and "://" in self.device:
                limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, wait_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait_ms]
                capture = cv2.VideoCapture(self.device, cv2.CAP_FFMPEG, limits)
            else:
                capture = cv2.VideoCapture(self.device)
            if not capture.isOpened():
                capture.release()
                return False
            if self.size_wh is not None:
                capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.size_wh[0])
                capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.size_wh[1])
            if self.fps is not None:
                capture.set(cv2.CAP_PROP_FPS, self.fps)
        self.capture = capture
        return True

    def frames(self) -> Iterator[Frame]:
        start = None
        index = 0
        while (image := self._next_image()) is not None:
            now = time.monotonic()
            start = now if start is None else start
            yield Frame(image=image, index=index, time_s=now - start, name=f"{self.name} #{index}")
            index += 1

    def _next_image(self) -> NDArray[np.uint8] | None:
        """The next picture; None once the camera was released here. Raises `SourceError` when patience ends."""
        deadline = time.monotonic() + self.patience_s
        while self.capture is not None:
            with quiet_opencv():
                good, image = self.capture.read() if self.capture.isOpened() else (False, None)
            if good and image is not None:
                return np.asarray(image, dtype=np.uint8)
            if time.monotonic() >= deadline:
                self.release()
                raise SourceError(
                    f"{self.name} gave no frame for {self.patience_s:g} s: it was unplugged, switched off, or its "
                    "stream has ended. Connect it again and start anew; a longer patience_s waits longer."
                )
            self.capture.release()
            time.sleep(min(_RETRY_S, max(deadline - time.monotonic(), 0)))
            self.open()
        return None

    def release(self) -> None:
        if self.capture is not None:
            self.capture.release()
            self.capture = None


def _without_password(address: str) -> str:
    scheme, found, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if found else address
