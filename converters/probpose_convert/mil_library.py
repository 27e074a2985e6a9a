"""Load and call coremltools without the chatter that it writes to the terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType

from probpose_edge.extras import import_extra


def import_coremltools(purpose: str) -> ModuleType:
    """coremltools, with the converter and its reader loaded; `purpose` starts the message if it is missing.

    Raises `MissingExtraError` or `RuntimeUnavailableError`, as `import_extra` does.
    """
    with quiet():
        library = import_extra(purpose, "coremltools", "convert")
        import_extra(purpose, "coremltools.converters.mil.frontend.milproto.load", "convert")
        # The storage reader is compiled code that coremltools only warns about when it is missing.
        import_extra(purpose, "coremltools.libmilstoragepython", "convert")
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
