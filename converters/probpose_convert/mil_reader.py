"""Read a saved CoreML package back into a list of operations; nothing is run here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_convert.mil_library import import_coremltools, quiet
from probpose_edge.exceptions import ModelFileError

Constant = str | bool | int | float | NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class MilValue:
    """A value of a program.

    Attributes
    ----------
    slot: its number, the same wherever it is written or read; names may repeat, numbers do not.
    name: what the file calls it.
    dtype: element type in MIL's words, e.g. ``"fp16"``, ``"int8"``.
    shape: its sizes.
    """

    slot: int
    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class MilOperation:
    """One operation; `arguments` maps each given parameter to the slot, or slots, of its value."""

    type: str
    arguments: dict[str, int | tuple[int, ...]]
    outputs: tuple[MilValue, ...]


@dataclass(frozen=True, kw_only=True)
class MilProgram:
    """The function ``main`` of a package.

    Attributes
    ----------
    inputs, outputs: by name.
    images: size, width first, of every input that is an RGB image.
    constants: slot → value; arrays as they are stored, float16 and int8 included.
    operations: in an order in which every argument is ready before it is used.
    """

    inputs: dict[str, MilValue]
    outputs: dict[str, MilValue]
    images: dict[str, tuple[int, int]]
    constants: dict[int, Constant]
    operations: tuple[MilOperation, ...]


def read_program(path: str | os.PathLike[str]) -> MilProgram:
    """Read an .mlpackage that holds an ML program.

    Raises `ModelFileError` for anything that is not one, or not complete, and `MissingExtraError` without coremltools.
    """
    library = import_coremltools("Reading .mlpackage files")
    load = library.converters.mil.frontend.milproto.load.load
    try:
        with quiet():
            model = library.models.MLModel(os.fspath(path), skip_model_load=True)
            specification = model.get_spec()
            program = load(
                specification,
                specification_version=specification.specificationVersion,
                file_weights_dir=model.weights_dir,
            )
        function = program.functions["main"]
    except Exception as error:  # coremltools reports a damaged file with whatever stumbles over it first
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelFileError(
            f"{os.fspath(path)} is not a complete CoreML program: {reason}. "
            "Copy it again, or convert the checkpoint again."
        ) from error
    dtype_name = library.converters.mil.mil.types.builtin_to_string
    return _flatten(function, dtype_name, _rgb_images(library, specification))


def _flatten(function: Any, dtype_name: Callable[[Any], str], images: dict[str, tuple[int, int]]) -> MilProgram:
    slots: dict[Any, int] = {}

    def value_of(variable: Any) -> MilValue:
        # An operation without a result type gives no tensor; no file of this project has one.
        try:
            shape = tuple(int(size) for size in variable.shape) if variable.shape is not None else ()
        except TypeError as error:
            raise ModelFileError(
                f"Every value of a program must have a fixed size, but {variable.name!r} has none. Use operators whose "
                "sizes do not depend on the picture."
            ) from error
        return MilValue(
            slot=slots.setdefault(variable, len(slots)),
            name=variable.name,
            dtype=dtype_name(variable.dtype),
            shape=shape,
        )

    inputs = {name: value_of(variable) for name, variable in function.inputs.items()}
    constants: dict[int, Constant] = {}
    operations = []
    for operation in function.operations:
        outputs = tuple(value_of(variable) for variable in operation.outputs)
        if operation.op_type == "const":
            constants[outputs[0].slot] = _constant(operation.outputs[0].val)
            continue
        arguments: dict[str, int | tuple[int, ...]] = {
            parameter: tuple(slots[item] for item in given) if isinstance(given, (tuple, list)) else slots[given]
            for parameter, given in operation.inputs.items()
            if given is not None
        }
        operations.append(MilOperation(type=operation.op_type, arguments=arguments, outputs=outputs))
    outputs = {variable.name: value_of(variable) for variable in function.outputs}
    return MilProgram(inputs=inputs, outputs=outputs, images=images, constants=constants, operations=tuple(operations))


def _constant(value: Any) -> Constant:
    """Scalars as Python's own; a float16 becomes the float of the same value."""
    scalar = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
    return value.item() if scalar else value


def _rgb_images(library: Any, specification: Any) -> dict[str, tuple[int, int]]:
    rgb = library.proto.FeatureTypes_pb2.ImageFeatureType.RGB
    return {
        feature.name: (int(feature.type.imageType.width), int(feature.type.imageType.height))
        for feature in specification.description.input
        if feature.type.HasField("imageType") and feature.type.imageType.colorSpace == rgb
    }
