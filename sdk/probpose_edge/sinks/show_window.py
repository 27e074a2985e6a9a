"""Show pictures in a window, where there is a display."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any

import cv2
from numpy.typing import NDArray

from probpose_edge.exceptions import RuntimeUnavailableError
from probpose_edge.images import to_bgr

_CLOSING_KEYS = (27, ord("q"))


class LiveWindow:
    """A window that shows one picture after another; a context manager.

    Use it from the main thread: some systems demand that. Raises `RuntimeUnavailableError` if there is no display, or
    if the OpenCV installed cannot open windows.
    """

    def __init__(self, title: str = "probpose-edge") -> None:
        check_display()
        self.title = title
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise _no_window(f"OpenCV {cv2.__version__} cannot open one") from error

    def show(self, image_bgr: NDArray[Any]) -> bool:
        """Show a picture; False once the user closed the window or pressed Esc or q."""
        cv2.imshow(self.title, to_bgr(image_bgr))
        key = cv2.waitKey(1) & 0xFF
        return key not in _CLOSING_KEYS and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Close the window."""
        # The user may have closed it before.
        if cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 0:
            cv2.destroyWindow(self.title)

    def __enter__(self) -> LiveWindow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_display() -> None:
    """Raise `RuntimeUnavailableError` where a window cannot be opened, before OpenCV ends the process over it."""
    if "GUI:                           NONE" in cv2.getBuildInformation():
        raise _no_window("the OpenCV installed is one without windows (opencv-python-headless)")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise _no_window("there is none here (neither DISPLAY nor WAYLAND_DISPLAY is set)")


def _no_window(reason: str) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(
        f"A live window needs a display, but {reason}. Write a video instead, or run it where there is a display, "
        "with: pip uninstall opencv-python-headless && pip install opencv-python"
    )
