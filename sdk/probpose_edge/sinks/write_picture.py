"""Write drawn pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from probpose_edge.atomic_write import write_bytes_atomically
from probpose_edge.exceptions import InputError


def write_picture(path: str | os.PathLike[str], image_bgr: NDArray[Any]) -> None:
    """Write a picture in the format of its suffix, PNG or JPEG for example, so that it appears complete.

    image_bgr: (H, W, 3) uint8 BGR, or another array that OpenCV can encode. Raises `InputError` if it cannot.
    """
    path = Path(path)
    try:
        good, content = cv2.imencode(path.suffix, image_bgr)
    except cv2.error:
        good = False
    if not good:
        raise InputError(f"OpenCV cannot write {path.name!r} in the format {path.suffix!r}. Use .png or .jpg.")
    write_bytes_atomically(path, content.tobytes())
