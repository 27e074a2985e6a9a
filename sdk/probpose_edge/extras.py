"""Import optional libraries, with errors that say what to install."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

from probpose_edge.exceptions import MissingExtraError, RuntimeUnavailableError

_BEFORE_IMPORT = {"onnxruntime": ("ORT_DISABLE_TELEMETRY", "1")}
"""Module → variable of the environment, set before the import unless it is set. ONNX Runtime's wheels (1.31) report its
use to its maker over the network: the import starts a thread and opens a database in the user's folder, and a process
that is forked afterwards hangs at its end."""


def import_extra(purpose: str, module: str, extra: str) -> ModuleType:
    """Import `module`, which the extra `extra` installs, for `purpose` (a phrase that starts the message).

    Raises `MissingExtraError` if it is not installed, `RuntimeUnavailableError` if it is but does not load.
    """
    if module in _BEFORE_IMPORT:
        os.environ.setdefault(*_BEFORE_IMPORT[module])
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and module.split(".")[0] == error.name.split(".")[0]:
            raise MissingExtraError(purpose, module.split(".")[0], extra) from error
        raise _broken(purpose, module, extra, error) from error
    except (ImportError, OSError) as error:
        raise _broken(purpose, module, extra, error) from error


def _broken(purpose: str, module: str, extra: str, error: Exception) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(
        f'{purpose} needs the package "{module.split(".")[0]}", which is installed but does not load here: {error}. '
        f'Reinstall it with: pip install --force-reinstall "probpose-edge[{extra}]"'
    )
