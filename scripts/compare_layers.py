"""Where int8 files part from the quantized network: share of equal steps per block, in the order of the layers.

    python scripts/compare_layers.py QUANTIZED.safetensors FILE.onnx FILE.tflite … [--crops 4]

Every int8 value of a file is compared with the same value of the fake-quantized torch graph, as numbers of steps, on
drawn people. A second torch graph, the one that is converted, with int32 biases, shows how alike torch computes it.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import Interpreter, Node

from probpose_convert.calibration_crops import read_calibration_crops
from probpose_models import open_checkpoint
from probpose_models.deploy import Deployable
from probpose_quant.calibrate import quantize_static
from probpose_quant.fixed_ranges import LearnedRange
from probpose_quant.fold_batch_norms import fold_batch_norms
from probpose_quant.quantization import read_quantization
from probpose_quant.sensitivity import export_raw_graph, rounded_graph
from probpose_quant.value_keys import value_keys

Grid = tuple[NDArray[np.int32], float]
"""Values in steps from zero, (N, C, H, W), and the step."""


class Watcher(Interpreter):
    """Takes down every rounded value of a torch graph in steps, by name."""

    def __init__(self, graph: Any) -> None:
        super().__init__(graph)
        self.keys, self.seen = value_keys(graph.graph), dict[str, Grid]()

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        step = None
        if n.op == "call_module" and isinstance(module := self.fetch_attr(n.target), LearnedRange):
            step, source = float(module.log2_scale.exp2()), n.args[0]
        elif n.op == "call_function" and "dequantize_per_tensor" in str(n.target):
            step, source = float(n.args[1]), n.args[0].args[0]
        if step is not None and source in self.keys:
            self.seen.setdefault(self.keys[source], (np.rint(value.numpy() / step).astype(np.int32), step))
        return value


def onnx_values(path: Path, crops: NDArray[np.uint8]) -> Iterator[Grid]:
    """What every QuantizeLinear of an ONNX file gives."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.UINT8, None) for node in nodes
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for node, value in zip(nodes, session.run(None, {"image": crops}), strict=True):
        scale, zero = (constants[name] for name in node.input[1:])
        yield value.astype(np.int32) - int(zero), float(scale)


def tflite_values(path: Path, crops: NDArray[np.uint8]) -> Iterator[Grid]:
    """Every int8 value that a TFLite file computes, channels moved to the second axis."""
    from ai_edge_litert.interpreter import Interpreter as Litert

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Litert(model_path=str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    found: dict[int, list[NDArray[np.int32]]] = defaultdict(list)
    details = {}
    for crop in crops:
        interpreter.set_tensor(image["index"], crop[None])
        interpreter.invoke()
        for detail in interpreter.get_tensor_details():
            scales = detail["quantization_parameters"]["scales"]
            if detail["dtype"] == np.int8 and len(scales) == 1 and len(detail["shape"]) == 4:
                try:
                    value = interpreter.get_tensor(detail["index"])
                except ValueError:  # a temporary one
                    continue
                zero = int(detail["quantization_parameters"]["zero_points"][0])
                found[detail["index"]].append(np.moveaxis(value.astype(np.int32) - zero, -1, 1))
                details[detail["index"]] = float(scales[0])
    for index, values in found.items():
        yield np.concatenate(values), details[index]


def matched(expected: dict[str, Grid], values: Iterator[Grid]) -> dict[str, NDArray[np.int32]]:
    """Name → the difference in steps; the value of that shape and step which is nearest."""
    found: dict[str, NDArray[np.int32]] = {}
    for value, step in values:
        near = [
            (float(np.abs(value - wanted).mean()), name, value - wanted)
            for name, (wanted, own) in expected.items()
            if wanted.shape == value.shape and abs(step / own - 1) < 1e-3
        ]
        if near:
            _, name, difference = min(near, key=lambda entry: entry[0])
            if name not in found or np.abs(difference).mean() < np.abs(found[name]).mean():
                found[name] = difference
    return found


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--crops", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, contract = open_checkpoint(arguments.checkpoint)
    saved = read_quantization(arguments.checkpoint)
    if saved is None:
        raise SystemExit(f"{arguments.checkpoint} carries no quantization. Give one that `quantize` wrote.")
    crops, _ = read_calibration_crops("", arguments.crops, input_wh=contract.input_wh, padding=contract.padding)
    image = torch.from_numpy(crops)
    torch_graph = Watcher(rounded_graph(export_raw_graph(model, contract), saved.recipe, saved.ranges))
    torch_graph.run(image)
    other = Watcher(
        quantize_static(Deployable(fold_batch_norms(model)), crops, saved.recipe, int32_bias=True, ranges=saved.ranges)
    )
    other.run(image)
    columns = {"other torch graph": matched(torch_graph.seen, iter(other.seen.values()))}
    for path in arguments.files:
        read = onnx_values if path.suffix == ".onnx" else tflite_values
        columns[path.suffix[1:]] = matched(torch_graph.seen, read(path, crops))
    print("| value | " + " | ".join(f"{name}: equal, within one step" for name in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for name in torch_graph.seen:
        cells = [_cell(each.get(name)) for each in columns.values()]
        print(f"| `{name}` | " + " | ".join(cells) + " |")


def _cell(difference: NDArray[np.int32] | None) -> str:
    if difference is None:
        return "–"
    away = np.abs(difference)
    return f"{100 * (away == 0).mean():.2f} %, {100 * (away <= 1).mean():.2f} %"


if __name__ == "__main__":
    main()
