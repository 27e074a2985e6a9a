"""Run the operations of a CoreML program one after another with torch, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probpose_convert.mil_operators import OPERATORS, SELECTING
from probpose_convert.mil_reader import Constant, MilOperation, MilProgram, MilValue
from probpose_edge.exceptions import ModelFileError


@dataclass(frozen=True, kw_only=True)
class _Step:
    """An operation with its constants in place; `read` maps the other parameters to the slots of their values."""

    operation: MilOperation
    function: Callable[..., Any]
    constants: dict[str, Any]
    read: dict[str, int]
    rounds: tuple[bool, ...]
    last_reads: tuple[int, ...]


class MilInterpreter:
    """A program, ready to run.

    program: from `read_program`.
    fp16_rounding: round every value that the program declares float16 to float16, as a device does between
        operations; sums inside an operation are float32 either way. Without it, all arithmetic is float32.

    Raises `ModelFileError`, naming operator and output, for an operator that is not among `OPERATORS`.
    """

    def __init__(self, program: MilProgram, *, fp16_rounding: bool = True) -> None:
        self._inputs, self._outputs = program.inputs, program.outputs
        self._fp16_rounding = fp16_rounding
        self._constants = {slot: _to_torch(value) for slot, value in program.constants.items()}
        last_readers = {
            slot: index
            for index, operation in enumerate(program.operations)
            for given in operation.arguments.values()
            for slot in (given if isinstance(given, tuple) else (given,))
        }
        kept = {value.slot for value in program.outputs.values()}
        self._steps: list[_Step] = []
        for index, operation in enumerate(program.operations):
            step = self._bind(operation, index, last_readers, kept)
            if step.read:
                self._steps.append(step)
            else:
                # Dequantizing stored weights, once: the device does the same when it loads the model.
                self._run_step(step, self._constants)

    @property
    def rounds(self) -> bool:
        """Whether any value is rounded to float16: none is in a program that declares none."""
        return any(any(step.rounds) for step in self._steps)

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One float32 tensor per input, by name, to one tensor per output, by name."""
        values: dict[int, Any] = {value.slot: inputs[name] for name, value in self._inputs.items()}
        for step in self._steps:
            self._run_step(step, values)
            for slot in step.last_reads:
                del values[slot]
        return {
            name: values[value.slot] if value.slot in values else self._constants[value.slot]
            for name, value in self._outputs.items()
        }

    def _bind(self, operation: MilOperation, index: int, last_readers: dict[int, int], kept: set[int]) -> _Step:
        if operation.type not in OPERATORS:
            raise ModelFileError(
                f"The executor knows the MIL operators {', '.join(sorted(OPERATORS))}; {operation.type!r}, which gives "
                f"{operation.outputs[0].name!r}, is not among them. Use a network of this project, or another format."
            )
        constants: dict[str, Any] = {}
        read: dict[str, int] = {}
        for parameter, given in operation.arguments.items():
            if isinstance(given, tuple):
                raise _failed(operation, f"parameter {parameter} is a tuple of {len(given)} values")
            if given in self._constants:
                constants[parameter] = self._constants[given]
            else:
                read[parameter] = given
        rounded = self._fp16_rounding and operation.type not in SELECTING
        return _Step(
            operation=operation,
            function=OPERATORS[operation.type],
            constants=constants,
            read=read,
            rounds=tuple(rounded and value.dtype == "fp16" for value in operation.outputs),
            last_reads=tuple({slot for slot in read.values() if last_readers[slot] == index} - kept),
        )

    def _run_step(self, step: _Step, values: dict[int, Any]) -> None:
        arguments = {parameter: values[slot] for parameter, slot in step.read.items()}
        try:
            result = step.function(**step.constants, **arguments)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise _failed(step.operation, str(error)) from error
        results = result if isinstance(result, tuple) else (result,)
        for value, tensor, rounds in zip(step.operation.outputs, results, step.rounds, strict=True):
            _check_shape(step.operation, value, tensor)
            values[value.slot] = tensor.half().float() if rounds else tensor


def _to_torch(value: Constant) -> Any:
    """Real and 8-bit numbers as float32 tensors, lists of sizes and axes (32-bit integers) as Python's own."""
    if not isinstance(value, np.ndarray):
        return value
    return value.tolist() if value.dtype in (np.int32, np.uint32) else torch.from_numpy(value.astype(np.float32))


def _check_shape(operation: MilOperation, value: MilValue, tensor: Tensor) -> None:
    if tuple(tensor.shape) != value.shape:
        raise _failed(operation, f"the file declares the shape {value.shape}, and {tuple(tensor.shape)} came out")


def _failed(operation: MilOperation, reason: str) -> ModelFileError:
    return ModelFileError(
        f"The operation {operation.type!r}, which gives {operation.outputs[0].name!r}, cannot be run: {reason}. "
        "Use a package written by `probpose-edge convert`, or convert the checkpoint again."
    )
