"""Open .onnx files with onnxruntime, of whatever network."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from probpose_edge.exceptions import ModelFileError
from probpose_edge.runtimes.native_session import NativeSession, same_file

Providers = Sequence[str | tuple[str, dict[str, Any]]]
"""Execution providers, best first, as onnxruntime takes them."""


def open_onnx_session(
    ort: ModuleType,
    path: str | os.PathLike[str],
    *,
    threads: int | None,
    providers: Providers,
    refusal: Callable[[str], str],
) -> NativeSession:
    """A session that survives forks; a forked process opens the file again, unless it was changed.

    ort: onnxruntime. threads: within one inference; None lets onnxruntime take every core. refusal: why onnxruntime
    refused the file → the message of the `ModelFileError`.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    check_unchanged = same_file(path)

    def load() -> Any:
        check_unchanged()
        try:
            return ort.InferenceSession(os.fspath(path), options, providers=list(providers))
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelFileError(refusal(" ".join(str(error).split()))) from error

    return NativeSession(load)
