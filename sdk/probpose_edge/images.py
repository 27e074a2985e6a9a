"""Pictures: read them from files, and bring arrays into the one form the estimator works on."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import ImageReadError, InputError

_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""A JPEG marker: not a stuffed zero byte, fill byte or restart mark, which occur inside compressed data."""


def read_image(path: str | os.PathLike[str], *, upright: bool = True) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3) uint8 BGR, in any format OpenCV reads.

    Grey pictures are repeated over the three channels, 16-bit ones are scaled to 8, transparency is dropped.

    upright: turn the picture as its EXIF orientation says, which is how people see it and what a model trained on
        upright people needs. COCO-style annotations count the pixels as they are stored: read such pictures with
        ``upright=False``.

    Raises `ImageReadError` for a file that is missing, not a picture, cut short, or too large.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ImageReadError(f"There is no picture {path}. Check the path.") from error
    except OSError as error:
        raise ImageReadError(
            f"The picture {path} cannot be read: {error.strerror or error}. Check that it is a file and its "
            "permissions."
        ) from error
    return decode_image(data, path, upright=upright)


def decode_image(data: bytes, path: str | os.PathLike[str], *, upright: bool = True) -> NDArray[np.uint8]:
    """The same from the bytes of a file, wherever they were read from; `path` names them in messages.

    Raises `ImageReadError` for bytes that are not a picture, cut short, or too large a picture.
    """
    if not _is_complete(data):
        raise ImageReadError(f"The picture {path} is cut short ({len(data)} bytes). Copy or download it again.")
    image = _decode(path, data, upright)
    if image is None:
        raise ImageReadError(
            f"The picture {path} ({len(data)} bytes) must be an image file that OpenCV can decode, but it is damaged "
            "or of another kind. Save it again as JPEG or PNG."
        )
    return image


def _decode(path: str | os.PathLike[str], data: bytes, upright: bool) -> NDArray[np.uint8] | None:
    if not data:
        return None
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    # OpenCV reports damage on the error stream as well; the exception says it.
    log: Any = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        image: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        raise ImageReadError(
            f"The picture {path} is damaged or too large to decode: {' '.join(str(error).split())}. Scale it down and "
            "save it again as JPEG or PNG."
        ) from error
    finally:
        log.setLogLevel(level)
    return None if image is None else np.asarray(image)


def _is_complete(data: bytes) -> bool:
    """False if a JPEG, PNG or WebP file lacks its end, which decoders may fill up without a word."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_has_end(data)
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-4096:]
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return True


def _jpeg_has_end(data: bytes) -> bool:
    """Whether the end-of-image marker follows the last scan (ITU-T T.81, annex B); thumbnails are skipped over."""
    position = 2
    while (marker := _JPEG_MARKER.search(data, position)) is not None:
        kind = marker[1][0]
        if kind == 0xD9:
            return True
        position = marker.end()
        if kind not in (0x01, 0xD8):  # every other marker is followed by the length of its segment
            position += int.from_bytes(data[position : position + 2], "big")
    return False


def to_bgr(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image array as (H, W, 3) uint8 BGR; the array itself is not changed, and returned if it has that form.

    image: (H, W), (H, W, 1) grey, (H, W, 3) BGR or (H, W, 4) BGRA, uint8 or uint16. Grey is repeated over the
    channels, transparency is dropped, 16 bits are scaled so that white stays white.

    Raises `InputError` for anything else, and for an image without pixels.
    """
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"An image must be a numpy array of shape (H, W, 3), uint8, BGR, got {type(image).__name__}. Read files "
            "with probpose_edge.read_image, which reports what it cannot read."
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise InputError(
            f"An image must have shape (H, W), (H, W, 3) or (H, W, 4), got {image.shape}. Pass one picture at a time, "
            "channels last."
        )
    if image.size == 0:
        raise InputError(f"An image must have pixels, got shape {image.shape}. Check how it was read or cut.")
    if image.dtype == np.uint16:
        # Rounded x / 257, which maps 65535 to 255.
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise InputError(
            f"An image must be uint8 (0 to 255) or uint16, got {image.dtype}. Scale it to 0 to 255 and convert it with "
            ".astype(numpy.uint8)."
        )
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[..., :3]) if image.shape[2] == 4 else image
