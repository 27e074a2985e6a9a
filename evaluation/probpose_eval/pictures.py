"""Read the pictures of an annotated set."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import AnnotationError
from probpose_edge.images import read_image
from probpose_eval.annotations.coco import ImageEntry, image_path


def read_picture(images_dir: str | os.PathLike[str], entry: ImageEntry) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR picture of an entry, as stored: an EXIF rotation is not applied, annotations do not know it.

    Raises `AnnotationError` for a name outside the folder, a missing file, or a size unlike the entry's, and
    `ImageReadError` for a file that is not a picture.
    """
    path = image_path(images_dir, entry)
    picture = read_image(path, upright=False)
    height, width = picture.shape[:2]
    if (width, height) != (entry.width, entry.height):
        raise AnnotationError(
            f"A picture must have the size its annotations were made on, but {path} is {width}×{height} and image "
            f"{entry.id} says {entry.width}×{entry.height}. Use the original pictures."
        )
    return picture
