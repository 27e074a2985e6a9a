"""What a picture is, whatever it is called: hashes of its file and of its look."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

PICTURE_HASHES_KEY = "picture_hashes"
"""Where the ``calibration`` field of a contract has the `short_hashes` of the pictures it was fitted on."""
SHORT = 12
"""Hexadecimal digits of a short hash: among a million pictures two are alike by chance once in 560 sets."""


def content_hash(content: bytes) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def short_hashes(paths: Iterable[Path]) -> str:
    """The first `SHORT` digits of the content hashes of pictures, each once, sorted, with spaces between."""
    return " ".join(sorted({content_hash(path.read_bytes())[:SHORT] for path in paths}))


def look_hash(picture_bgr: NDArray[np.uint8]) -> int:
    """64 bits that tell which of 8 × 8 places are brighter than their right neighbour ("difference hash").

    picture_bgr: (H, W, 3) uint8 BGR. Copies that were compressed or scaled differ in a few bits, other pictures in
    about half of them.
    """
    small = cv2.resize(cv2.cvtColor(picture_bgr, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    bits = small[:, :-1] > small[:, 1:]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
