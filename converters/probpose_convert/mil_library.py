"""Load and call coremltools without the chatter that it writes to the terminal."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from probpose_convert.quiet import quiet_libraries
from probpose_edge.exceptions import RuntimeUnavailableError
from probpose_edge.extras import import_extra


def import_coremltools(purpose: str) -> ModuleType:
    """coremltools, with the converter and its reader loaded; `purpose` starts the message if it is missing.

    Raises `MissingExtraError`, or `RuntimeUnavailableError` where coremltools comes without its compiled parts.
    """
    with quiet():
        library = import_extra(purpose, "coremltools", "convert")
        import_extra(purpose, "coremltools.converters.mil.frontend.milproto.load", "convert")
        try:
            import_module("coremltools.libmilstoragepython")
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"{purpose} needs the compiled part of coremltools that stores weights, and coremltools "
                f"{library.__version__} has none for {sys.platform}. Use Linux or macOS and a Python version that "
                "coremltools has a wheel for."
            ) from error
    return library


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """`quiet_libraries`, and no progress bars either: coremltools draws them on stderr."""
    with quiet_libraries(), contextlib.redirect_stderr(io.StringIO()):
        yield
