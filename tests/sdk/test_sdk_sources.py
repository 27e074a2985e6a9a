from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from probpose_edge import InputError, SourceError, open_source
from probpose_edge.images import ImageReadError
from probpose_edge.sources.camera_source import camera_frames
from probpose_edge.sources.open_source import camera_of, find_files


def picture(value: int, wh: tuple[int, int] = (64, 48)) -> np.ndarray:
    return np.full((wh[1], wh[0], 3), value, np.uint8)


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "a.avi", count: int = 12, fourcc: str = "MJPG") -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 20, (64, 48))
        noise = np.random.default_rng(0).integers(0, 30, (48, 64, 3)).astype(np.uint8)
        for index in range(count):
            writer.write(noise + np.uint8(10 * (index % 20)))
        writer.release()
        return path

    return make


def test_a_picture_a_folder_a_pattern_and_a_list_of_both(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    for name, value in (("b.png", 20), ("a.png", 10), ("note.txt", 0)):
        cv2.imwrite(str(tmp_path / "x.png"), picture(value))
        (tmp_path / "x.png").rename(tmp_path / name)
    one = open_source(tmp_path / "a.png")
    assert (one.total, one.live, one.name) == (1, False, str(tmp_path / "a.png"))
    (frame,) = list(one)
    assert frame.image[0, 0, 0] == 10
    assert (frame.index, frame.time_s, frame.path) == (0, 0.0, tmp_path / "a.png")
    folder = list(open_source(tmp_path))
    assert [f.path.name for f in folder] == ["a.png", "b.png"]
    assert [f.path.name for f in open_source(str(tmp_path / "*.png"))] == ["a.png", "b.png"]
    video = write_video(count=3)
    mixed = list(open_source([tmp_path / "b.png", video, str(tmp_path / "a.png")]))
    assert [f.index for f in mixed] == [0, 1, 2, 3, 4]
    assert [f.path.name for f in mixed] == ["b.png", "a.avi", "a.avi", "a.avi", "a.png"]


def test_a_video_has_times_and_a_length(write_video: Callable[..., Path]) -> None:
    with open_source(write_video(fourcc="MJPG")) as source:
        assert (source.total, source.fps, source.live) == (12, 20.0, False)
        frames = list(source)
    assert len(frames) == 12
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(12) / 20)
    assert abs(int(frames[11].image.mean()) - int(frames[0].image.mean()) - 110) < 6


def test_a_video_with_a_broken_tail_gives_its_good_frames_and_says_so(write_video: Callable[..., Path]) -> None:
    path = write_video(count=40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    frames = []
    with pytest.raises(SourceError, match=r"announces 40 frames, but only \d+ can be decoded: the rest is damaged"):
        for frame in open_source(path):
            frames.append(frame)
    assert 15 < len(frames) < 30


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=r"x.mp4 \(\d+ bytes\) must be one that OpenCV can decode"):
        open_source(tmp_path / "x.mp4")
    with pytest.raises(SourceError, match=r"There is no video .*y.mp4. Check the path"):
        open_source(tmp_path / "y.mp4")


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "*.jpg"):
        with pytest.raises(InputError, match=r"are needed, but found none in .* Name files, folders, patterns"):
            find_files([source])
    with pytest.raises(ImageReadError, match="There is no picture"):
        next(open_source(tmp_path / "missing.jpg"))


def test_arrays_of_every_kind() -> None:
    assert [f.image.shape for f in open_source(picture(3))] == [(48, 64, 3)]
    assert open_source(np.zeros((5, 48, 64, 3), np.uint8)).total == 5
    generated = open_source(picture(value, wh) for value, wh in ((1, (64, 48)), (2, (32, 24))))
    assert generated.total is None
    assert [f.image.shape[:2] for f in generated] == [(48, 64), (24, 32)]
    grey = list(open_source([np.zeros((48, 64), np.uint8), np.zeros((48, 64, 4), np.uint16)]))
    assert all(f.image.shape == (48, 64, 3) and f.image.dtype == np.uint8 for f in grey)
    with pytest.raises(InputError, match=r"Frame 1: An image must be uint8 .* got float64"):
        list(open_source([picture(0), np.zeros((4, 4))]))
    with pytest.raises(InputError, match=r"array or an iterable of arrays, got object"):
        open_source(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("0", 0), ("camera:2", 2), ("rtsp://host/live", "rtsp://host/live"), ("/dev/video0", "/dev/video0"),
        ("a.jpg", None), ("folder/0", None), ("C:/pictures", None),
    ],
)  # fmt: skip
def test_which_text_names_a_camera(text: str, device: int | str | None) -> None:
    assert camera_of(text) == device


def test_a_file_named_like_a_camera_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").mkdir()
    assert camera_of("7") is None


