"""Load and call coremltools without the chatter that it writes to the terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

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
    """Keep progress bars, warnings and log messages from the terminal; errors pass through."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
