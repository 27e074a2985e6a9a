"""Carry ranges that were found on the torch graph over to a TFLite model.

The two graphs name their values differently but compute the same ones: a value of one crop is recognised in the other
by its number, extremes, mean and deviation.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule, Interpreter, Node

from probpose_convert.tflite_calibrate import Ranges, weight_ranges
from probpose_convert.tflite_flatbuffer import operator_name, read_flatbuffer
from probpose_edge.exceptions import ConversionError
from probpose_edge.extras import import_extra
from probpose_models.deploy import Deployable
from probpose_quant.blocks import ALWAYS_FLOAT, lies_in
from probpose_quant.calibrate import export_graph
from probpose_quant.fold_batch_norms import fold_batch_norms
from probpose_quant.quantization import Quantization
from probpose_quant.value_keys import value_keys

ALIKE = 1e-3
"""Largest difference of extremes, mean and deviation, as a share of the span, of what counts as the same value. The two
frameworks sum in another order: 1e-5 was seen."""
_FLOAT32 = 0
"""Number of the type in TFLite's schema."""
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL")
_ALWAYS_FLOAT = tuple(f"model.{name}" for name in ALWAYS_FLOAT)
_MOVERS = ("PAD", "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS")
_CARRIERS = ("ADD", "RESIZE_BILINEAR", "MAX_POOL_2D")


@dataclass(frozen=True, kw_only=True)
class CarriedRanges:
    """Ranges for the TFLite quantizer, and the operators that it must leave alone.

    Attributes
    ----------
    ranges: by tensor name. float_outputs: names of the outputs of operators that stay in float.
    carried: how many tensors got a range of the torch graph.
    """

    ranges: Ranges
    float_outputs: frozenset[str]
    carried: int


@dataclass(frozen=True, kw_only=True)
class _Look:
    count: int
    numbers: tuple[float, ...]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> _Look:
        wide = values.astype(np.float64)
        return cls(count=values.size, numbers=(wide.min(), wide.max(), wide.mean(), wide.std()))

    def distance(self, other: _Look) -> float:
        span = max(self.numbers[1] - self.numbers[0], 1e-9)
        return max(abs(a - b) for a, b in zip(self.numbers, other.numbers, strict=True)) / span


def carry_ranges(
    content: bytes, model: nn.Module, quantization: Quantization, crop: NDArray[np.uint8]
) -> CarriedRanges:
    """The ranges of `quantization` for the tensors of a float TFLite model of `model`.

    crop: (H, W, 3) uint8 RGB with something on it. Raises `ConversionError` if a tensor that is to become int8 is not
    found in the torch graph.
    """
    known = _torch_looks(model, quantization, crop)
    flat = read_flatbuffer(content)
    (graph,) = flat.subgraphs
    looks = _tflite_looks(content, graph, crop)
    keys = {index: key for index, look in looks.items() if (key := _recognised(look, known)) is not None}
    # A padded or reshaped value has the range of what it was made from.
    for operator in graph.operators:
        source, output = operator.inputs[0], operator.outputs[0]
        if operator_name(flat, operator) in _MOVERS and source in keys and output in looks:
            keys.setdefault(output, keys[source])
    float_blocks = tuple(_tflite_path(model, block) for block in quantization.recipe.float_blocks)
    name_of = {index: tensor.name.decode() for index, tensor in enumerate(graph.tensors)}
    stays: set[str] = set()
    wanted: list[int] = []
    for operator in graph.operators:
        kind, output = operator_name(flat, operator), operator.outputs[0]
        sources = [index for index in operator.inputs if index in looks]
        in_float = _lies_in(name_of[output], (*float_blocks, *_ALWAYS_FLOAT))
        if kind in _WEIGHTED and not in_float:
            wanted += sources
        elif kind in _WEIGHTED or (kind in _CARRIERS and not all(index in keys for index in (*sources, output))):
            stays.add(name_of[output])
    _check_found(wanted, keys, name_of)
    ranges: Ranges = {}
    for index, look in looks.items():
        low, high = quantization.ranges[keys[index]] if index in keys else look.numbers[:2]
        shape = [1] * len(graph.tensors[index].shape)
        ranges[name_of[index]] = np.full(shape, low, np.float32), np.full(shape, high, np.float32)
    weights = weight_ranges(content, ranges)
    return CarriedRanges(ranges={**ranges, **weights}, float_outputs=frozenset(stays), carried=len(keys))


