from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from probpose_edge import (
    CocoResults,
    Frame,
    InputError,
    JsonLines,
    LiveWindow,
    ModelContract,
    PoseEstimator,
    Poses,
    RuntimeUnavailableError,
    SourceError,
    VideoFile,
    write_picture,
)
from probpose_edge.sinks.write_video import fit

BOXES = [[5.0, 5, 40, 45], [20, 10, 60, 40]]


def frame(index: int, wh: tuple[int, int] = (64, 48), path: Path | None = None) -> Frame:
    image = np.full((wh[1], wh[0], 3), 10 * index, np.uint8)
    return Frame(image=image, index=index, time_s=index / 20, name=f"walk #{index}", path=path)


@pytest.fixture
def poses(contract: ModelContract, fake_runtime: Callable[..., Any]) -> Poses:
    return PoseEstimator(fake_runtime(), contract)(frame(0).image, BOXES)


def test_json_lines_come_one_per_frame_and_the_file_when_it_is_complete(tmp_path: Path, poses: Poses) -> None:
    path = tmp_path / "poses.jsonl"
    with JsonLines(path) as sink:
        sink.write(frame(0, path=Path("walk.mp4")), poses, np.array([7, 8]))
        sink.write(frame(1), poses.select([]))
        assert not path.exists()
    first, second = map(json.loads, path.read_text().splitlines())
    assert list(tmp_path.iterdir()) == [path]
    assert (first["frame"], first["time_s"], first["source"], first["size"]) == (0, 0.0, "walk.mp4", [64, 48])
    assert [person["id"] for person in first["persons"]] == [7, 8]
    person = first["persons"][1]
    np.testing.assert_allclose(person["keypoints"], poses.keypoints[1], atol=0.01)
    assert person["present"] == [True, True, True, True, False]
    assert person["box"] == BOXES[1]
    assert {len(person[name]) for name in ("presence", "visibility", "quality")} == {5}
    assert (second["source"], second["persons"]) == ("walk", [])


def test_json_lines_to_a_stream_come_at_once_and_leave_it_open(poses: Poses) -> None:
    stream = io.StringIO()
    sink = JsonLines(stream)
    sink.write(frame(3), poses)
    assert json.loads(stream.getvalue())["frame"] == 3
    assert "id" not in json.loads(stream.getvalue())["persons"][0]
    sink.close()
    assert not stream.closed
    with pytest.raises(InputError, match="This result file was closed"):
        sink.write(frame(4), poses)


def test_coco_results_count_frames_and_keep_identities(tmp_path: Path, poses: Poses) -> None:
    with CocoResults(tmp_path / "results.json") as sink:
        sink.write(frame(0, path=Path("a/first.png")), poses)
        sink.write(frame(1), poses.select([]))
        sink.write(frame(2), poses.select([1]), np.array([4]))
        assert sink.count == 3
    results = json.loads((tmp_path / "results.json").read_text())
    assert [r["image_id"] for r in results] == [0, 0, 2]
    assert results[0]["file_name"] == "first.png"
    assert "frame" not in results[0]
    assert (results[2]["file_name"], results[2]["frame"], results[2]["track_id"]) == ("walk #2", 2, 4)
    with CocoResults(tmp_path / "none.json") as sink:
        pass
    assert json.loads((tmp_path / "none.json").read_text()) == []
    with CocoResults(tmp_path / "own.json", image_id_of=lambda f: 100 + f.index) as sink:
        sink.write(frame(5), poses)
    assert json.loads((tmp_path / "own.json").read_text())[0]["image_id"] == 105


