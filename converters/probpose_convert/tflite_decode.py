"""Append the decode to a finished TFLite model: the network's operators stay as they are, the decode stays in float."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from probpose_convert.tflite_flatbuffer import read_flatbuffer, write_flatbuffer
from probpose_convert.tflite_graph import translate
from probpose_edge.contract.metadata import DECODED_NAMES, ModelContract
from probpose_models.decode_in_graph import DecodeInGraph


class _NamedDecode(nn.Module):
    """`DecodeInGraph` with inputs and outputs by name."""

    def __init__(self, contract: ModelContract) -> None:
        super().__init__()
        self.names = contract.output_names
        self.decode = DecodeInGraph(contract)

    def forward(self, **outputs: Tensor) -> dict[str, Tensor]:
        return dict(zip(DECODED_NAMES, self.decode(*(outputs[name] for name in self.names)), strict=True))


def append_decode(content: bytes, contract: ModelContract) -> bytes:
    """A TFLite model that gives the outputs `DECODED_NAMES`.

    content: a model of one crop with the outputs of `contract`, quantized or not. contract: of the network, with its
    calibration. Raises as `translate`.
    """
    k, (width, height) = len(contract.keypoint_names), contract.heatmap_wh
    example = {
        name: torch.zeros((1, k, height, width) if name.endswith("logits") else (1, k))
        for name in contract.output_names
    }
    model = read_flatbuffer(content)
    _append(model, read_flatbuffer(translate(_NamedDecode(contract).eval(), example)))
    return write_flatbuffer(model)


def _append(model: Any, tail: Any) -> None:
    """Let the operators of `tail` follow those of `model`; inputs of the one are outputs of the other, by name."""
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    (added,), (tail_signature,) = tail.subgraphs, tail.signatureDefs
    codes = [_code_index(model, code) for code in tail.operatorCodes]
    # Buffer 0 stands for "no data" in both.
    first_buffer = len(model.buffers) - 1
    model.buffers += tail.buffers[1:]
    given = {entry.name: entry.tensorIndex for entry in signature.outputs}
    places = {entry.tensorIndex: given[entry.name] for entry in tail_signature.inputs}
    for index, tensor in enumerate(added.tensors):
        if index not in places:
            places[index] = len(graph.tensors)
            tensor.name = b"decode/" + tensor.name
            tensor.buffer += first_buffer if tensor.buffer else 0
            graph.tensors.append(tensor)
    for operator in added.operators:
        operator.opcodeIndex = codes[operator.opcodeIndex]
        operator.inputs, operator.outputs = (
            # -1 marks an optional input that is not there.
            [places.get(int(index), -1) for index in side]
            for side in (operator.inputs, operator.outputs)
        )
        graph.operators.append(operator)
    for name, index in given.items():
        # Its name goes to what the decode makes of it.
        graph.tensors[index].name = b"network/" + name
    graph.outputs = [places[int(index)] for index in added.outputs]
    for entry in tail_signature.outputs:
        entry.tensorIndex = places[entry.tensorIndex]
        graph.tensors[entry.tensorIndex].name = entry.name
    signature.outputs = tail_signature.outputs


def _code_index(model: Any, code: Any) -> int:
    """Where the model lists an operator's code; it is appended if it is not there."""
    for index, known in enumerate(model.operatorCodes):
        if (known.builtinCode, known.version, known.customCode) == (code.builtinCode, code.version, code.customCode):
            return index
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
