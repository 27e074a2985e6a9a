"""The model files that come with the package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from probpose_edge.exceptions import InputError, MissingExtraError, ModelFileError

_FILES = {"onnx": "probpose-m-int8.onnx", "tflite": "probpose-m-int8.tflite"}
_RUNTIMES = {"onnx": ("onnxruntime",), "tflite": ("ai_edge_litert", "tflite_runtime")}


def shipped_model(kind: str = "onnx") -> Path:
    """Path of the shipped probpose-m model in INT8; kind: ``"onnx"`` or ``"tflite"``.

    Raises `InputError` for another kind, `ModelFileError` if the file is missing from this installation.
    """
    if kind not in _FILES:
        raise InputError(
            f"Shipped models are of kind {' or '.join(map(repr, _FILES))}, got {kind!r}. Choose one of them."
        )
    path = Path(__file__).with_name(_FILES[kind])
    if not path.is_file():
        raise ModelFileError(
            f"The shipped model {path.name} is missing from this installation. Reinstall probpose-edge, or name a "
            "model file."
        )
    return path


def shipped_model_for_installed_runtime() -> Path:
    """The shipped model that an installed runtime can run, .onnx first; raises `MissingExtraError` if none can."""
    for kind, modules in _RUNTIMES.items():
        if any(find_spec(module) is not None for module in modules):
            return shipped_model(kind)
    raise MissingExtraError("Running the shipped model", "onnxruntime", "onnx")
