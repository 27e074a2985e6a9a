from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from probpose_edge import Frame, FrameSource, InputError, SourceError, VideoFile
from probpose_eval.synth.clip import DrawnFrame, draw_clip

Cli = Callable[..., Any]
FRAMES = 14


@pytest.fixture(scope="module")
def clip() -> list[DrawnFrame]:
    paths = [np.stack([np.linspace(a, b, FRAMES), np.full(FRAMES, 92.0)], axis=1) for a, b in ((55, 95), (190, 170))]
    return list(draw_clip(np.random.default_rng(5), paths, [120, 120], width=240, height=180))


@pytest.fixture(scope="module")
def video(clip: list[DrawnFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "walk.avi"
    with VideoFile(path, fps=25) as file:
        for frame in clip:
            file.write(frame.image)
    return path


@pytest.fixture
def known_boxes(clip: list[DrawnFrame], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """In place of a detector file: the true boxes of the first frame, in which every call finds both persons."""
    opened: list[dict[str, Any]] = []

    class Known:
        def __init__(self, path: Path, **settings: Any) -> None:
            opened.append({"path": path, **settings})

        def __enter__(self) -> Known:
            return self

        def __exit__(self, *_: object) -> None:
            opened.append({"closed": True})

        def __call__(self, image: np.ndarray) -> tuple[Any, Any]:
            return clip[0].boxes, [0.9, 0.8]

    monkeypatch.setattr("probpose_cli.predict.OnnxDetector", Known)
    return opened


def size_and_count(path: Path) -> tuple[int, int, int]:
    capture = cv2.VideoCapture(str(path))
    count = 0
    shape = (0, 0)
    while (read := capture.read())[0]:
        count, shape = count + 1, read[1].shape[:2]
    return shape[1], shape[0], count


def test_a_video_gives_a_video_identities_and_lines(
    cli: Cli, video: Path, tmp_path: Path, known_boxes: list[dict[str, Any]]
) -> None:
    done = cli(
        "predict", video, "--detector", "yolox.onnx", "--detector-score", 0.5, "--out", tmp_path / "o", "--jsonl",
        tmp_path / "p.jsonl", "--threads", 1,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert f"{video}: 14 frames, 2 persons" in done.out
    assert f"28 poses of 14 frames in {tmp_path / 'o'}" in done.out
    assert known_boxes == [{"path": Path("yolox.onnx"), "min_score": 0.5, "threads": 1}, {"closed": True}]
    assert size_and_count(tmp_path / "o" / "walk.mp4") == (240, 180, FRAMES)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert all([person["id"] for person in line["persons"]] == [1, 2] for line in lines)
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    assert [r["track_id"] for r in results] == [1, 2] * FRAMES
    assert results[-1]["image_id"] == results[-1]["frame"] == FRAMES - 1


def test_pictures_with_a_detector_give_everybody_and_bad_boxes_are_said(
    cli: Cli, clip: list[DrawnFrame], tmp_path: Path, known_boxes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), clip[0].image)
    done = cli("predict", tmp_path / "a.png", "--detector", "yolox.onnx", "--json", "--out", tmp_path / "o")
    assert [r["bbox"][:2] for r in json.loads(done.out)] == clip[0].boxes[:, :2].tolist()
    assert done.err == ""
    boxes = np.concatenate([np.full((3, 4), np.nan), clip[0].boxes])
    monkeypatch.setattr("probpose_cli.predict.OnnxDetector.__call__", lambda *_: (boxes, np.full(5, 0.9)))
    for more in ((), ("--track",)):
        done = cli("predict", tmp_path / "a.png", "--detector", "yolox.onnx", *more, "--out", tmp_path / "o")
        assert done.code == 0
        assert "2 poses of 1 frames" in done.out
        assert "3 boxes of the detector were left out: not finite" in done.err
    monkeypatch.setattr("probpose_cli.predict.OnnxDetector.__call__", lambda *_: ([], []))
    done = cli("predict", tmp_path / "a.png", "--detector", "yolox.onnx", "--out", tmp_path / "o")
    assert f"{tmp_path / 'a.png'}: nobody" in done.out


@pytest.mark.shared
def test_a_detector_file_finds_several_persons_on_a_photograph(cli: Cli, shared: Path, tmp_path: Path) -> None:
    data = json.loads((shared / "data/coco/person_keypoints_train.json").read_text())
    large = [a["image_id"] for a in data["annotations"] if a["area"] > 96**2 and not a["iscrowd"]]
    image = next(image for image in data["images"] if large.count(image["id"]) >= 2)
    done = cli(
        "predict", shared / "data/coco/images" / image["file_name"], "--no-draw", "--json", "--out", tmp_path,
        "--detector", shared / "models/yolox_nano.onnx",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(json.loads(done.out)) >= 2


def test_maps_of_a_video_have_room_beyond_the_border(cli: Cli, video: Path, tmp_path: Path) -> None:
    done = cli("predict", video, "--draw-maps", "--frames", 3, "--out", tmp_path, "--box", "20,20,110,170")
    assert done.code == 0, done.err
    assert size_and_count(tmp_path / "walk.mp4") == (240 + 120, 180 + 120, 3)


def test_boxes_by_hand_are_followed_or_taken_in_every_frame(cli: Cli, video: Path, tmp_path: Path) -> None:
    boxes = ("--box", "20,20,110,170", "--box", "150,20,230,170")
    done = cli("predict", video, *boxes, "--no-draw", "--json", "--frames", 4, "--out", tmp_path)
    results = json.loads(done.out)
    assert [r["track_id"] for r in results] == [1, 2] * 4
    assert len({tuple(r["bbox"]) for r in results}) > 2
    done = cli("predict", video, *boxes, "--no-draw", "--no-track", "--json", "--frames", 4, "--out", tmp_path)
    results = json.loads(done.out)
    assert {tuple(r["bbox"]) for r in results} == {(20, 20, 90, 150), (150, 20, 80, 150)}
    assert "track_id" not in results[0]


def test_json_lines_to_standard_output_and_nothing_else(cli: Cli, video: Path, tmp_path: Path) -> None:
    done = cli("predict", video, "--no-draw", "--jsonl", "-", "--frames", 2, "--out", tmp_path)
    assert [json.loads(line)["frame"] for line in done.out.splitlines()] == [0, 1]


def test_a_broken_tail_keeps_what_was_read_and_fails(cli: Cli, video: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cut.avi"
    content = video.read_bytes()
    broken.write_bytes(content[: len(content) * 6 // 10])
    done = cli("predict", broken, video, "--frames", 12, "--out", tmp_path / "o")
    assert done.code == 2
    assert "announces 14 frames, but only" in done.err
    assert "Traceback" not in done.err
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    assert {r["file_name"] for r in results} == {"cut.avi", "walk.avi"}
    assert 5 < size_and_count(tmp_path / "o" / "cut.mp4")[2] < 12
    assert size_and_count(tmp_path / "o" / "walk.mp4")[2] == 12


def test_videos_that_cannot_be_read_or_would_be_replaced(cli: Cli, video: Path, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    for name, text in (("no.mp4", "must be one that OpenCV can decode"), ("none.mp4", "There is no video")):
        done = cli("predict", tmp_path / name, "--out", tmp_path / "o")
        assert (done.code, text in done.err) == (2, True)
        assert list((tmp_path / "o").iterdir()) == []
    own = tmp_path / "own.mp4"
    own.write_bytes(video.read_bytes())
    done = cli("predict", own, "--out", tmp_path)
    assert (done.code, f"drawing of {own} would replace it. Choose another folder" in done.err) == (2, True)
    assert own.read_bytes() == video.read_bytes()


def test_pictures_of_a_pattern_can_be_followed_too(cli: Cli, clip: list[DrawnFrame], tmp_path: Path) -> None:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), clip[index].image)
    done = cli("predict", tmp_path / "*.png", "--track", "--box", "20,20,110,170", "--json", "--out", tmp_path / "o")
    results = json.loads(done.out)
    assert [(r["file_name"], r["track_id"]) for r in results] == [("0.png", 1), ("1.png", 1), ("2.png", 1)]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["0.png", "1.png", "2.png"]
    done = cli("predict", tmp_path / "*.jpg", "--out", tmp_path / "o")
    assert (done.code, "found none in" in done.err) == (2, True)


@pytest.fixture
def camera(clip: list[DrawnFrame], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """In place of camera 0: the clip over and over, or until an error that is put into the list."""
    errors: list[Any] = []

    def frames() -> Iterator[Frame]:
        started = time.monotonic()
        for index in itertools.count():
            if errors and index > 5:
                raise errors[0]
            time.sleep(0.005)
            image = clip[index % FRAMES].image
            yield Frame(image=image, index=index, time_s=time.monotonic() - started, name=f"camera #{index}")

    monkeypatch.setattr(
        "probpose_cli.predict_jobs.camera_frames",
        lambda device: FrameSource(frames(), name=f"Camera {device}", fps=25.0, live=True),
    )
    return errors


def test_a_camera_runs_until_enough_frames_or_control_c(
    cli: Cli, camera: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli("predict", 0, "--frames", 4, "--out", tmp_path)
    assert done.code == 0, done.err
    assert "Camera 0: 4 frames" in done.out
    assert "left out" in done.err
    assert size_and_count(tmp_path / "camera-0.mp4")[2] >= 4
    from probpose_cli.predict_frames import Outputs

    write = Outputs.write
    counts = itertools.count()

    def interrupt(self: Outputs, *arguments: Any) -> None:
        if next(counts) == 2:
            raise KeyboardInterrupt
        write(self, *arguments)

    monkeypatch.setattr(Outputs, "write", interrupt)
    done = cli("predict", "camera:0", "--jsonl", tmp_path / "p.jsonl", "--no-draw", "--out", tmp_path)
    assert done.code == 0, done.err
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 2


def test_a_camera_that_is_unplugged_keeps_what_was_seen(cli: Cli, camera: list[Any], tmp_path: Path) -> None:
    camera.append(SourceError("Camera 0 gave no frame for 10 s: it was unplugged"))
    done = cli("predict", 0, "--out", tmp_path, "--jsonl", tmp_path / "p.jsonl")
    assert done.code == 2
    assert "error: Camera 0 gave no frame for 10 s" in done.err
    assert (tmp_path / "p.jsonl").read_text()
    assert size_and_count(tmp_path / "camera-0.mp4")[2] >= 1


def test_a_window_ends_it_and_needs_a_display(
    cli: Cli, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "GUI:                           NONE")
    done = cli("predict", video, "--show", "--out", tmp_path / "o")
    assert (done.code, "A live window needs a display" in done.err) == (2, True)
    assert not (tmp_path / "o").exists()
    shown: list[np.ndarray] = []

    class Window:
        def __enter__(self) -> Window:
            return self

        def __exit__(self, *_: object) -> None:
            shown.append(np.zeros(0))

        def show(self, image: np.ndarray) -> bool:
            shown.append(image)
            return len(shown) < 3

    monkeypatch.setattr("probpose_cli.predict.LiveWindow", Window)
    done = cli("predict", video, "--show", "--no-draw", "--out", tmp_path)
    assert f"{video}: 3 frames" in done.out
    assert [image.shape for image in shown] == [(180, 240, 3)] * 3 + [(0,)]


def test_options_that_do_not_fit(cli: Cli, camera: list[Any], video: Path, tmp_path: Path) -> None:
    assert "a camera does not. Use --jsonl -, or --frames 100" in cli("predict", 0, "--json").err
    assert "both print" in cli("predict", video, "--json", "--jsonl", "-").err
    assert "no.onnx" in cli("predict", video, "--detector", tmp_path / "no.onnx", "--out", tmp_path).err
    assert "Name some" in cli("predict", "model.onnx").err


def test_drawings_of_streams_have_names_without_passwords(tmp_path: Path) -> None:
    from probpose_cli.predict_jobs import list_jobs

    jobs = list_jobs(["rtsp://me:secret@10.0.0.2:554/live", "1", "http://host/a/clip.mp4"], tmp_path)
    assert [job.drawn[0].name for job in jobs] == ["10.0.0.2-554-live.mp4", "camera-1.mp4", "host-a-clip.mp4"]
    assert all(job.live and job.moving for job in jobs)
    (tmp_path / "a").mkdir()
    for name in ("a/x.png", "x.png", "y.mp4"):
        (tmp_path / name).touch()
    files = [str(tmp_path / name) for name in ("a/x.png", "x.png", "y.mp4", "a/x.png")]
    jobs = list_jobs(files, tmp_path / "o")
    assert [[path.name for path in job.drawn] for job in jobs] == [["x-0.png", "x-1.png"], ["y.mp4"], ["x-3.png"]]
    with pytest.raises(InputError, match=r"would replace it"):
        list_jobs([str(tmp_path / "x.png")], tmp_path)
