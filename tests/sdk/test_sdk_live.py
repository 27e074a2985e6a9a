from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from probpose_edge import (
    Frame,
    FrameSource,
    InputError,
    LiveResult,
    LiveStream,
    ModelContract,
    PoseEstimator,
    PoseTracker,
    SourceError,
)


class FakeCamera:
    """A live source at a steady rate; the first pixel of a frame is its number."""

    def __init__(self, count: int = 10_000, interval_s: float = 0.005, error: Exception | None = None) -> None:
        self.count, self.interval_s, self.error = count, interval_s, error
        self.closed_in = ""
        self.given = 0

    def source(self, live: bool = True) -> FrameSource:
        return FrameSource(self.frames(), name="fake camera", live=live, close=self.close)

    def frames(self) -> Iterator[Frame]:
        for index in range(self.count):
            time.sleep(self.interval_s)
            self.given += 1
            yield Frame(image=np.full((48, 64, 3), index % 256, np.uint8), index=index, time_s=0.0, name=f"#{index}")
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed_in = threading.current_thread().name


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("probpose-")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert threads() == []
    yield
    assert threads() == []


def slow(frame: Frame) -> int:
    time.sleep(0.01)
    return frame.index


class SteppedCamera:
    """A live source that gives frames when it is told to."""

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.closed_in = ""

    def source(self) -> FrameSource:
        return FrameSource(self.frames(), name="stepped camera", live=True, close=self.close)

    def frames(self) -> Iterator[Frame]:
        for index in itertools.count():
            self.allowed.acquire()
            yield Frame(image=np.zeros((48, 64, 3), np.uint8), index=index, time_s=0.0, name=f"#{index}")

    def close(self) -> None:
        self.closed_in = threading.current_thread().name

    def give(self, live: LiveStream[Any], count: int) -> None:
        """Give frames and wait until they were captured."""
        wanted = live.captured + count
        self.allowed.release(count)
        until(lambda: live.captured == wanted)


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_slow_network_works_on_the_newest_frame_and_counts_the_dropped() -> None:
    camera, started, go_on = SteppedCamera(), threading.Semaphore(0), threading.Semaphore(0)

    def process(frame: Frame) -> int:
        started.release()
        go_on.acquire()
        return frame.index

    with LiveStream(camera.source(), process) as live:
        assert live.name == "stepped camera"
        camera.give(live, 1)
        started.acquire()  # busy with frame 0 while five others come
        camera.give(live, 5)
        go_on.release(2)
        first, second = next(live), next(live)
        assert [(r.result, r.frame.index, r.dropped) for r in (first, second)] == [(0, 0, 0), (5, 5, 4)]
        assert (live.captured, live.dropped, live.processed) == (6, 4, 2)
        assert 0 <= second.latency_s < 60
        live.stop()
        camera.allowed.release()  # a camera gives its next frame some time
    assert camera.closed_in == "probpose-capture"


def test_a_slow_caller_gets_every_result_and_then_the_newest_frame() -> None:
    camera = SteppedCamera()
    with LiveStream(camera.source(), lambda frame: frame.index) as live:
        camera.give(live, 1)
        until(lambda: live.processed == 1)
        camera.give(live, 4)
        assert live.processed == 1  # one result waits; nothing is computed that would be old when it is taken
        assert next(live).result == 0
        late = next(live)
        assert (late.result, late.dropped) == (4, 3)
        live.stop()
        camera.allowed.release()


def test_capture_and_processing_overlap_with_the_caller() -> None:
    active, most = set(), 0
    lock = threading.Lock()

    def busy(stage: str) -> None:
        nonlocal most
        with lock:
            active.add(stage)
            most = max(most, len(active))
        time.sleep(0.02)
        with lock:
            active.discard(stage)

    def frames() -> Iterator[Frame]:
        for frame in FakeCamera(count=25, interval_s=0).frames():
            busy("capture")
            yield frame

    with LiveStream(FrameSource(frames(), name="file"), lambda frame: busy("process")) as live:
        count = sum(1 for _ in live if busy("caller") is None)
    assert count == 25
    assert most == 3


