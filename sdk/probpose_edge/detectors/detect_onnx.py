"""Person detectors in .onnx files of other projects: YOLOX with its raw grid, and the layout of YOLOv8."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError, ModelFileError
from probpose_edge.extras import import_extra
from probpose_edge.images import to_bgr
from probpose_edge.runtimes.onnx_session import open_onnx_session

STRIDES = (8, 16, 32)
"""Input pixels per cell of the three grids, in the order in which their cells follow one another."""
_PAD_VALUE = 114
"""Grey around the picture in the input, as these networks were trained."""
_BEFORE_NMS = 1000


@dataclass(frozen=True, kw_only=True)
class DetectorLayout:
    """How a file wants its picture and says its boxes.

    rgb: red first, else blue first. scale: factor on the values 0 to 255. centered: the picture in the middle of the
    grey, else at the top left. raw_grid: boxes are offsets in a grid, with an objectness besides the classes.
    """

    rgb: bool
    scale: float
    centered: bool
    raw_grid: bool


YOLOX = DetectorLayout(rgb=False, scale=1.0, centered=False, raw_grid=True)
"""Output (1, A, 5 + C) with A cells in the grids of `STRIDES`: offsets, logarithms of sizes, objectness, C classes."""
YOLOV8 = DetectorLayout(rgb=True, scale=1 / 255, centered=True, raw_grid=False)
"""Output (1, 4 + C, A): center and size in input pixels, C classes."""


class OnnxDetector:
    """Persons by an .onnx detector that you bring; satisfies `Detector`. A context manager; one per thread.

    The layout is recognised by the shape of the output (`YOLOX`, `YOLOV8`). Input: (1, 3, H, W) float.

    Parameters
    ----------
    path: the .onnx file.
    min_score: boxes of a lower score are left out (objectness × class probability, or class probability).
    iou: of boxes that overlap more than this, the one with the best score is kept (`cv2.dnn.NMSBoxes`).
    person_class: index of the class "person", 0 in COCO.
    input_wh: size of the input, for a file that leaves it open.
    threads, providers: as in `PoseEstimator.open`.

    Raises `ModelFileError` for a file that cannot be loaded or has another layout, `MissingExtraError` without
    onnxruntime, `InputError` for other arguments.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        min_score: float = 0.3,
        iou: float = 0.45,
        person_class: int = 0,
        input_wh: tuple[int, int] | None = None,
        threads: int | None = None,
        providers: Sequence[str | tuple[str, dict[str, Any]]] | None = None,
    ) -> None:
        for name, value in (("min_score", min_score), ("iou", iou)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {value!r}. Leave it out for the usual value.")
        ort = import_extra("Running .onnx detectors", "onnxruntime", "onnx")
        self._session = open_onnx_session(
            ort,
            path,
            threads=threads,
            providers=providers or ["CPUExecutionProvider"],
            refusal=lambda reason: f"onnxruntime cannot load the detector {path}: {reason}. Copy it again.",
        )
        self._path, self.min_score, self.iou, self.person_class = os.fspath(path), min_score, iou, person_class
        self._input, self._type, self.input_wh = _input_of(self._path, self._session.get(), input_wh)
        width, height = self.input_wh
        output = self._run(np.full((height, width, 3), _PAD_VALUE, dtype=np.uint8), 1.0)
        self.layout = _layout_of(self._path, output.shape, self.input_wh, person_class)

    def __call__(self, image_bgr: NDArray[Any], /) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes (N, 4) float64 xyxy in image pixels and scores (N,) float64, best first, of an (H, W, 3) BGR image."""
        image = to_bgr(image_bgr)
        layout, (width, height) = self.layout, self.input_wh
        ratio = min(width / image.shape[1], height / image.shape[0])
        inner_wh = (max(round(image.shape[1] * ratio), 1), max(round(image.shape[0] * ratio), 1))
        left, top = ((width - inner_wh[0]) // 2, (height - inner_wh[1]) // 2) if layout.centered else (0, 0)
        canvas = np.full((height, width, 3), _PAD_VALUE, dtype=np.uint8)
        scaled = cv2.resize(image, inner_wh, interpolation=cv2.INTER_LINEAR)
        canvas[top : top + inner_wh[1], left : left + inner_wh[0]] = scaled[..., ::-1] if layout.rgb else scaled
        output = self._run(canvas, layout.scale)[0].astype(np.float64)
        rows = decode_yolox(output, self.input_wh) if layout.raw_grid else output.T
        boxes, scores = _persons(rows, layout, self.person_class, self.min_score)
        kept = _suppress(boxes, scores, self.iou)
        corners = np.concatenate([boxes[kept, :2] - boxes[kept, 2:] / 2, boxes[kept, :2] + boxes[kept, 2:] / 2], axis=1)
        return (corners - [left, top, left, top]) / ratio, scores[kept]

    def _run(self, canvas: NDArray[np.uint8], scale: float) -> NDArray[np.floating]:
        session = self._session.get()
        values = (canvas.transpose(2, 0, 1)[None] * np.float32(scale)).astype(self._type)
        return np.asarray(session.run(None, {self._input: values})[0])

    def close(self) -> None:
        """Release the model; further calls are errors."""
        self._session.close()

    def __enter__(self) -> OnnxDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def decode_yolox(
    output: NDArray[np.floating], input_wh: tuple[int, int], strides: Sequence[int] = STRIDES
) -> NDArray[np.float64]:
    """Boxes from the raw grid of YOLOX (Ge et al. 2021, section 2.1).

    output: (A, 5 + C): x and y as offsets from their cell, in cells; logarithms of width and height in cells;
        objectness; C class probabilities. Cells row by row, grid by grid. input_wh: px, multiples of the strides.

    Returns (A, 5 + C) float64 with ``[center_x, center_y, width, height]`` in input pixels in place of the first four.
    """
    cells, steps = [], []
    for stride in strides:
        columns, rows = input_wh[0] // stride, input_wh[1] // stride
        y, x = np.mgrid[:rows, :columns]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        steps.append(np.full((rows * columns, 1), stride))
    step = np.concatenate(steps)
    decoded = np.array(output, dtype=np.float64)
    decoded[:, :2] = (decoded[:, :2] + np.concatenate(cells)) * step
    # A size beyond e^20 cells is no size; it must not overflow either.
    decoded[:, 2:4] = np.exp(np.minimum(decoded[:, 2:4], 20)) * step
    return decoded


def _persons(
    rows: NDArray[np.float64], layout: DetectorLayout, person_class: int, min_score: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes (M, 4) center and size, input px, and scores (M,), of the rows that say person, best first."""
    classes = rows[:, 5:] if layout.raw_grid else rows[:, 4:]
    scores = classes[:, person_class] * (rows[:, 4] if layout.raw_grid else 1.0)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(rows[:, :4]).all(axis=1) & (rows[:, 2:4] > 0).all(axis=1)
        good &= (scores >= min_score) & (classes.argmax(axis=1) == person_class)
    chosen = np.flatnonzero(good)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:_BEFORE_NMS]
    return rows[chosen, :4], scores[chosen]