@pytest.mark.parametrize("make", [JsonLines, CocoResults, VideoFile])
def test_an_error_leaves_nothing_half_written(tmp_path: Path, poses: Poses, make: Callable[[Path], Any]) -> None:
    def fail() -> None:
        with make(tmp_path / "x.mp4") as sink:
            sink.write(frame(1).image) if make is VideoFile else sink.write(frame(1), poses)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_videos_take_frames_that_change_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoFile(path, fps=20) as video:
        for index in range(8):
            video.write(frame(10 + index, (64, 48) if index < 5 else (40, 80)).image)
        assert not path.exists()
    video.close()
    capture = cv2.VideoCapture(str(path))
    images = [capture.read()[1] for _ in range(8)]
    assert not capture.read()[0]
    assert {image.shape for image in images} == {(48, 64, 3)}
    assert abs(int(images[2].mean()) - 120) < 6
    assert images[7][24, 3].max() < 30  # the bars beside a narrow picture
    assert images[7][24, 32].min() > 140
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_is_fitted_into_the_middle() -> None:
    assert fit(frame(0).image, (64, 48)) is not None
    canvas = fit(np.full((10, 20, 3), 9, np.uint8), (40, 40))
    assert canvas.shape == (40, 40, 3)
    np.testing.assert_array_equal(np.flatnonzero(canvas[:, 0, 0]), np.arange(10, 30))


def test_videos_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"must end in .mp4, .* got 'x.gif'"):
        VideoFile(tmp_path / "x.gif")
    with pytest.raises(InputError, match=r"fps must lie in \(0, 1000\], got -1"):
        VideoFile(tmp_path / "x.mp4", fps=-1)
    VideoFile(tmp_path / "empty.mp4").close()
    assert list(tmp_path.iterdir()) == []
    video = VideoFile(tmp_path / "full.mp4")
    video.write(frame(0).image)
    video.frames += 5  # as if the disk had taken only one of six
    with pytest.raises(SourceError, match=r"could not be written: 1 of 6 frames can be read again. Free some space"):
        video.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="was closed"):
        video.write(frame(0).image)


def test_pictures_are_written_whole_or_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", frame(3).image)
    assert cv2.imread(str(tmp_path / "a.png")).mean() == 30
    with pytest.raises(InputError, match=r"cannot write 'a.xyz' in the format '.xyz'. Use .png or .jpg"):
        write_picture(tmp_path / "a.xyz", frame(3).image)


class FakeHighGui:
    """cv2's window functions, and what they were told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[Any] = []
        self.key, self.visible = -1, 1.0
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr(cv2, "getBuildInformation", lambda: "GUI:                           QT5")
        monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "imshow", lambda _, image: self.shown.append(image))
        monkeypatch.setattr(cv2, "waitKey", lambda _: self.key)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: self.visible)
        monkeypatch.setattr(cv2, "destroyWindow", lambda _: self.shown.append("closed"))


def test_a_window_shows_pictures_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    gui = FakeHighGui(monkeypatch)
    with LiveWindow() as window:
        assert window.show(frame(1).image)
        gui.key = ord("q")
        assert not window.show(frame(2).image)
        gui.key, gui.visible = -1, 0.0
        assert not window.show(frame(3).image)
    assert len(gui.shown) == 4
    assert gui.shown[-1] == "closed"


def test_no_window_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHighGui(monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(cv2, "getBuildInformation", lambda: "GUI:                           NONE")
        with pytest.raises(RuntimeUnavailableError, match=r"needs a display, but the OpenCV installed is one without"):
            LiveWindow()
    with monkeypatch.context() as patched:
        patched.setattr("sys.platform", "linux")
        patched.delenv("DISPLAY")
        patched.delenv("WAYLAND_DISPLAY", raising=False)
        with pytest.raises(RuntimeUnavailableError, match=r"neither DISPLAY nor WAYLAND_DISPLAY is set.*Write a video"):
            LiveWindow()

    def broken(*_: Any) -> None:
        raise cv2.error("no")

    monkeypatch.setattr(cv2, "namedWindow", broken)
    with pytest.raises(RuntimeUnavailableError, match=r"OpenCV .* cannot open one"):
        LiveWindow()
