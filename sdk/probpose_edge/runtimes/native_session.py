"""What a native library has opened, and what becomes of it when the process forks."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from probpose_edge.exceptions import ModelFileError
from probpose_edge.runtimes.base import closed_error

_OPEN: weakref.WeakSet[NativeSession] = weakref.WeakSet()


class NativeSession:
    """An open session of a native library, which may be used from several threads and after a fork.

    A forked process has none of its parent's threads: a session that was open before may wait for them, may refuse to
    run because the parent was in the middle of a run (LiteRT 2.3), and crashes when it is freed (ONNX Runtime 1.31 and
    LiteRT, with two threads or more). So a forked process leaves it where it is, unfreed, and opens one of its own when
    it needs one.

    load: opens a session; called at once, and again in a forked process, where its errors are those of `get`.
    """

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self._native: Any = load()
        self._closed = False
        self._lock = threading.Lock()
        _OPEN.add(self)

    def get(self) -> Any:
        """The session, for calls that may run side by side; raises `InputError` once it was closed."""
        native = self._native
        if native is not None:
            return native
        with self._lock:
            return self._get()

    @contextmanager
    def alone(self) -> Iterator[Any]:
        """The session, for one thread at a time; raises `InputError` once it was closed."""
        with self._lock:
            yield self._get()

    def close(self) -> None:
        """Let go of the session, which ends with the last call that uses it."""
        self._closed, self._native = True, None

    def _get(self) -> Any:
        if self._closed:
            raise closed_error()
        if self._native is None:
            self._native = self._load()
        return self._native

    def leave(self) -> None:
        """In a forked process: never free the session of the parent, and forget it."""
        if self._native is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._native))
            self._native = None
        # Another thread of the parent may have held it.
        self._lock = threading.Lock()


def same_file(path: str | os.PathLike[str]) -> Callable[[], None]:
    """A check that the file is the one that was opened first; it raises `ModelFileError` if it was changed."""
    before = _stamp(path)

    def check() -> None:
        if _stamp(path) != before:
            raise ModelFileError(
                f"A forked process opens its models again, but {os.fspath(path)} was replaced or removed since it was "
                "opened. Open the new file in this process, with PoseEstimator.open for example."
            )

    return check


def _stamp(path: str | os.PathLike[str]) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _leave_all() -> None:
    for session in list(_OPEN):
        session.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