def _suppress(boxes: NDArray[np.float64], scores: NDArray[np.float64], iou: float) -> NDArray[np.intp]:
    """Indices of the boxes (center and size) that no better one overlaps by more than `iou`, best first."""
    if len(boxes) == 0:
        return np.zeros(0, dtype=np.intp)
    corner_size = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)
    kept = cv2.dnn.NMSBoxes(corner_size.tolist(), scores.tolist(), 0.0, iou)
    return np.asarray(kept, dtype=np.intp).reshape(-1)


def _input_of(path: str, session: Any, input_wh: tuple[int, int] | None) -> tuple[str, type[Any], tuple[int, int]]:
    """Name, type and size of the input."""
    inputs = [(node.name, node.type, node.shape) for node in session.get_inputs()]
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    if len(inputs) != 1 or inputs[0][1] not in types or len(inputs[0][2]) != 4 or inputs[0][2][1] != 3:
        raise ModelFileError(
            f"A detector must have one float input (1, 3, H, W); {path} has {inputs}. Export it so, or wrap it in a "
            "function that returns boxes and scores."
        )
    name, kind, (_, _, height, width) = inputs[0]
    if isinstance(width, int) and isinstance(height, int):
        input_wh = (width, height)
    if input_wh is None:
        raise InputError(
            f"The detector {path} leaves the size of its input open. Pass input_wh=(640, 640) for example."
        )
    if any(size % STRIDES[-1] or size <= 0 for size in input_wh):
        raise InputError(f"The input of a detector must be multiples of {STRIDES[-1]} pixels, got {input_wh}.")
    return name, types[kind], input_wh


def _layout_of(path: str, shape: tuple[int, ...], input_wh: tuple[int, int], person_class: int) -> DetectorLayout:
    anchors = sum((input_wh[0] // stride) * (input_wh[1] // stride) for stride in STRIDES)
    if len(shape) == 3 and shape[0] == 1:
        if shape[1] == anchors and shape[2] > 5 + person_class:
            return YOLOX
        if shape[2] == anchors and shape[1] > 4 + person_class:
            return YOLOV8
    raise ModelFileError(
        f"A detector with an input of {input_wh[0]} x {input_wh[1]} must give (1, {anchors}, 5 + classes), as YOLOX "
        f"without decoding, or (1, 4 + classes, {anchors}), as YOLOv8, with the person as class {person_class}; {path} "
        f"gives {shape}. Export it so, or wrap it in a function that returns boxes and scores."
    )