class FakeCapture:
    """Stands for cv2.VideoCapture: gives what its script says, one entry per read; None is a failed read."""

    script: Iterator[Any] = iter(())
    opened: list[Any]
    opens = True

    def __init__(self, *arguments: Any) -> None:
        self.opened.append(arguments)
        self.open = self.opens

    def isOpened(self) -> bool:  # noqa: N802
        return self.open

    def get(self, _: int) -> float:
        return 25.0

    def set(self, _: int, value: float) -> bool:
        self.opened.append(value)
        return True

    def read(self) -> tuple[bool, Any]:
        image = next(self.script, None)
        return image is not None, image

    def release(self) -> None:
        self.open = False


@pytest.fixture
def fake_capture(monkeypatch: pytest.MonkeyPatch) -> type[FakeCapture]:
    class Capture(FakeCapture):
        opened: list[Any] = []  # noqa: RUF012

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setattr("probpose_edge.sources.camera_source._RETRY_S", 0.01)
    return Capture


def test_a_camera_is_live_and_its_frames_may_change_size(fake_capture: type[FakeCapture]) -> None:
    fake_capture.script = iter([picture(1), picture(2, (32, 24))])
    source = camera_frames(0, size_wh=(64, 48), fps=30, patience_s=0.05)
    assert (source.live, source.total, source.fps, source.name) == (True, None, 25.0, "Camera 0")
    assert fake_capture.opened == [(0,), 64, 48, 30]
    first, second = next(source), next(source)
    assert (first.index, second.index, first.time_s) == (0, 1, 0.0)
    assert second.image.shape == (24, 32, 3)
    source.close()
    assert list(source) == []


def test_a_plug_pulled_and_put_back_does_no_harm(fake_capture: type[FakeCapture]) -> None:
    fake_capture.script = iter([picture(1), None, None, picture(2)])
    source = camera_frames(0, patience_s=5)
    assert [int(next(source).image[0, 0, 0]) for _ in range(2)] == [1, 2]
    assert len(fake_capture.opened) == 3


def test_an_unplugged_camera_is_an_error_when_patience_ends(fake_capture: type[FakeCapture]) -> None:
    fake_capture.script = iter([picture(1)])
    source = camera_frames(0, patience_s=0.05)
    next(source)
    with pytest.raises(SourceError, match=r"Camera 0 gave no frame for 0.05 s: it was unplugged, switched off"):
        next(source)


def test_a_camera_that_is_not_there(fake_capture: type[FakeCapture], monkeypatch: pytest.MonkeyPatch) -> None:
    fake_capture.opens = False
    with pytest.raises(SourceError, match=r"Camera 3 cannot be opened. Check that it is there"):
        open_source("camera:3")
    with pytest.raises(SourceError, match=r"Stream rtsp://host/live cannot be opened") as caught:
        open_source("rtsp://me:secret@host/live")
    assert "secret" not in str(caught.value)
    # Network streams are opened with limits on how long they may block.
    assert fake_capture.opened[-1][2] == [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000,
    ]  # fmt: skip
    monkeypatch.setattr(cv2.videoio_registry, "getStreamBackends", list)
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source("rtsp://host/live")
    assert fake_capture.opened[-1] == ("rtsp://host/live",)
    with pytest.raises(InputError, match=r"number from 0 on, or an address, got -1"):
        camera_frames(-1)


class FakePicamera:
    def __init__(self, pixel_format: str, array: np.ndarray) -> None:
        self.pixel_format, self.array, self.left = pixel_format, array, 2

    def camera_configuration(self) -> dict[str, Any]:
        return {"main": {"format": self.pixel_format}}

    def capture_array(self) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("camera frontend has timed out")
        return self.array


RGB = np.dstack([np.full((48, 64), value, np.uint8) for value in (200, 100, 50)])


@pytest.mark.parametrize(
    ("pixel_format", "array"),
    [
        ("RGB888", RGB[..., ::-1]),
        ("BGR888", RGB),
        ("XRGB8888", np.dstack([RGB[..., ::-1], RGB[..., 0]])),
        ("XBGR8888", np.dstack([RGB, RGB[..., 0]])),
        ("YUV420", cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420)),
    ],
)
def test_picamera_formats_become_bgr(pixel_format: str, array: np.ndarray) -> None:
    source = open_source(FakePicamera(pixel_format, array))
    assert source.live
    image = next(source).image
    assert image.shape == (48, 64, 3)
    np.testing.assert_allclose(image[0, 0].astype(int), [50, 100, 200], atol=3)


def test_picameras_that_fail_or_give_something_else() -> None:
    source = open_source(FakePicamera("RGB888", RGB))
    next(source), next(source)
    with pytest.raises(SourceError, match=r"stopped after 2 frames: RuntimeError: camera frontend has timed out"):
        next(source)
    with pytest.raises(InputError, match=r"format must be one of RGB888, .* got 'SRGGB10'"):
        open_source(FakePicamera("SRGGB10", RGB))
