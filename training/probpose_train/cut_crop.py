"""The pixels of a training crop: one warp of the picture, perhaps a pasted piece of another, then distortion."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_train.distort import Distortion, distort
from probpose_train.sources import TrainPerson

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Paste:
    """A piece of another picture (H, W, 3) uint8 BGR that covers the rectangle x0, y0, x1, y1 of the crop.

    matrix: (2, 3) from the other picture's px to crop px; beyond its border the picture is mirrored.
    """

    picture: NDArray[np.uint8]
    matrix: FloatArray
    rectangle_xyxy: tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class CropPlan:
    """How to make the pixels of one crop.

    Attributes
    ----------
    picture: (H, W, 3) uint8 BGR. matrix: (2, 3) from its px to crop px.
    border_xyxy: whole-pixel rectangle of the picture; everything outside it is black.
    paste: what covers a part of the crop, inside the border only.
    """

    picture: NDArray[np.uint8]
    matrix: FloatArray
    border_xyxy: FloatArray
    paste: Paste | None
    distortion: Distortion


def cut_crop(plan: CropPlan, input_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Crop (H, W, 3) uint8 RGB of a plan, by OpenCV."""
    crop = warp_inside(plan.picture, plan.matrix, plan.border_xyxy, input_wh)
    if plan.paste is not None:
        full = np.full(plan.picture.shape[:2], 255, np.uint8)
        inside = warp_inside(full, plan.matrix, plan.border_xyxy, input_wh) > 127
        x0, y0, x1, y1 = plan.paste.rectangle_xyxy
        pasted = cv2.warpAffine(
            plan.paste.picture, plan.paste.matrix, input_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        part = (slice(y0, y1), slice(x0, x1))
        crop[part] = np.where(inside[part][..., None], pasted[part], crop[part])
    return np.ascontiguousarray(distort(crop, plan.distortion)[..., ::-1])


def draw_paste(other: TrainPerson, rng: np.random.Generator, input_wh: tuple[int, int]) -> Paste:
    """Choose a piece of another picture and the place it covers.

    Mostly another person reaches in from one side, as in a crowd; else a small piece of the picture lies anywhere, as
    an obstacle would.
    """
    size = np.array(input_wh)
    if rng.random() < 0.7:
        piece = other.bbox_xyxy
        depth, length = rng.uniform(0.1, 0.4), rng.uniform(0.4, 1.0)
        side = int(rng.integers(4))
        # Along the axis across the side the rectangle begins outside the crop and reaches `depth` into it.
        axis = side % 2
        target = size * rng.uniform(0.4, 0.9)
        target[1 - axis] = size[1 - axis] * length
        corner = (size - target) * rng.random(2)
        corner[axis] = depth * size[axis] - target[axis] if side < 2 else (1 - depth) * size[axis]
    else:
        extent = (other.bbox_xyxy[2:] - other.bbox_xyxy[:2]) * rng.uniform(0.2, 0.5)
        start = other.bbox_xyxy[:2] + rng.random(2) * (other.bbox_xyxy[2:] - other.bbox_xyxy[:2] - extent)
        piece = np.concatenate((start, start + extent))
        target = size * rng.uniform(0.12, 0.35, 2)
        corner = (size - target) * rng.random(2)
    scale = target / np.maximum(piece[2:] - piece[:2], 1)
    x0, y0 = (int(value) for value in np.clip(np.round(corner), 0, size))
    x1, y1 = (int(value) for value in np.clip(np.round(corner + target), 0, size))
    return Paste(
        picture=other.image,
        matrix=np.array(
            [[scale[0], 0, corner[0] - scale[0] * piece[0]], [0, scale[1], corner[1] - scale[1] * piece[1]]]
        ),
        rectangle_xyxy=(x0, y0, x1, y1),
    )


def warp_inside(
    image: NDArray[np.uint8], matrix: FloatArray, border_xyxy: FloatArray, input_wh: tuple[int, int]
) -> NDArray[np.uint8]:
    """Crop of the picture, black outside the border rectangle."""
    x0, y0, x1, y1 = (int(value) for value in border_xyxy)
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ np.array([x0, y0], dtype=np.float64)
    warped = cv2.warpAffine(image[y0:y1, x0:x1], shifted, input_wh, flags=cv2.INTER_LINEAR)
    return warped.astype(np.uint8, copy=False)
