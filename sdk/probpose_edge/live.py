"""Live mode: capture, inference and what is done with the result run side by side, always on the newest frame."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from probpose_edge.exceptions import InputError, SourceError
from probpose_edge.sources.frames import Frame, FrameSource
from probpose_edge.sources.open_source import open_source

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveResult(Generic[T]):
    """What became of one frame.

    Attributes
    ----------
    frame: the frame.
    result: what `process` returned for it.
    latency_s: from the capture of the frame to the end of its processing.
    dropped: frames that were left out since the result before, because newer ones had come.
    """

    frame: Frame
    result: T
    latency_s: float
    dropped: int


class LiveStream(Generic[T]):
    """Results for the newest frames of a source; an iterator and a context manager.

    One thread captures, a second one processes, and the caller draws or reacts meanwhile. Of a live source only the
    newest frame waits: where processing is slower than the camera, frames are dropped and counted, and a result is at
    most as old as the interval of the camera, one processing and what the caller does between two results together.
    Results are never dropped: while the caller is busy one of them waits, and no other frame is processed. A source
    that is not live (a video file) waits instead of dropping frames.

    Parameters
    ----------
    source: what `open_source` takes, or an open `FrameSource`; it is closed at the end.
    process: called with every chosen `Frame`, in one thread of its own: a tracker for example,
        ``lambda frame: tracker(frame.image, time_s=frame.time_s)``. One estimator per stream.
    patience_s: a live source that neither gives a frame nor fails for so long, because its driver does not return, is
        a `SourceError`; `math.inf` waits for ever. Cameras and streams that OpenCV opens have a patience of their own.

    A stream works in the process that opened it: in one forked off later it is an `InputError`. Errors of the camera
    and of `process` are raised where the results are taken, after the last result before them.
    Close the stream, best by a ``with`` block: its threads run until then.
    """

    def __init__(self, source: Any, process: Callable[[Frame], T], *, patience_s: float = 60.0) -> None:
        if not patience_s > 0:
            raise InputError(f"patience_s must be a time above 0, in seconds, got {patience_s!r}. Pass for example 60.")
        if not callable(process):
            raise InputError(f"process must be called with every frame, got {type(process).__name__}. Pass a function.")
        self._source: FrameSource = open_source(source)
        self._process = process
        self._patience_s = patience_s if self._source.live else math.inf
        self._process_id = os.getpid()
        self._changed = threading.Condition()
        self._waiting: tuple[Frame, float] | None = None
        self._result: LiveResult[T] | None = None
        self._captured = self._dropped = self._processed = 0
        self._capture_ended = self._process_ended = self._stopping = self._working = False
        self._heard_s = time.monotonic()
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=work, name=f"probpose-{name}", daemon=True)
            for name, work in (("capture", self._in_capture_thread), ("process", self._in_process_thread))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def name(self) -> str:
        """What a person calls the source."""
        return self._source.name

    @property
    def captured(self) -> int:
        """Frames that came so far."""
        return self._captured

    @property
    def dropped(self) -> int:
        """Frames that were left out because newer ones had come."""
        return self._dropped

    @property
    def processed(self) -> int:
        """Frames that were processed."""
        return self._processed

    def __iter__(self) -> LiveStream[T]:
        return self

    def __next__(self) -> LiveResult[T]:
        """The next result; waits for it. Ends when the source ends or `stop` was called; raises their errors."""
        if self._is_forked():
            raise InputError(
                f"This live stream runs in process {self._process_id}, and this is process {os.getpid()}, forked from "
                "it, which has none of its threads. Open a stream in the process that takes its results."
            )
        with self._changed:
            # A limit on each wait: without it, Ctrl-C is not seen on some systems.
            while self._result is None and not self._finished():
                self._changed.wait(min(0.5, self._patience_s))
                self._check_patience()
            result, self._result = self._result, None
            self._changed.notify_all()
            if result is not None and not self._stopping:
                return result
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def run(self, callback: Callable[[LiveResult[T]], bool | None]) -> None:
        """Call back with every result, in this thread, until the source ends, `stop` is called, or it returns False."""
        for result in self:
            if callback(result) is False:
                self.stop()

    def stop(self) -> None:
        """Ask both threads to end; from any thread, also from a callback. Iteration then ends."""
        if self._is_forked():
            return
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Stop, and wait for the threads to release the source.

        Returns False if they have not ended after `timeout_s`, because the camera's driver or `process` does not
        return. They end as soon as it does, and never keep the program from exiting.
        """
        if self._is_forked():
            return True
        self.stop()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def __enter__(self) -> LiveStream[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_forked(self) -> bool:
        """Whether this is another process, in which the lock may be held for ever."""
        return os.getpid() != self._process_id

    def _check_patience(self) -> None:
        """Raise `SourceError` if the source has kept silent for too long, while nothing was processed."""
        silent = self._result is None and self._waiting is None and not self._working and not self._finished()
        if silent and time.monotonic() - self._heard_s > self._patience_s:
            self._stopping = True
            self._changed.notify_all()
            raise SourceError(
                f"{self.name} gave no frame and no error for {self._patience_s:g} s: its driver does not return. "
                "Connect it again and start anew; a longer patience_s waits longer."
            )

    def _finished(self) -> bool:
        """Whether no further frame will be processed."""
        return self._stopping or self._process_ended

    def _in_capture_thread(self) -> None:
        try:
            self._capture()
        except BaseException as error:  # every error is the caller's: it is raised there
            self._keep(error)
        finally:
            with self._changed:
                self._capture_ended = True
                self._changed.notify_all()

    def _in_process_thread(self) -> None:
        try:
            self._process_newest()
        except BaseException as error:  # as above
            self._keep(error)
        finally:
            with self._changed:
                self._process_ended = True
                self._changed.notify_all()

    def _keep(self, error: BaseException) -> None:
        with self._changed:
            if not self._stopping:
                self._error = self._error or error

    def _capture(self) -> None:
        # The thread that reads also closes: drivers do not take it well when a camera is closed during a read.
        with self._source as source:
            for frame in source:
                captured_s = time.monotonic()
                with self._changed:
                    while self._waiting is not None and not source.live and not self._finished():
                        self._changed.wait(0.5)
                    if self._finished():
                        return
                    self._captured += 1
                    self._heard_s = captured_s
                    self._dropped += self._waiting is not None
                    self._waiting = (frame, captured_s)
                    self._changed.notify_all()

    def _process_newest(self) -> None:
        reported = 0
        while True:
            with self._changed:
                # A frame is chosen once the caller has taken the last result: it is then the newest.
                while not self._stopping and (
                    self._result is not None or (self._waiting is None and not self._capture_ended)
                ):
                    self._changed.wait(0.5)
                if self._stopping or self._waiting is None:
                    return
                (frame, captured_s), self._waiting = self._waiting, None
                dropped, reported = self._dropped - reported, self._dropped
                self._working = True
                self._changed.notify_all()
            result = self._process(frame)
            latency_s = time.monotonic() - captured_s
            with self._changed:
                self._processed += 1
                self._working = False
                self._heard_s = time.monotonic()
                self._result = LiveResult(frame=frame, result=result, latency_s=latency_s, dropped=dropped)
                self._changed.notify_all()
