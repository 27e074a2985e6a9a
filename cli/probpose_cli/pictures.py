"""Write drawn pictures."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def write_picture(path: Path, image_bgr: NDArray[np.uint8]) -> None:
    """Write a PNG or JPEG under a temporary name, then rename it."""
    encoded = cv2.imencode(path.suffix, image_bgr)[1]
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(encoded.tobytes())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
