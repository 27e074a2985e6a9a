"""Frames from arrays in memory, and from cameras that hand out arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError, SourceError
from probpose_edge.images import to_bgr
from probpose_edge.sources.frames import Frame, FrameSource

_TO_BGR: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
    # Picamera2 names formats as libcamera does, from the highest bits of a little-endian word down: the bytes in memory
    # are in the opposite order (Picamera2 manual, appendix A).
    "RGB888": lambda image: image,
    "XRGB8888": lambda image: image[..., :3],
    "BGR888": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
    "XBGR8888": lambda image: cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2BGR),
    "YUV420": lambda image: cv2.cvtColor(image, cv2.COLOR_YUV2BGR_I420),
}


@runtime_checkable
class ArrayCamera(Protocol):
    """What is used of a Picamera2 object: a started camera that gives its newest picture."""

    def capture_array(self) -> NDArray[Any]: ...


def array_frames(images: NDArray[Any] | Iterable[NDArray[Any]], *, fps: float | None = None) -> FrameSource:
    """Frames from pictures in memory.

    images: one picture (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as `to_bgr` takes them, an array (T, H, W, 3) of
        T pictures, or any iterable of pictures, a generator for example.
    fps: their rate, which gives them times; without it every time is 0.

    Raises `InputError` for something else; iterating raises it for a picture that is none, naming its number.
    """
    pictures: Iterable[Any] = [images] if isinstance(images, np.ndarray) and images.ndim != 4 else images
    if not isinstance(pictures, Iterable) or isinstance(pictures, (str, bytes)):
        raise InputError(
            f"Frames must come from an array or an iterable of arrays, got {type(images).__name__}. Pass pictures of "
            "shape (H, W, 3), uint8, BGR."
        )
    total = len(pictures) if isinstance(pictures, Sized) else None
    return FrameSource(_read(pictures, fps), name="arrays", total=total, fps=fps)


def picamera_frames(camera: ArrayCamera, *, pixel_format: str | None = None) -> FrameSource:
    """Frames of a started Picamera2 camera, or of any object with ``capture_array()``; `FrameSource.live` is True.

    pixel_format: libcamera's name of what ``capture_array`` gives; None asks ``camera.camera_configuration()`` for the
        format of its main stream, and takes BGR arrays where the camera has no such method. Mind the names: Picamera2's
        ``"RGB888"`` gives arrays in the order B, G, R, which is OpenCV's.

    The camera stays started when the source is closed: who started it stops it. Raises `InputError` for a format that
    is not supported; iterating raises `SourceError` if the camera fails.
    """
    if pixel_format is None:
        configuration = getattr(camera, "camera_configuration", None)
        pixel_format = str(configuration()["main"]["format"]) if callable(configuration) else "RGB888"
    if pixel_format not in _TO_BGR:
        raise InputError(
            f"The camera's format must be one of {', '.join(_TO_BGR)}, got {pixel_format!r}. Configure it with "
            'main={"format": "RGB888"}.'
        )
    return FrameSource(_capture(camera, _TO_BGR[pixel_format]), name="Picamera2", live=True)


def _read(pictures: Iterable[Any], fps: float | None) -> Iterator[Frame]:
    for index, picture in enumerate(pictures):
        try:
            image = to_bgr(picture)
        except InputError as error:
            raise InputError(f"Frame {index}: {error}") from error
        yield Frame(image=image, index=index, time_s=index / fps if fps else 0.0, name=f"array #{index}")


def _capture(camera: ArrayCamera, to_bgr_of: Callable[[NDArray[np.uint8]], Any]) -> Iterator[Frame]:
    index, start = 0, None
    while True:
        try:
            image = np.ascontiguousarray(to_bgr_of(camera.capture_array()))
        except Exception as error:  # Picamera2 and libcamera raise exceptions of many kinds
            raise SourceError(
                f"The camera stopped after {index} frames: {type(error).__name__}: {error}. Check its cable, and that "
                "it was started and is used by no other program."
            ) from error
        now = time.monotonic()
        start = now if start is None else start
        yield Frame(image=image, index=index, time_s=now - start, name=f"Picamera2 #{index}")
        index += 1
