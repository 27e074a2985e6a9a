"""Write drawn pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.atomic_write import write_bytes_atomically


def write_picture(path: Path, image_bgr: NDArray[np.uint8]) -> None:
    """Write a PNG or JPEG so that it appears complete."""
    write_bytes_atomically(path, cv2.imencode(path.suffix, image_bgr)[1].tobytes())
