"""Read and write the flatbuffer of a TFLite model, and append a contract to it."""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import TFLITE_METADATA_NAME, ModelContract
from probpose_edge.extras import import_extra
from probpose_edge.routing.router_contract import RouterContract

BUFFER_ALIGNMENT = 16
"""Bytes; what TFLite's schema demands of constant data, so that kernels may read vectors from the mapped file."""


def read_flatbuffer(content: bytes) -> Any:
    """The ``ModelT`` object of a TFLite model, with the data of every buffer in place."""
    tools = import_extra("Writing .tflite files", "ai_edge_litert.tools.flatbuffer_utils", "convert")
    return tools.read_model_from_bytearray(content)


def operator_name(model: Any, operator: Any) -> str:
    """Name of an operator's type, as in TFLite's schema, e.g. ``"CONV_2D"``."""
    schema = import_extra("Writing .tflite files", "ai_edge_litert.schema_py_generated", "convert")
    code = model.operatorCodes[operator.opcodeIndex]
    # Files older than schema version 3a keep the number in the deprecated byte-sized field.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return str(next(name for name, value in vars(schema.BuiltinOperator).items() if value == number))


def tidied(content: bytes) -> bytes:
    """What litert_torch wrote, with plain names and with biases that kernels and quantizer understand."""
    model = read_flatbuffer(content)
    _name_plainly(model)
    _flatten_biases(model)
    return write_flatbuffer(model)


def _name_plainly(model: Any) -> None:
    """Name every tensor uniquely and shortly.

    Inputs and outputs are named like those of the model's one signature, instead of ``serving_default_logits_output``.
    All others keep the path of attributes that litert_torch writes, without the classes and the list of every layer
    folded into them: in probpose-m those take 170 kB, a twenty-fifth of an int8 file.
    """
    (signature,) = model.signatureDefs
    plain = {entry.tensorIndex: entry.name.decode() for entry in (*signature.inputs, *signature.outputs)}
    taken = set(plain.values())
    for index, tensor in enumerate(model.subgraphs[signature.subgraphIndex].tensors):
        name = plain.get(index)
        if name is None:
            short = _attribute_path(tensor.name.decode())
            name = short if short not in taken else f"{short}#{index}"
            taken.add(name)
        tensor.name = name.encode()


def _flatten_biases(model: Any) -> None:
    """Give the bias of a transposed convolution its one axis, (C,) instead of (1, 1, 1, C).

    With four, XNNPACK leaves the operator to a kernel that takes a hundred times as long, and the quantizer writes
    scales that LiteRT refuses.
    """
    for graph in model.subgraphs:
        for operator in graph.operators:
            if operator_name(model, operator) == "TRANSPOSE_CONV" and len(operator.inputs) == 4:
                bias = graph.tensors[operator.inputs[3]]
                bias.shape = [math.prod(bias.shape)]


def write_flatbuffer(model: Any) -> bytes:
    """A ``ModelT`` object as the content of a file, every buffer inside the flatbuffer and aligned, equal arrays once.

    ai-edge-quantizer puts constants behind the flatbuffer, where only runtimes since 2024 look for them; and the
    schema's Python code alone loses the alignment that the schema declares. Tables of a flatbuffer may point to the
    same array: the zero points of weights per channel, eight bytes for every channel and all of them zero, are 300 kB
    of an int8 file of probpose-m when each tensor has its own.
    """
    flatbuffers = import_extra("Writing .tflite files", "flatbuffers", "convert")

    class SharingBuilder(flatbuffers.Builder):  # type: ignore[name-defined,misc]
        def __init__(self, size: int) -> None:
            super().__init__(size)
            self.written: dict[tuple[str, bytes], Any] = {}

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
            # Vectors of bytes are buffers, and a few options that do not mind.
            return super().StartVector(elemSize, numElems, BUFFER_ALIGNMENT if elemSize == 1 else alignment)

        def CreateNumpyVector(self, x: NDArray[Any]) -> Any:  # noqa: N802
            key = x.dtype.str, hashlib.sha256(np.ascontiguousarray(x).data).digest()
            if key not in self.written:
                self.written[key] = super().CreateNumpyVector(x)
            return self.written[key]

    for buffer in model.buffers:
        if buffer.data is not None:
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    builder = SharingBuilder(2**20 + sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def with_contract(content: bytes, contract: ModelContract | RouterContract) -> bytes:
    """The content followed by a zip archive with the contract: a flatbuffer ignores what follows it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as entries:
        # A fixed date, so that the same model and contract give the same file.
        entries.writestr(zipfile.ZipInfo(TFLITE_METADATA_NAME, date_time=(1980, 1, 1, 0, 0, 0)), contract.to_json())
    return content + archive.getvalue()


def _attribute_path(name: str) -> str:
    """``pkg.ClassA_model/pkg.ClassB_head;…`` → ``model/head``."""
    parts = [part.rsplit(".", 1)[-1].partition("_") for part in name.split(";")[0].split("/")]
    return "/".join(attribute for _, separator, attribute in parts if separator) or name.split(";")[0]
