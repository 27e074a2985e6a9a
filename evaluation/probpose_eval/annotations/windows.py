"""Activation windows of annotated persons, and what lies in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probpose_edge.window import box_to_window

SMALLEST_SIDE_PX = 1e-6
"""Annotated boxes may have no width or height (unlabelled persons); a window must."""


def person_windows(
    boxes_xyxy: NDArray[np.float64], *, input_wh: tuple[int, int] = (192, 256), padding: float = 1.25
) -> NDArray[np.float64]:
    """(N, 4) boxes to (N, 4) float64 windows ``[center_x, center_y, width, height]``, px; as the SDK cuts them.

    padding: of the activation window, a contract's `activation_padding`; where one map is over the crop that is its
    `padding`, else more.
    """
    boxes = np.array(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + SMALLEST_SIDE_PX)
    return box_to_window(boxes, input_wh, padding)


def inside_windows(points_px: NDArray[np.float64], windows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, K) bool: which of the (N, K, 2) points lie in their (N, 4) window, its border included."""
    half = windows[:, None, 2:] / 2
    return np.asarray((np.abs(points_px - windows[:, None, :2]) <= half).all(axis=-1))


def window_corners(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) windows to (N, 4) corners left, top, right, bottom, px."""
    half = windows[:, 2:] / 2
    return np.concatenate([windows[:, :2] - half, windows[:, :2] + half], axis=1)
