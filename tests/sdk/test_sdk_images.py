from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from probpose_edge import ImageReadError, InputError, read_image, to_bgr


@pytest.fixture
def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def encode(picture: np.ndarray, suffix: str, options: list[int] | None = None) -> bytes:
    done, data = cv2.imencode(suffix, picture, options or [])
    assert done
    return data.tobytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG with an EXIF segment that holds nothing but the orientation."""
    entry = struct.pack("<HHII", 0x0112, 3, 1, orientation)
    tiff = b"II*\x00" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    body = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_lossless_pictures_come_back_as_they_were(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(picture, suffix))
    np.testing.assert_array_equal(read_image(path), picture)


def test_grey_alpha_16_bit_and_one_pixel_pictures(tmp_path: Path, picture: np.ndarray) -> None:
    cases = {
        "grey": (picture[..., 0], np.repeat(picture[..., :1], 3, axis=2)),
        "alpha": (np.dstack([picture, picture[..., 0]]), picture),
        "deep": (picture.astype(np.uint16) * 257, picture),
        "dot": (picture[:1, :1], picture[:1, :1]),
    }
    for name, (stored, expected) in cases.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(encode(stored, ".png"))
        image = read_image(path)
        assert image.dtype == np.uint8, name
        np.testing.assert_array_equal(image, expected, err_msg=name)


def test_orientation_is_respected_unless_stored_pixels_are_asked_for(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(with_orientation(encode(picture, ".jpg"), 6))
    stored = read_image(path, upright=False)
    assert stored.shape == picture.shape
    np.testing.assert_array_equal(read_image(path), np.rot90(stored, -1))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("progressive", [0, 1])
def test_truncated_jpegs_are_refused(tmp_path: Path, picture: np.ndarray, share: float, progressive: int) -> None:
    data = encode(picture, ".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageReadError, match=r"cut.jpg is cut short \(\d+ bytes\). Copy or download it again"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_truncated_png_and_webp_are_refused(
    tmp_path: Path, picture: np.ndarray, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode(picture, suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageReadError, match="is cut short"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".bmp", ".tiff"])
def test_other_truncated_pictures_are_refused_quietly(
    tmp_path: Path, picture: np.ndarray, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode(picture, suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageReadError, match="damaged"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_a_thumbnail_does_not_pass_for_the_end_of_the_picture(tmp_path: Path, picture: np.ndarray) -> None:
    whole = encode(picture, ".jpg")
    small = encode(picture[:8, :8], ".jpg")
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(small)) + small
    path = tmp_path / "thumb.jpg"
    path.write_bytes(whole[:2] + thumbnail + whole[2:])
    assert read_image(path).shape == picture.shape
    path.write_bytes((whole[:2] + thumbnail + whole[2:])[:-200])
    with pytest.raises(ImageReadError, match="cut short"):
        read_image(path)


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "tail.jpg"
    path.write_bytes(encode(picture, ".jpg") + b"\x00" * 5000 + b"camera maker's notes")
    assert read_image(path).shape == picture.shape


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"There is no picture .*nowhere.jpg. Check the path"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageReadError, match=r"cannot be read: Is a directory. Check that it is a file"):
        read_image(tmp_path)
    for name, content in {"empty.jpg": b"", "text.png": b"not a picture at all"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageReadError, match=rf"{name} .* must be an image file that OpenCV can decode"):
            read_image(tmp_path / name)


def test_pictures_beyond_opencv_are_refused(tmp_path: Path) -> None:
    header = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    path = tmp_path / "huge.bmp"
    path.write_bytes(header + b"\x00" * 64)
    with pytest.raises(ImageReadError, match=r"huge.bmp .*(too large|damaged)"):
        read_image(path)


def test_arrays_are_brought_to_bgr(picture: np.ndarray) -> None:
    assert to_bgr(picture) is picture
    grey = picture[..., 1]
    np.testing.assert_array_equal(to_bgr(grey), np.dstack([grey] * 3))
    np.testing.assert_array_equal(to_bgr(grey[..., None]), np.dstack([grey] * 3))
    np.testing.assert_array_equal(to_bgr(np.dstack([picture, grey])), picture)
    np.testing.assert_array_equal(to_bgr(picture.astype(np.uint16) * 257), picture)
    assert to_bgr(np.full((1, 1), 65535, np.uint16)).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, r"An image must be a numpy array of shape \(H, W, 3\), uint8, BGR, got NoneType. Read files with"),
        (np.zeros((0, 5, 3), np.uint8), r"An image must have pixels, got shape \(0, 5, 3\)"),
        (np.zeros((4, 4, 2), np.uint8), r"must have shape \(H, W\), \(H, W, 3\) or \(H, W, 4\), got \(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"got \(1, 4, 4, 3\). Pass one picture at a time"),
        (np.zeros((4, 4, 3), np.float32), r"must be uint8 \(0 to 255\) or uint16, got float32. Scale it"),
        (np.zeros((4, 4, 3), bool), "got bool"),
    ],
)
def test_other_arrays_are_refused(image: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_bgr(image)
