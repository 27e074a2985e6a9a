from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import InputError, ModelFileError, OnnxDetector, detect, read_image
from probpose_edge.detectors.detect_onnx import YOLOV8, YOLOX, decode_yolox

IMAGE = np.full((100, 200, 3), 90, np.uint8)


def test_any_callable_is_a_detector_and_the_best_come_first() -> None:
    found = detect(lambda image: ([[0, 0, 20, 30], [10, 10, 50, 90]], [0.4, 0.9]), IMAGE)
    np.testing.assert_array_equal(found.boxes, [[10, 10, 50, 90], [0, 0, 20, 30]])
    np.testing.assert_array_equal(found.scores, [0.9, 0.4])
    assert (found.unusable, found.surplus) == (0, 0)
    assert len(detect(lambda image: ([[0, 0, 20, 30], [10, 10, 50, 90]], [0.4, 0.9]), IMAGE, min_score=0.5).boxes) == 1
    for nothing in (([], []), (np.zeros((0, 4)), np.zeros(0))):
        assert detect(lambda image, answer=nothing: answer, IMAGE).boxes.shape == (0, 4)


def test_boxes_that_cannot_be_used_are_counted_and_left_out() -> None:
    good = [5.0, 5, 50, 90]
    bad = [
        [np.nan, 0, 5, 5], [0, 0, np.inf, 5], [50, 5, 5, 90], [5, 5, 5, 90], [-50, 5, -10, 90], [300, 5, 350, 90],
        [0, 0, 1e9, 90],
    ]  # fmt: skip
    found = detect(lambda image: ([*bad, good, [-20, -20, 100, 130]], [0.9] * 9), IMAGE)
    np.testing.assert_array_equal(found.boxes, [good, [-20, -20, 100, 130]])
    assert found.unusable == 7
    found = detect(lambda image: ([good, good], [np.nan, 0.5]), IMAGE)
    assert (len(found.boxes), found.unusable) == (1, 1)


def test_thousands_of_boxes_are_cut_to_the_best() -> None:
    boxes = np.tile([5.0, 5, 50, 90], (50_000, 1))
    found = detect(lambda image: (boxes, np.linspace(0, 1, 50_000)), IMAGE)
    assert len(found.boxes) == 100
    assert found.surplus == 49_900
    assert found.scores.min() > 0.99


@pytest.mark.parametrize(
    "answer",
    [None, 3, ([1, 2, 3, 4], [0.5]), ([[1, 2, 3]], [0.5]), ([[1, 2, 3, 4]], [0.5, 0.6]), ([["a", 2, 3, 4]], [1])],
)
def test_what_is_no_answer_is_refused(answer: Any) -> None:
    with pytest.raises(InputError, match=r"must return boxes \(N, 4\) .* and scores \(N,\), got .* Wrap it"):
        detect(lambda image: answer, IMAGE)


ANCHORS = 8 * 8 + 4 * 4 + 2 * 2
"""Cells of the three grids of a 64 x 64 input."""


@pytest.fixture
def write_detector(tmp_path: Path) -> Callable[..., Path]:
    """Writes an .onnx file that answers these rows whatever it sees, plus the mean of its input in the last column."""
    onnx = pytest.importorskip("onnx", reason="needs onnx to write a tiny model")
    from onnx import TensorProto, helper, numpy_helper

    def make(rows: np.ndarray, *, size: Any = 64, kind: int = TensorProto.FLOAT) -> Path:
        nodes = [
            helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "mask"], ["seen"]),
            helper.make_node("Add", ["rows", "seen"], ["output"]),
        ]
        mask = np.zeros_like(rows)
        mask[-1, -1] = 1
        graph = helper.make_graph(
            nodes,
            "detector",
            [helper.make_tensor_value_info("images", kind, [1, 3, size, size])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, *rows.shape])],
            [numpy_helper.from_array(rows[None].astype(np.float32), "rows"),
             numpy_helper.from_array(mask[None].astype(np.float32), "mask")],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path = tmp_path / "detector.onnx"
        onnx.save(model, str(path))
        return path

    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    return make


def around(center: list[float], half: np.ndarray) -> np.ndarray:
    return np.concatenate([np.subtract(center, half), np.add(center, half)])


def yolox_rows() -> np.ndarray:
    rows = np.zeros((ANCHORS, 7), np.float32)
    # Cell (3, 2) of the first grid: center (3.5, 2.25) cells of 8 px, size e^1 x e^1.5 cells.
    rows[2 * 8 + 3] = [0.5, 0.25, 1.0, 1.5, 0.9, 0.8, 0.1]
    rows[2 * 8 + 4] = [-0.5, 0.25, 1.0, 1.5, 0.8, 0.8, 0.1]  # the same box from the next cell: suppressed
    # Cell (1, 0) of the last grid, stride 32.
    rows[64 + 16 + 1] = [0.5, 0.5, -0.7, 0.0, 0.7, 0.6, 0.2]
    rows[64 + 16 + 2] = [0.5, 0.5, -0.7, 0.0, 0.9, 0.2, 0.8]  # another class
    rows[64 + 16 + 3] = [0.5, 0.5, np.nan, 0.0, 0.9, 0.9, 0.0]
    rows[10] = [0, 0, 0, 0, 0.3, 0.4, 0]  # too low a score
    return rows


