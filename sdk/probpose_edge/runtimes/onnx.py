"""Run .onnx files with onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError, ModelFileError
from probpose_edge.extras import import_extra
from probpose_edge.runtimes.base import (
    EXPECTED_OUTPUTS,
    RawOutputs,
    check_crops,
    outputs_from,
    outputs_of,
    run_in_parts,
)
from probpose_edge.runtimes.onnx_session import open_onnx_session

LARGEST_BATCH = 8
"""Crops in one inference at most: more take memory and no longer save time (docs/batches.md)."""


class OnnxRuntime:
    """onnxruntime on one .onnx file; satisfies `Runtime`.

    threads: threads within one inference; None lets onnxruntime take every core.
    providers: execution providers, best first, as onnxruntime takes them; None is ``["CPUExecutionProvider"]``.
        Providers that need minutes to prepare (TensorRT) are only used when they are asked for.

    The attribute `providers` names those in use, best first: onnxruntime goes on without a provider whose libraries do
    not load, and says so nowhere else. The CPU is always the last.

    Raises `MissingExtraError` without onnxruntime, `ModelFileError` for a file that it cannot load or that has other
    inputs or outputs than a probpose-edge file, `InputError` for a provider this installation does not have.
    """

    provenance = "measured"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        providers: Sequence[str | tuple[str, dict[str, Any]]] | None = None,
    ) -> None:
        ort = import_extra("Running .onnx files", "onnxruntime", "onnx")
        chosen = list(providers) if providers is not None else ["CPUExecutionProvider"]
        available = ort.get_available_providers()
        for provider in chosen:
            name = provider if isinstance(provider, str) else provider[0]
            if name not in available:
                raise InputError(
                    f"The onnxruntime installed here has the providers {', '.join(available)}, not {name}. Choose one "
                    "of them, or install the onnxruntime package that has it."
                )
        self._session = open_onnx_session(
            ort,
            path,
            threads=threads,
            providers=chosen,
            refusal=lambda reason: (
                f"onnxruntime {ort.__version__} cannot load {path}: {reason}. Copy the file again, convert the "
                "checkpoint again, or update onnxruntime."
            ),
        )
        session = self._session.get()
        self._batch, self._input_wh, self._outputs = _check_interface(path, session)
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.name = f"onnxruntime {ort.__version__} ({', '.join(self.providers)})"

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """Run (N, H, W, 3) uint8 RGB crops; N may be any number, zero included."""
        self._session.get()
        return run_in_parts(check_crops(crops, self._input_wh), self._batch, self._run)

    def _run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        values = self._session.get().run(list(self._outputs), {"image": crops})
        return outputs_from(dict(zip(self._outputs, values, strict=True)))

    def close(self) -> None:
        """Release the model; further calls to `run` are errors."""
        self._session.close()


def _check_interface(path: str | os.PathLike[str], session: Any) -> tuple[int, tuple[int, int], tuple[str, ...]]:
    """Largest batch, input size in pixels, width first, and outputs; raises `ModelFileError` for another interface."""
    inputs = [(node.name, node.type, node.shape) for node in session.get_inputs()]
    found = {node.name: node.type for node in session.get_outputs()}
    outputs = outputs_of(found)
    fits = len(inputs) == 1 and inputs[0][:2] == ("image", "tensor(uint8)") and len(inputs[0][2]) == 4
    fits = fits and all(isinstance(size, int) for size in inputs[0][2][1:]) and inputs[0][2][3] == 3
    fits = fits and (inputs[0][2][0] == 1 or not isinstance(inputs[0][2][0], int))
    if not fits or outputs is None or any(found[name] != "tensor(float)" for name in outputs):
        raise ModelFileError(
            f"A probpose-edge .onnx file has one uint8 input 'image' (1 or N, H, W, 3) and {EXPECTED_OUTPUTS}; {path} "
            f"has {inputs} and {found}. Use a file written by `probpose-edge convert`."
        )
    batch, height, width, _ = inputs[0][2]
    return (1 if batch == 1 else LARGEST_BATCH), (width, height), outputs
