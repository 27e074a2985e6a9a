"""Open a model file with the runtime of its format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from probpose_edge.contract.read_contract import model_format
from probpose_edge.exceptions import InputError
from probpose_edge.runtimes.base import Runtime


def open_runtime(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    providers: Sequence[str | tuple[str, dict[str, Any]]] | None = None,
) -> Runtime:
    """A runtime for a .onnx (onnxruntime), .tflite (LiteRT) or .mlpackage (CoreML, macOS only) file.

    threads: threads for one inference, for .onnx and .tflite; None is the runtime's own default.
    providers: onnxruntime execution providers, best first, for .onnx only; None is the CPU.

    Raises `ModelFileError`, `MissingExtraError`, `RuntimeUnavailableError`, or `InputError` for other arguments.
    """
    kind = model_format(path)
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads must be a whole number of at least 1, or None, got {threads!r}.")
    if providers is not None and kind != "onnx":
        raise InputError(f"providers are for .onnx files only, got {list(providers)} with {path}. Leave them out.")
    if kind == "onnx":
        from probpose_edge.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, threads=threads, providers=providers)
    if kind == "tflite":
        from probpose_edge.runtimes.litert import LiteRTRuntime

        return LiteRTRuntime(path, threads=threads)
    if threads is not None:
        raise InputError(f"CoreML chooses its threads itself, got threads={threads} with {path}. Leave them out.")
    from probpose_edge.runtimes.coreml import CoreMLRuntime

    return CoreMLRuntime(path)
