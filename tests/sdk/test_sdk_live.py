from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
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
    time.sleep(0.03)
    return frame.index


def test_a_slow_network_works_on_the_newest_frame_and_counts_the_dropped() -> None:
    camera = FakeCamera()
    results: list[LiveResult[int]] = []
    with LiveStream(camera.source(), slow) as live:
        assert live.name == "fake camera"
        for result in live:
            results.append(result)
            if len(results) == 12:
                break
    assert camera.closed_in == "probpose-capture"
    numbers = [result.frame.index for result in results]
    assert numbers == [result.result for result in results]
    assert all(b > a for a, b in pairwise(numbers))
    assert numbers[-1] > 24  # 12 results of a queue would be the frames 0 to 11
    assert sum(result.dropped for result in results) == numbers[-1] + 1 - len(results)
    assert live.dropped >= numbers[-1] + 1 - len(results)
    assert live.captured >= live.dropped + live.processed
    # One interval and one processing, with room for a busy machine.
    assert np.median([result.latency_s for result in results]) < 0.08


def test_a_slow_caller_gets_every_result_and_new_ones() -> None:
    camera = FakeCamera()
    taken = []
    with LiveStream(camera.source(), lambda frame: time.monotonic()) as live:
        for result in live:
            time.sleep(0.05)
            taken.append((result.frame.index, camera.given))
            if len(taken) == 6:
                break
    assert live.processed <= 8
    # Each result is at most two turns of the caller behind the camera, however long it runs.
    assert all(given - index < 40 for index, given in taken)


def test_capture_and_processing_overlap_with_the_caller() -> None:
    """Three stages of 20 ms each on 15 frames: one after another they would take 0.9 s."""
    camera = FakeCamera(count=15, interval_s=0.02)
    started = time.monotonic()
    with LiveStream(camera.source(live=False), lambda frame: time.sleep(0.02)) as live:
        count = sum(1 for _ in live if time.sleep(0.02) is None)
    assert count == 15
    assert time.monotonic() - started < 0.75


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
