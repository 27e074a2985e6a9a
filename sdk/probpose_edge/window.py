"""From boxes to activation windows and crops, and from heatmap cells back to the image.

A window is ``[center_x, center_y, width, height]`` in image pixels: the part of the plane, inside the image or not,
that one crop shows. Crops and maps use UDP alignment (Huang et al. 2020, "The Devil is in the Details"): the centers
of the first and last pixel (or cell) lie on the two borders of the window, so a size counts as ``size - 1`` steps.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.exceptions import InputError

MAX_IMAGE_SIDE = 32_766
"""OpenCV's warps address pixels with 16-bit integers."""


def box_to_window(boxes_xyxy: ArrayLike, input_wh: tuple[int, int], padding: float) -> NDArray[np.float64]:
    """Windows around boxes: the box enlarged on one axis to the aspect of the input, then padded about its center.

    Parameters
    ----------
    boxes_xyxy: (N, 4) or (4,) numbers, corners ``x1 < x2``, ``y1 < y2`` in image pixels; N may be 0.
    input_wh: network input in pixels, width first; its ratio is the aspect of the windows.
    padding: factor on both sides (1.25 for ProbPose).

    Returns (N, 4) float64 ``[center_x, center_y, width, height]`` in image pixels. Raises `InputError`, naming the
    index, for boxes that are not finite, reversed or without area.
    """
    boxes = as_boxes(boxes_xyxy)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    box_w, box_h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    aspect = input_wh[0] / input_wh[1]
    width = np.maximum(box_w, box_h * aspect)
    size = np.stack([width, np.maximum(box_h, box_w / aspect)], axis=1) * padding
    return np.concatenate([center, size], axis=1)


def scale_windows(windows: NDArray[np.floating], ratio: float) -> NDArray[np.float64]:
    """(N, 4) windows, px, enlarged by a positive factor about their centers; float64."""
    scaled = np.array(windows, dtype=np.float64)
    scaled[:, 2:] *= ratio
    return scaled


def as_boxes(boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Check boxes and return them as (N, 4) float64; an empty list is N = 0. Raises `InputError`."""
    try:
        boxes = np.array(boxes_xyxy, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Boxes must be numbers in an (N, 4) array [x1, y1, x2, y2]: {error}. Pass pixels.") from error
    if boxes.size == 0 and boxes.shape in ((0,), (0, 4)):
        return np.zeros((0, 4))
    if boxes.ndim == 1:
        boxes = boxes[None]
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(
            f"Boxes must have shape (N, 4) or (4,), as [x1, y1, x2, y2] in pixels, got {np.shape(boxes_xyxy)}. "
            "Pass one row of four numbers per person."
        )
    for index, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = box
        if not all(map(math.isfinite, box)):
            raise InputError(f"Box {index} must be finite, got {box}. Drop it or give its four pixel coordinates.")
        if x2 < x1 or y2 < y1:
            raise InputError(
                f"Box {index} is reversed: it must have x1 < x2 and y1 < y2, got {box}. Pass corners as "
                "[x1, y1, x2, y2], not [x, y, width, height]."
            )
        if x2 == x1 or y2 == y1:
            raise InputError(f"Box {index} has no area: it must have x1 < x2 and y1 < y2, got {box}. Drop it.")
    return boxes


def window_to_crop_matrix(windows: NDArray[np.floating], input_wh: tuple[int, int]) -> NDArray[np.float64]:
    """Affine matrices from image pixels to crop pixels with UDP alignment.

    windows: (N, 4) ``[center_x, center_y, width, height]`` px. Returns (N, 2, 3) float64 with
    ``crop_x = (x - (center_x - width / 2)) * (W_in - 1) / width``, and the same for y.
    """
    windows = np.asarray(windows, dtype=np.float64)
    scale = (np.array(input_wh) - 1) / windows[:, 2:]
    matrices = np.zeros((len(windows), 2, 3))
    matrices[:, 0, 0], matrices[:, 1, 1] = scale[:, 0], scale[:, 1]
    matrices[:, :, 2] = -(windows[:, :2] - windows[:, 2:] / 2) * scale
    return matrices


def crop_windows(
    image_bgr: NDArray[np.uint8], windows: NDArray[np.floating], input_wh: tuple[int, int]
) -> NDArray[np.uint8]:
    """Cut windows out of an image, bilinearly; black where a window leaves the image.

    image_bgr: (H, W, 3) uint8 BGR. windows: (N, 4) px. Returns (N, H_in, W_in, 3) uint8 **RGB**.
    Raises `InputError` for an image longer than `MAX_IMAGE_SIDE`.
    """
    if max(image_bgr.shape[:2]) > MAX_IMAGE_SIDE:
        raise InputError(
            f"An image may have at most {MAX_IMAGE_SIDE} pixels a side, got {image_bgr.shape[1]} x "
            f"{image_bgr.shape[0]}. Scale it down or cut it into parts."
        )
    crops = np.empty((len(windows), input_wh[1], input_wh[0], 3), dtype=np.uint8)
    for crop, matrix in zip(crops, window_to_crop_matrix(windows, input_wh), strict=True):
        warped = cv2.warpAffine(image_bgr, matrix, input_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        cv2.cvtColor(warped, cv2.COLOR_BGR2RGB, dst=crop)
    return crops


def cells_to_image(
    points_cell: NDArray[np.floating], windows: NDArray[np.floating], heatmap_wh: tuple[int, int]
) -> NDArray[np.float64]:
    """Heatmap cells to image pixels: ``x = cell / (W_map - 1) * width + center_x - width / 2``.

    points_cell: (N, K, 2) x, y in cells. windows: (N, 4) px. Returns (N, K, 2) float64 px.
    """
    windows = np.asarray(windows, dtype=np.float64)[:, None]
    return points_cell / (np.array(heatmap_wh) - 1.0) * windows[..., 2:] + windows[..., :2] - windows[..., 2:] / 2


def image_to_cells(
    points_px: NDArray[np.floating], windows: NDArray[np.floating], heatmap_wh: tuple[int, int]
) -> NDArray[np.float64]:
    """Inverse of `cells_to_image`: (N, K, 2) image pixels to (N, K, 2) float64 heatmap cells."""
    windows = np.asarray(windows, dtype=np.float64)[:, None]
    corner = windows[..., :2] - windows[..., 2:] / 2
    return (points_px - corner) / windows[..., 2:] * (np.array(heatmap_wh) - 1.0)
