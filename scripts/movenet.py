"""MoveNet single-pose beside our models: a teacher for missing labels, and what they are compared with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING = 1.25


class MoveNet:
    """MoveNet single-pose: the square around a box in, 17 COCO keypoints out.

    The square has the box's center and 1.25 times its longer side. `udp` cuts it as the windows of this project are
    cut, first and last pixel centers on its edges; without it the pixels tile the square, as MoveNet was trained.
    """

    def __init__(self, path: str | Path, *, threads: int = 1, udp: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._udp = udp

    def __call__(self, image_bgr: NDArray[np.uint8], bbox_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
        """(H, W, 3) uint8 BGR and (4,) px → (17, 3) float64: x, y in image px, score in [0, 1]."""
        size = int(self._input["shape"][1])
        corner, side = square_around(bbox_xyxy)
        matrix = square_matrix(corner, side, size, udp=self._udp)
        crop = cv2.warpAffine(image_bgr, matrix, (size, size), flags=cv2.INTER_LINEAR)[..., ::-1]
        self._interpreter.set_tensor(self._input["index"], crop[None].astype(self._input["dtype"]))
        self._interpreter.invoke()
        yxs = self._interpreter.get_tensor(self._output).reshape(17, 3).astype(np.float64)
        return np.concatenate((yxs[:, 1::-1] * side + corner, yxs[:, 2:].clip(0, 1)), axis=1)


def square_around(bbox_xyxy: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Top left corner (2,) and side, px, of the square that MoveNet gets for a box (4,)."""
    side = PADDING * float((bbox_xyxy[2:] - bbox_xyxy[:2]).max())
    return (bbox_xyxy[:2] + bbox_xyxy[2:]) / 2 - side / 2, side


def square_matrix(corner: NDArray[np.float64], side: float, size: int, *, udp: bool) -> NDArray[np.float64]:
    """(2, 3) affine map from image px to the pixel centers of a crop of `size` pixels a side."""
    scale = (size - 1) / side if udp else size / side
    # Pixel centers: x of the image is at x + 0.5 of the plane, and so in the crop.
    offset = -corner * scale if udp else (0.5 - corner) * scale - 0.5
    return np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