def test_the_raw_grid_of_yolox_is_decoded(write_detector: Callable[..., Path]) -> None:
    detector = OnnxDetector(write_detector(yolox_rows()))
    assert detector.layout == YOLOX
    boxes, scores = detector(IMAGE)
    np.testing.assert_allclose(scores, [0.72, 0.42], atol=1e-6)
    # 200 x 100 pixels shrink by 64 / 200 at the top left of the input.
    half = np.exp([1.0, 1.5]) * 8 / 2
    expected = around([28, 18], half) / 0.32
    np.testing.assert_allclose(boxes[0], expected, rtol=1e-5)
    half = np.exp([-0.7, 0.0]) * 32 / 2
    np.testing.assert_allclose(boxes[1], around([48, 16], half) / 0.32, rtol=1e-5)
    assert len(OnnxDetector(write_detector(yolox_rows()), iou=1.0)(IMAGE)[0]) == 3
    assert len(OnnxDetector(write_detector(yolox_rows()), min_score=0.5)(IMAGE)[0]) == 1
    np.testing.assert_allclose(OnnxDetector(write_detector(yolox_rows()), person_class=1)(IMAGE)[1], [0.72], atol=1e-6)


def test_the_layout_of_yolov8_has_its_picture_in_the_middle(write_detector: Callable[..., Path]) -> None:
    columns = np.zeros((5, ANCHORS), np.float32)
    columns[:, 7] = [32, 32, 16, 20, 0.8]
    columns[:, -1] = [50, 50, 4, 4, 0]  # its score is the mean of the input: 90 and 114 of 255, each on half of it
    detector = OnnxDetector(write_detector(columns))
    assert detector.layout == YOLOV8
    boxes, scores = detector(IMAGE)
    np.testing.assert_allclose(scores, [0.8, 0.4], atol=1e-3)
    # The middle of the input is the middle of the picture.
    np.testing.assert_allclose(boxes[0], [100 - 25, 50 - 31.25, 100 + 25, 50 + 31.25], rtol=1e-6)


def test_decoding_wants_no_overflow() -> None:
    rows = np.zeros((ANCHORS, 6), np.float32)
    rows[:, 2:4] = 1000
    assert np.isfinite(decode_yolox(rows, (64, 64))).all()


def test_an_open_input_size_must_be_given(write_detector: Callable[..., Path]) -> None:
    path = write_detector(yolox_rows(), size="S")
    with pytest.raises(InputError, match=r"leaves the size of its input open. Pass input_wh=\(640, 640\)"):
        OnnxDetector(path)
    with pytest.raises(InputError, match=r"must be multiples of 32 pixels, got \(60, 64\)"):
        OnnxDetector(path, input_wh=(60, 64))
    assert OnnxDetector(path, input_wh=(64, 64)).layout == YOLOX


def test_files_that_are_no_detectors(
    tmp_path: Path, write_detector: Callable[..., Path], write_onnx: Callable[..., Path]
) -> None:
    with pytest.raises(ModelFileError, match=r"must give \(1, 84, 5 \+ classes\), as YOLOX .* gives \(1, 83, 7\)"):
        OnnxDetector(write_detector(yolox_rows()[:-1]))
    with pytest.raises(ModelFileError, match=r"with the person as class 9"):
        OnnxDetector(write_detector(yolox_rows()), person_class=9)
    with pytest.raises(ModelFileError, match=r"one float input \(1, 3, H, W\); .* has \[\('image', 'tensor\(uint8\)'"):
        OnnxDetector(write_onnx())
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"cannot load the detector .*no.onnx"):
        OnnxDetector(tmp_path / "no.onnx")
    with pytest.raises(InputError, match=r"iou must lie in \[0, 1\], got 7"):
        OnnxDetector(tmp_path / "no.onnx", iou=7)


def test_a_closed_detector_says_so(write_detector: Callable[..., Path]) -> None:
    with OnnxDetector(write_detector(yolox_rows())) as detector:
        assert len(detector(IMAGE[..., 0])[0]) == 2  # a grey picture
    with pytest.raises(InputError, match="This model was closed"):
        detector(IMAGE)


@pytest.mark.shared
def test_yolox_nano_finds_the_large_persons_of_photographs(shared: Path) -> None:
    pytest.importorskip("onnxruntime")
    data = json.loads((shared / "data/coco/person_keypoints_train.json").read_text())
    detector = OnnxDetector(shared / "models/yolox_nano.onnx", threads=1)
    assert detector.input_wh == (416, 416)
    found = total = 0
    for image in data["images"][:12]:
        boxes, scores = detector(read_image(shared / "data/coco/images" / image["file_name"], upright=False))
        assert ((scores >= 0.3) & (scores <= 1)).all()
        for annotation in data["annotations"]:
            if annotation["image_id"] == image["id"] and annotation["area"] > 96**2 and not annotation["iscrowd"]:
                total += 1
                found += any(_iou(box, annotation["bbox"]) > 0.5 for box in boxes)
    assert total > 10
    assert found >= 0.75 * total


def _iou(box: np.ndarray, bbox: list[float]) -> float:
    x, y, w, h = bbox
    inside = max(min(box[2], x + w) - max(box[0], x), 0) * max(min(box[3], y + h) - max(box[1], y), 0)
    return float(inside / ((box[2] - box[0]) * (box[3] - box[1]) + w * h - inside))
