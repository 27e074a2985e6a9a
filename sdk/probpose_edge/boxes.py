"""Checks of boxes against the picture they are on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.window import as_boxes

FARTHEST = 10.0
"""How far a box may reach beyond the picture, in lengths of its longer side. People close to the camera reach one or
two; much more is a mistake of scale, and the picture would vanish in the crop."""


def check_boxes(boxes_xyxy: ArrayLike, image_wh: tuple[int, int]) -> NDArray[np.float64]:
    """Boxes as (N, 4) float64 xyxy px, each finite, not reversed, with area, and on the picture.

    boxes_xyxy: (N, 4) or (4,) numbers; N may be 0. Boxes may reach beyond the picture, up to `FARTHEST` of its longer
    side, but must overlap it. Raises `InputError`, naming the index of the first box that breaks a rule.
    """
    boxes = as_boxes(boxes_xyxy)
    width, height = image_wh
    reach = FARTHEST * max(image_wh)
    for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            raise InputError(
                f"Box {index} must overlap the {width} x {height} picture, but {[x1, y1, x2, y2]} lies outside. Drop "
                "it, or give it in the pixels of this picture."
            )
        if min(x1, y1) < -reach or x2 > width + reach or y2 > height + reach:
            raise InputError(
                f"Box {index} reaches more than {FARTHEST:g} picture sides beyond the {width} x {height} picture: "
                f"{[x1, y1, x2, y2]}. Give it in the pixels of this picture."
            )
    return boxes
