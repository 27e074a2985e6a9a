"""Would a .tflite file for eight crops beat eight calls of a file for one?

    python scripts/compare_tflite_batch.py [--persons 8] [--rounds 22]

Translates the shipped probpose-m for one crop and for many, in fp32 and in dynamic INT8, and runs both in turns:
processor time of one thread, medians and quartiles.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter

from probpose_convert.tflite_graph import TfliteNetwork, translate
from probpose_convert.tflite_quantize import quantize_tflite
from probpose_models.checkpoint import load_checkpoint

CHECKPOINT = Path(__file__).resolve().parents[1] / "models" / "probpose_models" / "weights" / "probpose-m.safetensors"


def interpreters(folder: Path, counts: tuple[int, int]) -> dict[tuple[str, int], Any]:
    """(precision, crops per call) → an interpreter that is ready."""
    model, contract = load_checkpoint(CHECKPOINT)
    width, height = contract.input_wh
    ready = {}
    for count in counts:
        network = TfliteNetwork(copy.deepcopy(model).float(), contract.input_wh).eval()
        content = translate(network, {"image": torch.zeros(count, height, width, 3, dtype=torch.uint8)})
        for precision, data in (("fp32", content), ("int8-dynamic", quantize_tflite(content, "int8-dynamic", None))):
            path = folder / f"{precision}-{count}.tflite"
            path.write_bytes(data)
            ready[precision, count] = Interpreter(str(path), num_threads=1)
            ready[precision, count].allocate_tensors()
    return ready


def run(interpreter: Any, count: int, crops: np.ndarray) -> None:
    """All crops, `count` at a time, with every output read."""
    image = interpreter.get_input_details()[0]["index"]
    for start in range(0, len(crops), count):
        interpreter.set_tensor(image, crops[start : start + count])
        interpreter.invoke()
        for output in interpreter.get_output_details():
            interpreter.get_tensor(output["index"])


def main() -> None:
    """Translate, time in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=22)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ready = interpreters(Path(folder), (1, options.persons))
        shape = ready["fp32", 1].get_input_details()[0]["shape"][1:]
        crops = np.random.default_rng(0).integers(0, 255, (options.persons, *shape)).astype(np.uint8)
        times: dict[tuple[str, int], list[float]] = {name: [] for name in ready}
        for step in range(options.rounds + 3):
            for name, interpreter in ready.items():
                start = time.process_time()
                run(interpreter, name[1], crops)
                if step >= 3:
                    times[name].append(1000 * (time.process_time() - start))
    for (precision, count), values in times.items():
        lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
        print(f"{precision}, {count} crop(s) per call: {median:.1f} ms ({lower:.1f} to {upper:.1f})")


if __name__ == "__main__":
    main()
