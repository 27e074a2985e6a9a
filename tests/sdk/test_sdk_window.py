from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probpose_edge import (
    InputError,
    box_to_window,
    cells_to_image,
    crop_windows,
    image_to_cells,
    window_to_crop_matrix,
)
from probpose_edge.boxes import check_boxes

INPUT_WH, HEATMAP_WH = (192, 256), (48, 64)


@pytest.mark.shared
def test_recorded_windows_matrices_and_crops(shared: Path) -> None:
    recorded = np.load(shared / "reference" / "crop.npz", allow_pickle=False)
    windows = box_to_window(recorded["boxes_xyxy"], INPUT_WH, 1.25)
    np.testing.assert_allclose(windows, recorded["center_scale"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(window_to_crop_matrix(windows, INPUT_WH), recorded["matrices"], rtol=0, atol=1e-3)
    crops = crop_windows(recorded["image_bgr_uint8"], windows, INPUT_WH)[..., ::-1]
    difference = np.abs(crops.astype(int) - recorded["crops_bgr_uint8"].astype(int))
    # OpenCV rounds its interpolation weights differently from version to version.
    assert difference.mean() <= 1
    assert difference.max() <= 4


def test_windows_have_the_aspect_of_the_input_and_the_padding() -> None:
    windows = box_to_window([[0, 0, 30, 100], [10, 20, 110, 40]], INPUT_WH, 1.25)
    np.testing.assert_allclose(windows, [[15, 50, 93.75, 125], [60, 30, 125, 125 * 4 / 3]])


def test_first_and_last_pixel_centers_lie_on_the_borders_of_the_window() -> None:
    windows = box_to_window([[10, 20, 130, 180]], INPUT_WH, 1.25)
    matrix = window_to_crop_matrix(windows, INPUT_WH)[0]
    center, size = windows[0, :2], windows[0, 2:]
    np.testing.assert_allclose(matrix @ [*(center - size / 2), 1], [0, 0], atol=1e-9)
    np.testing.assert_allclose(matrix @ [*(center + size / 2), 1], [191, 255], atol=1e-9)
    corners = np.array([[[0, 0], [47, 63], [23.5, 31.5]]])
    expected = [[center - size / 2, center + size / 2, center]]
    np.testing.assert_allclose(cells_to_image(corners, windows, HEATMAP_WH), expected)


def test_cells_and_pixels_are_inverse() -> None:
    rng = np.random.default_rng(0)
    windows = np.array([[50.0, 60, 90, 120], [-10, 500, 9, 12]])
    cells = rng.uniform(-5, 70, size=(2, 17, 2))
    np.testing.assert_allclose(image_to_cells(cells_to_image(cells, windows, HEATMAP_WH), windows, HEATMAP_WH), cells)


def test_crops_are_rgb_and_black_outside() -> None:
    image = np.zeros((40, 30, 3), np.uint8)
    image[...] = (10, 20, 30)
    crop = crop_windows(image, np.array([[15.0, 20, 300, 400]]), (48, 64))[0]
    assert crop.shape == (64, 48, 3)
    np.testing.assert_array_equal(crop[32, 24], [30, 20, 10])
    np.testing.assert_array_equal(crop[0, 0], 0)


def test_a_crop_shows_what_the_matrix_says() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[90:93, 150:153] = 255
    windows = box_to_window([[100, 50, 180, 150]], INPUT_WH, 1.25)
    crop = crop_windows(image, windows, INPUT_WH)[0, ..., 0].astype(float)
    y, x = np.mgrid[:256, :192]
    found = np.array([(x * crop).sum(), (y * crop).sum()]) / crop.sum()
    expected = window_to_crop_matrix(windows, INPUT_WH)[0] @ [151, 91, 1]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_shapes_of_boxes() -> None:
    assert box_to_window([], INPUT_WH, 1.25).shape == (0, 4)
    assert box_to_window(np.zeros((0, 4)), INPUT_WH, 1.25).shape == (0, 4)
    assert box_to_window([1, 2, 3, 4], INPUT_WH, 1.25).shape == (1, 4)
    assert crop_windows(np.zeros((9, 9, 3), np.uint8), np.zeros((0, 4)), INPUT_WH).shape == (0, 256, 192, 3)


GOOD = [0.0, 0.0, 10.0, 20.0]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([GOOD, [0, 0, float("nan"), 5]], r"Box 1 must be finite, got \[0.0, 0.0, nan, 5.0\]"),
        ([GOOD, GOOD, [0, 0, float("inf"), 5]], "Box 2 must be finite"),
        ([[10, 0, 5, 20]], r"Box 0 is reversed: it must have x1 < x2 and y1 < y2, got \[10.0, 0.0, 5.0, 20.0\]"),
        ([GOOD, [0, 20, 10, 5]], "Box 1 is reversed"),
        ([GOOD, [5, 0, 5, 20]], "Box 1 has no area"),
        ([[0, 0, 0, 0]], "Box 0 has no area"),
        ([[1, 2, 3]], r"Boxes must have shape \(N, 4\) or \(4,\), as \[x1, y1, x2, y2\] in pixels, got \(1, 3\)"),
        ([1, 2], r"got \(2,\)"),
        (np.zeros((2, 2, 4)), r"got \(2, 2, 4\)"),
        (np.zeros((0, 5)), r"got \(0, 5\)"),
        ([["a", 1, 2, 3]], r"Boxes must be numbers in an \(N, 4\) array"),
        ([GOOD, [1, 2]], r"Boxes must be numbers in an \(N, 4\) array"),
        (None, "Boxes must"),
    ],
)
def test_bad_boxes_are_refused_by_index(boxes: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        box_to_window(boxes, INPUT_WH, 1.25)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([-50, -50, -1, -1], "Box 1 must overlap the 100 x 80 picture, but .* lies outside"),
        ([100, 0, 130, 50], "Box 1 must overlap"),
        ([0, 80, 50, 1e9], "Box 1 must overlap"),
        ([-1e7, 0, 1e7, 50], "Box 1 reaches more than 10 picture sides beyond the 100 x 80 picture"),
        ([0, 0, 50, 5000], "Box 1 reaches more than 10 picture sides"),
    ],
)
def test_boxes_off_the_picture_are_refused_by_index(box: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_boxes([GOOD, box], (100, 80))


def test_boxes_reaching_beyond_the_picture_are_fine() -> None:
    boxes = check_boxes([[-90, -90, 200, 300], [99, 79, 150, 150]], (100, 80))
    np.testing.assert_array_equal(boxes, [[-90, -90, 200, 300], [99, 79, 150, 150]])


def test_pictures_too_large_for_opencv_are_refused() -> None:
    with pytest.raises(InputError, match="at most 32766 pixels a side, got 40000 x 1"):
        crop_windows(np.zeros((1, 40000, 3), np.uint8), np.array([[5.0, 0, 3, 4]]), INPUT_WH)


def test_inputs_are_left_alone() -> None:
    boxes = np.array([[0.0, 0, 30, 100]])
    windows = box_to_window(boxes, INPUT_WH, 1.25)
    kept = windows.copy()
    crop_windows(np.zeros((20, 20, 3), np.uint8), windows, INPUT_WH)
    np.testing.assert_array_equal(boxes, [[0, 0, 30, 100]])
    np.testing.assert_array_equal(windows, kept)
