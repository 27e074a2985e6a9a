"""Run a saved CoreML package without CoreML, on any system: what it computes, not how fast the device is.

The package is read back as it was saved, 8-bit weights and float16 scales included, and its operations run with torch
on the CPU. That makes the numbers of a file known before a Mac or a phone has seen it; they are labelled simulated.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray

from probpose_convert.mil_interpreter import MilInterpreter
from probpose_convert.mil_reader import MilProgram, read_program
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import ModelFileError
from probpose_edge.runtimes.base import (
    EXPECTED_OUTPUTS,
    RawOutputs,
    check_crops,
    closed_error,
    outputs_from,
    outputs_of,
    run_in_parts,
)


class MilRuntime:
    """A `probpose_edge.runtimes.base.Runtime` over an .mlpackage, on any system. Crops run one by one.

    fp16_rounding: as in `MilInterpreter`; a device rounds. The attribute of that name, and the runtime's name, say
        whether anything is rounded: nothing is in a package of float32 values.

    Raises `MissingExtraError` without coremltools, `ModelFileError` for a package that is not complete, holds unknown
    operators, or has other inputs or outputs than a probpose-edge package.
    """

    provenance = "simulated"

    def __init__(self, path: str | os.PathLike[str], *, fp16_rounding: bool = True) -> None:
        program = read_program(path)
        self._input_wh, self._outputs = _check_interface(path, program)
        interpreter = MilInterpreter(program, fp16_rounding=fp16_rounding)
        self._interpreter: MilInterpreter | None = interpreter
        self.fp16_rounding = interpreter.rounds
        rounding = "yes" if self.fp16_rounding else "no"
        self.name = f"MIL executor (torch {torch.__version__}, simulated, fp16 rounding: {rounding})"

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """Run (N, H, W, 3) uint8 RGB crops; N may be any number, zero included."""
        return run_in_parts(check_crops(crops, self._input_wh), 1, self._run)

    def _run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        if self._interpreter is None:
            raise closed_error()
        # CoreML hands an RGB image to the program as (1, 3, H, W) numbers from 0 to 255.
        image = torch.from_numpy(crops.transpose(0, 3, 1, 2).astype(np.float32))
        outputs = self._interpreter.run({"image": image})
        return outputs_from({name: outputs[name].numpy() for name in self._outputs})

    def close(self) -> None:
        """Release the model; further calls to `run` are errors."""
        self._interpreter = None


def open_simulated(
    path: str | os.PathLike[str], *, fp16_rounding: bool = True, presence_threshold: float | None = None
) -> PoseEstimator:
    """Open an .mlpackage on a system without CoreML; results are those of `MilRuntime`, labelled ``simulated``.

    Raises `ModelFileError` or `MetadataError` for a package that cannot be used, `MissingExtraError` without
    coremltools.
    """
    contract = read_contract(path)
    if contract.format != "coreml":
        raise ModelFileError(
            f"The executor runs .mlpackage files, and {os.fspath(path)} is a file of format {contract.format}. "
            "Open it with PoseEstimator.open."
        )
    runtime = MilRuntime(path, fp16_rounding=fp16_rounding)
    return PoseEstimator(runtime, contract, presence_threshold=presence_threshold)


def _check_interface(path: str | os.PathLike[str], program: MilProgram) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Size of the input image, width first, and the outputs; raises `ModelFileError` for another interface."""
    outputs = outputs_of(program.outputs)
    if list(program.inputs) != ["image"] or "image" not in program.images or outputs is None:
        raise ModelFileError(
            f"A probpose-edge .mlpackage has one RGB image input 'image' and {EXPECTED_OUTPUTS}; {os.fspath(path)} has "
            f"{sorted(program.inputs)} and {sorted(program.outputs)}. Use a package written by `probpose-edge convert`."
        )
    return program.images["image"], outputs
