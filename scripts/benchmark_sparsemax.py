"""Ways to the threshold of sparsemax inside a graph, timed in ONNX Runtime and LiteRT: why files have Newton steps.

Each way is the decode up to the smoothed maps of one person, as a file of its own, on drawn logits (see
`benchmark_decode.py`); processor time, all ways in turns, one thread.

    python scripts/benchmark_sparsemax.py [--repeats 40]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from benchmark_decode import KINDS, draw_logits
from torch import Tensor, nn

from probpose_convert.quiet import quiet_libraries
from probpose_convert.tflite_graph import translate
from probpose_edge import COCO_17
from probpose_edge.decode import kernel_variances, smoothing_matrices
from probpose_edge.exceptions import ConversionError

TEMPERATURE = 0.5
GROUP = 12
BISECTIONS = 24
LARGEST = 1024


def newton(z: Tensor, tau: Tensor, steps: int, count: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    for _ in range(steps):
        above = torch.relu(z - tau)
        tau = tau + (above.sum(2, keepdim=True) - 1) / count(z - tau, above).sum(2, keepdim=True)
    return tau


def with_minimum(difference: Tensor, above: Tensor) -> Tensor:
    return (above * 1e7).clamp(max=1)


def with_comparison(difference: Tensor, above: Tensor) -> Tensor:
    return (difference > 0).float()


def on_groups(z: Tensor, count: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    n, k, cells = z.shape
    coarse = z.reshape(n, k, GROUP, cells // GROUP).amax(2)
    return newton(z, newton(coarse, coarse.amax(2, keepdim=True) - 1, 8, count), 5, count)


def bisect(z: Tensor) -> Tensor:
    tau, step = z.amax(2, keepdim=True) - 1, 1.0
    for _ in range(BISECTIONS):
        step /= 2
        excess = torch.relu(z - (tau + step)).sum(2, keepdim=True) - 1
        tau = tau + step * (torch.relu(excess) * 1e9).clamp(max=1)
    return tau


def sorted_threshold(descending: Tensor) -> Tensor:
    rank = torch.arange(1, descending.shape[2] + 1, dtype=torch.float32)
    support = (1 + rank * descending > descending.cumsum(2)).float()
    return ((descending * support).sum(2, keepdim=True) - 1) / support.sum(2, keepdim=True)


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "sort of all cells": lambda z: sorted_threshold(torch.sort(z, 2, descending=True)[0]),
    f"topk, largest {LARGEST}": lambda z: sorted_threshold(torch.topk(z, LARGEST, 2)[0]),
    f"{BISECTIONS} bisections": bisect,
    "10 Newton steps": lambda z: newton(z, z.amax(2, keepdim=True) - 1, 10, with_minimum),
    "8 on groups, 5 on all, with >": lambda z: on_groups(z, with_comparison),
    "8 on groups, 5 on all": lambda z: on_groups(z, with_minimum),
}


class Smoothed(nn.Module):
    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.way = way
        smoothing = smoothing_matrices("published", kernel_variances("published", COCO_17.sigmas, (48, 64)), (48, 64))
        assert smoothing is not None
        self.rows, self.columns = (torch.from_numpy(matrix.copy()) for matrix in smoothing)

    def forward(self, logits: Tensor) -> dict[str, Tensor]:
        n, k, height, width = logits.shape
        z = logits.reshape(n, k, height * width) / TEMPERATURE
        z = z - z.amax(2, keepdim=True)
        maps = torch.relu(z - self.way(z)).reshape(n, k, height, width)
        return {"peaks": (self.rows @ (maps @ self.columns)).amax(3)}


def onnx_call(module: nn.Module, example: Tensor, path: Path) -> tuple[Callable[[Any], object], str]:
    import onnxruntime

    with quiet_libraries():
        program = torch.onnx.export(module, (example,), dynamo=True, opset_version=20, verbose=False)
    program.save(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda logits: session.run(None, {name: logits}), f"{len(list(program.model.graph))} nodes"


def tflite_call(module: nn.Module, example: Tensor) -> tuple[Callable[[Any], object], str]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=translate(module, {"logits": example}), num_threads=1)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    parts = sum(operator["op_name"] == "DELEGATE" for operator in interpreter._get_ops_details())

    def call(logits: Any) -> None:
        interpreter.set_tensor(index, logits)
        interpreter.invoke()

    return call, f"{parts} partition(s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40, help="timed repetitions (40)")
    repeats = parser.parse_args().repeats
    logits = draw_logits(8, KINDS["usual peaks"])
    example = torch.from_numpy(logits[:1])
    calls: dict[tuple[str, str], Callable[[Any], object]] = {}
    notes: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way, threshold in WAYS.items():
            module = Smoothed(threshold).eval()
            calls[way, "onnx"], notes[way, "onnx"] = onnx_call(module, example, Path(folder) / "way.onnx")
            try:
                calls[way, "tflite"], notes[way, "tflite"] = tflite_call(module, example)
            except (ConversionError, ValueError, RuntimeError):
                notes[way, "tflite"] = "no such operator"
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for step in range(repeats + 3):
        for key, call in calls.items():
            start = time.process_time()
            call(logits[step % 8][None])
            times[key].append(1e3 * (time.process_time() - start))
    print(f"processor ms per person, medians of {repeats} repetitions in turns, one thread")
    for way in WAYS:
        texts = [
            (f"{np.median(times[way, kind][3:]):.2f} " if (way, kind) in times else "") + notes[way, kind]
            for kind in ("onnx", "tflite")
        ]
        print(f"{way:<32} ONNX Runtime {texts[0]:<18} LiteRT {texts[1]}")


if __name__ == "__main__":
    main()