def always_float_outputs(content: bytes) -> frozenset[str]:
    """Names of the outputs of the operators of a float TFLite model that a recipe would quantize, but must not."""
    flat = read_flatbuffer(content)
    (graph,) = flat.subgraphs
    quantized = (each for each in graph.operators if operator_name(flat, each) in (*_WEIGHTED, *_CARRIERS))
    names = (graph.tensors[operator.outputs[0]].name.decode() for operator in quantized)
    return frozenset(name for name in names if _lies_in(name, _ALWAYS_FLOAT))


def _lies_in(tensor: str, paths: Iterable[str]) -> bool:
    return lies_in(tensor.partition("#")[0].replace("/", "."), paths)


class _Watcher(Interpreter):
    """Runs a prepared graph and takes down every value that has a range."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__(graph)
        self.keys = value_keys(graph.graph)
        self.looks: list[tuple[str, _Look]] = []

    def run_node(self, n: Node) -> Any:
        if n.op == "call_module" and n.args[0] in self.keys:
            (value,), _ = self.fetch_args_kwargs_from_env(n)
            self.looks.append((self.keys[n.args[0]], _Look.of(value.detach().numpy())))
        return super().run_node(n)


@torch.no_grad()
def _torch_looks(model: nn.Module, quantization: Quantization, crop: NDArray[np.uint8]) -> list[tuple[str, _Look]]:
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    from probpose_quant.quantizer import ProbPoseQuantizer

    graph = export_graph(Deployable(fold_batch_norms(model)), crop.shape[:2])
    watcher = _Watcher(prepare_pt2e(graph, ProbPoseQuantizer(quantization.recipe, ranges=quantization.ranges)))
    watcher.run(torch.from_numpy(crop[None]))
    return [(key, look) for key, look in watcher.looks if key in quantization.ranges]


def _tflite_looks(content: bytes, graph: Any, crop: NDArray[np.uint8]) -> dict[int, _Look]:
    litert = import_extra("Calibrating .tflite files", "ai_edge_litert.interpreter", "convert")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors.*")
        interpreter = litert.Interpreter(model_content=content, experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    interpreter.set_tensor(image["index"], crop[None])
    interpreter.invoke()
    computed = [i for op in graph.operators for i in op.outputs if graph.tensors[i].type == _FLOAT32]
    return {index: _Look.of(interpreter.get_tensor(index)) for index in computed}


def _recognised(look: _Look, known: list[tuple[str, _Look]]) -> str | None:
    near = [(look.distance(other), key) for key, other in known if other.count == look.count]
    distance, key = min(near, default=(float("inf"), ""))
    return key if distance <= ALIKE else None


def _tflite_path(model: nn.Module, block: str) -> str:
    """A module path as litert_torch writes it: under ``model``, without the lists, which are never called."""
    parts, at = ["model"], model
    for part in block.split("."):
        at = at.get_submodule(part)
        if not isinstance(at, nn.ModuleList):
            parts.append(part)
    return ".".join(parts)


def _check_found(wanted: Iterable[int], keys: dict[int, str], name_of: dict[int, str]) -> None:
    missing = sorted({name_of[index] for index in wanted if index not in keys})
    if missing:
        raise ConversionError(
            f"Every int8 value of a TFLite file must have a range of the quantized network, but {len(missing)} have "
            f"none: {', '.join(missing[:5])}. Convert with calibration instead (a checkpoint without saved ranges)."
        )
