"""What int8 costs on cropped pictures, per file, and how closely files follow the network that was quantized.

    python scripts/compare_quantized.py FILE … --reference FULL --checkpoint QUANTIZED --annotations A.json --images DIR

Prints a row per file: Ex-AP and presence ECE with paired 95 % intervals of their difference to the reference, map
overlap with the reference, and with the fake-quantized torch graph of each --checkpoint that `quantize` wrote.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probpose_cli.models import open_for_evaluation
from probpose_edge.estimator import PoseEstimator
from probpose_edge.runtimes.base import RawOutputs, Runtime
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_eval.annotations.coco import read_annotations, with_skeleton
from probpose_eval.annotations.crop_set import CropRecipe, write_crop_set
from probpose_eval.metrics.bootstrap import Interval
from probpose_eval.metrics.oks import OksRule
from probpose_eval.metrics.resample_observations import resample_observations
from probpose_eval.observations.observe import MapDrift, Observations, observe_set
from probpose_models import open_checkpoint
from probpose_quant.graph_runtime import GraphRuntime
from probpose_quant.quantization import read_quantization
from probpose_quant.sensitivity import export_raw_graph, rounded_graph

FIGURES = ("Ex-AP", "presence-ece")


class Remembered:
    """A runtime that runs the same crops once: they come again with every reference."""

    def __init__(self, runtime: Runtime) -> None:
        self.name, self.provenance, self.close = runtime.name, runtime.provenance, runtime.close
        self._run, self._known = runtime.run, {}

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        key = hashlib.sha256(crops.tobytes()).digest()
        if key not in self._known:
            self._known[key] = self._run(crops)
        return self._known[key]


def simulated(checkpoint: Path) -> PoseEstimator:
    """The quantized network of a checkpoint as torch computes it."""
    model, contract = open_checkpoint(checkpoint)
    saved = read_quantization(checkpoint)
    if saved is None:
        raise SystemExit(f"{checkpoint} carries no quantization. Give one that `probpose-edge quantize` wrote.")
    graph = rounded_graph(export_raw_graph(model, contract), saved.recipe, saved.ranges)
    return PoseEstimator(GraphRuntime(graph), contract)


def shown(interval: Interval, scale: float, digits: int, *, sign: str = "") -> str:
    """Value and interval as text."""
    value, low, high = (scale * x for x in (interval.value, interval.low, interval.high))
    return f"{value:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, action="append", default=[])
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--images", required=True)
    arguments = parser.parse_args()
    names = [arguments.reference, *arguments.checkpoint, *arguments.files]
    estimators = [open_for_evaluation(arguments.reference, threads=1)]
    estimators += [simulated(path) for path in arguments.checkpoint]
    estimators += [open_for_evaluation(path, threads=1) for path in arguments.files]
    estimators = [PoseEstimator(Remembered(e.runtime), e.contract) for e in estimators]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "set"
        contract = estimators[0].contract
        write_crop_set(
            arguments.annotations, arguments.images, folder, seed=0, recipe=CropRecipe(padding=contract.padding)
        )
        data = with_skeleton(read_annotations(folder / "annotations.json"), Skeleton.of(contract))
        said: list[list[tuple[Observations, MapDrift | None]]] = [
            observe_set(estimators, data, folder / "images", reference=index)
            for index in range(1 + len(arguments.checkpoint))
        ]
    threshold = contract.presence_threshold
    rule = OksRule(presence_threshold=threshold, padding=contract.activation_padding, input_wh=contract.input_wh)
    resampled = [resample_observations(data, one, rule=rule, metrics=FIGURES) for one, _ in said[0]]
    print(f"{len(said[0][0][0])} persons, presence threshold {threshold:g} for all")
    columns = ["file", "Ex-AP", "Δ Ex-AP", "presence ECE", "Δ presence ECE", "map overlap with float"]
    columns += [f"with {path.parent.name} in torch" for path in arguments.checkpoint]
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for index, path in enumerate(names):
        cells = ["/".join(path.parts[-3:])]
        for figure, scale, digits in zip(FIGURES, (100, 1), (1, 3), strict=True):
            own, base = resampled[index][figure], resampled[0][figure]
            cells += [shown(own.interval(), scale, digits), shown(own.minus(base), scale, digits, sign="+")]
        for drifts in said:
            drift = drifts[index][1]
            cells.append("–" if drift is None else f"{np.mean(drift.overlap):.3f}")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
