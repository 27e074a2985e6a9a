"""Converters: one checkpoint to ONNX, TFLite and CoreML files that carry their own contract.

Importing this package loads nothing heavy; each name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probpose_convert.coreml_export import export_coreml
    from probpose_convert.export_config import ExportConfig
    from probpose_convert.export_result import ExportResult, Parity
    from probpose_convert.onnx_export import export_onnx
    from probpose_convert.parity import PARITY_BOUNDS, check_parity, measure_parity
    from probpose_convert.tflite_export import export_tflite

__all__ = [
    "PARITY_BOUNDS",
    "ExportConfig",
    "ExportResult",
    "Parity",
    "check_parity",
    "export_coreml",
    "export_onnx",
    "export_tflite",
    "measure_parity",
]

_HOME = {
    "PARITY_BOUNDS": "parity",
    "ExportConfig": "export_config",
    "ExportResult": "export_result",
    "Parity": "export_result",
    "check_parity": "parity",
    "export_coreml": "coreml_export",
    "export_onnx": "onnx_export",
    "export_tflite": "tflite_export",
    "measure_parity": "parity",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