def test_a_file_waits_instead_of_dropping() -> None:
    images = [np.full((48, 64, 3), value, np.uint8) for value in range(20)]
    with LiveStream(images, slow) as live:
        assert [result.result for result in live] == list(range(20))
        assert (live.captured, live.dropped, live.processed) == (20, 0, 20)
        assert list(live) == []


def test_callbacks_run_until_one_returns_false_or_stops() -> None:
    seen: list[int] = []

    def look(result: LiveResult[int]) -> bool | None:
        seen.append(result.result)
        return False if len(seen) == 3 else None

    with LiveStream(FakeCamera().source(), slow) as live:
        live.run(look)
    assert len(seen) == 3
    with LiveStream(FakeCamera().source(), slow) as live:
        threading.Timer(0.1, live.stop).start()
        live.run(lambda result: None)
        assert live.close()
        assert live.close()


def test_an_error_of_the_camera_reaches_the_caller_after_the_last_result() -> None:
    camera = FakeCamera(count=3, error=SourceError("Camera 0 gave no frame for 10 s"))
    indices = []
    with LiveStream(camera.source(), lambda frame: frame.index) as live:
        with pytest.raises(SourceError, match="gave no frame for 10 s"):
            for result in live:
                indices.append(result.result)
        assert list(live) == []
    assert indices[-1] == 2


def test_an_error_of_the_processing_reaches_the_caller_and_stops_the_camera() -> None:
    camera = FakeCamera()

    def fail(frame: Frame) -> int:
        if frame.index > 2:
            raise ValueError("no such keypoint")
        return frame.index

    with LiveStream(camera.source(), fail) as live, pytest.raises(ValueError, match="no such keypoint"):
        for _ in live:
            pass
    given = camera.given
    time.sleep(0.05)
    assert camera.given <= given + 1
    assert camera.closed_in


def test_a_camera_that_hangs_does_not_hang_the_program() -> None:
    release = threading.Event()

    def frames() -> Iterator[Frame]:
        yield from FakeCamera(count=1).frames()
        release.wait()

    live = LiveStream(FrameSource(frames(), name="hanging", live=True), lambda frame: frame.index)
    assert next(live).result == 0
    started = time.monotonic()
    assert not live.close(timeout_s=0.1)
    assert time.monotonic() - started < 1
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("probpose-"))
    release.set()
    assert live.close()


def test_a_driver_that_does_not_return_is_said_after_a_while() -> None:
    release = threading.Event()

    def frames() -> Iterator[Frame]:
        yield from FakeCamera(count=2).frames()
        release.wait()

    hanging = FrameSource(frames(), name="hanging", live=True)
    with LiveStream(hanging, lambda frame: time.sleep(0.3), patience_s=0.2) as live:
        with pytest.raises(SourceError, match=r"hanging gave no frame and no error for 0.2 s: its driver does not re"):
            for result in live:  # processing that takes longer than the patience is not the camera's fault
                assert result.frame.index < 2
        assert live.processed >= 1
        assert list(live) == []
        release.set()
    with pytest.raises(InputError, match="patience_s must be a time above 0, in seconds, got nan"):
        LiveStream([], slow, patience_s=float("nan"))


def test_nothing_to_process_and_no_process() -> None:
    with LiveStream([], slow) as live:
        assert list(live) == []
    with pytest.raises(InputError, match="process must be called with every frame, got int"):
        LiveStream([], 3)  # type: ignore[arg-type]


def test_two_trackers_in_two_streams(contract: ModelContract, fake_runtime: Callable[..., Any]) -> None:
    streams = []
    for _ in range(2):
        estimator = PoseEstimator(fake_runtime(), contract)
        tracker = PoseTracker(estimator, lambda image: ([[5, 5, 40, 45]], [0.9]))
        streams.append(
            LiveStream(FakeCamera(count=20).source(live=False), lambda frame, tracker=tracker: tracker(frame.image))
        )
    for live in streams:
        with live:
            results = list(live)
        assert len(results) == 20
        assert len(results[-1].result.poses) in (0, 1)
