"""Run .tflite files with LiteRT (ai-edge-litert), or with its predecessor tflite-runtime."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import MissingExtraError, ModelFileError, RuntimeUnavailableError
from probpose_edge.extras import import_extra
from probpose_edge.runtimes.base import (
    EXPECTED_OUTPUTS,
    OUTPUT_SETS,
    RawOutputs,
    check_crops,
    outputs_from,
    outputs_of,
    run_in_parts,
)
from probpose_edge.runtimes.native_session import NativeSession

_RANKS = {"logits": 4, "expert_logits": 4, "keypoints": 3, "confidence": 3}
"""Axes of the outputs that are not scalars."""


class LiteRTRuntime:
    """LiteRT's interpreter on one .tflite file; satisfies `Runtime`.

    Crops run one by one: the graph's own shapes are for one, and LiteRT refuses to resize them. Calls from several
    threads wait for one another. The file is read into memory, not mapped: it may be replaced or cut on the disk.

    threads: threads within one inference; None is LiteRT's default (one).

    Raises `MissingExtraError` without a LiteRT package, `ModelFileError` for a file that it cannot load or that has
    other inputs or outputs than a probpose-edge file.
    """

    provenance = "measured"

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        module, package = _import_litert()
        content = _read(path)

        def load() -> Any:
            try:
                interpreter = module.Interpreter(model_content=content, num_threads=threads)
                interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                reason = " ".join(str(error).split())
                raise ModelFileError(
                    f"{package} cannot load {path}: {reason}. Copy the file again, convert the checkpoint again, or "
                    f"update {package}."
                ) from error
            return interpreter

        self._session = NativeSession(load)
        self._input, self._input_wh = _find_input(path, self._session.get())
        self._outputs = _find_outputs(path, self._session.get())
        self.name = f"{package} {_version(package)} (CPU)"

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """Run (N, H, W, 3) uint8 RGB crops; N may be any number, zero included."""
        self._session.get()
        return run_in_parts(check_crops(crops, self._input_wh), 1, self._run)

    def _run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        with self._session.alone() as interpreter:
            interpreter.set_tensor(self._input, crops)
            interpreter.invoke()
            return outputs_from({name: interpreter.get_tensor(index) for name, index in self._outputs.items()})

    def close(self) -> None:
        """Release the model; further calls to `run` are errors."""
        self._session.close()


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"The model {path} cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from error


def _import_litert() -> tuple[ModuleType, str]:
    """The interpreter's module and the name of its package."""
    try:
        return import_extra("Running .tflite files", "ai_edge_litert.interpreter", "tflite"), "ai-edge-litert"
    except (MissingExtraError, RuntimeUnavailableError) as error:
        try:
            return import_extra("", "tflite_runtime.interpreter", "tflite-runtime"), "tflite-runtime"
        except (MissingExtraError, RuntimeUnavailableError):
            raise error from None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(unknown version)"


def _find_input(path: str | os.PathLike[str], interpreter: Any) -> tuple[int, tuple[int, int]]:
    """Tensor index of the one input, and its size in pixels, width first."""
    details = interpreter.get_input_details()
    shape = [int(size) for size in details[0]["shape"]] if len(details) == 1 else []
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or details[0]["dtype"] != np.uint8:
        found = [(detail["name"], detail["dtype"].__name__, detail["shape"].tolist()) for detail in details]
        raise ModelFileError(
            f"A probpose-edge .tflite file has one uint8 input of shape (1, H, W, 3); {path} has {found}. Use a file "
            "written by `probpose-edge convert`."
        )
    return details[0]["index"], (shape[2], shape[1])


def _find_outputs(path: str | os.PathLike[str], interpreter: Any) -> dict[str, int]:
    """Tensor indices of the outputs: by their signature or tensor names, else by the documented order.

    A converter may name a signature's outputs output_0, output_1, …; then their numbers are the documented order. In a
    file without a signature it is the order of the list. Other names in a signature are refused: which of the three
    scalars is which could only be guessed. So is a single nameless output: many other models have one.
    """
    details = {detail["name"]: detail for detail in interpreter.get_output_details()}
    order = list(details)
    if interpreter.get_signature_list():
        details = interpreter.get_signature_runner().get_output_details()
        order = [f"output_{number}" for number in range(len(details))]
    outputs = outputs_of(details)
    if outputs is None and set(order) == set(details):
        found_ranks = [len(details[name]["shape"]) for name in order]
        known = (names for names in OUTPUT_SETS if [_RANKS.get(name, 2) for name in names] == found_ranks)
        outputs = next(known, None) if len(order) > 1 else None
        details = details if outputs is None else {name: details[old] for name, old in zip(outputs, order, strict=True)}
    ranks = {name: len(details[name]["shape"]) if details[name]["dtype"] == np.float32 else 0 for name in outputs or ()}
    if not ranks or any(rank != _RANKS.get(name, 2) for name, rank in ranks.items()):
        found = {name: (detail["dtype"].__name__, detail["shape"].tolist()) for name, detail in details.items()}
        raise ModelFileError(
            f"A probpose-edge .tflite file has {EXPECTED_OUTPUTS}: maps of shape (1, K, H, W), keypoints (1, K, 2) and "
            f"the others (1, K); {path} has {found}. Use a file written by `probpose-edge convert`."
        )
    return {name: int(details[name]["index"]) for name in ranks}
