"""Ways to find the ranges of int8 values: how far each takes the outputs from full precision, on other crops.

python scripts/compare_ranges.py CHECKPOINT --calib annotations.json:images/ [--crops 96] [--judged 48]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from probpose_convert.calibration_crops import read_calibration_crops
from probpose_models import TorchRuntime, open_checkpoint
from probpose_quant import Recipe
from probpose_quant.correct_biases import correct_biases
from probpose_quant.drift import OutputDrift, output_drift
from probpose_quant.graph_runtime import GraphRuntime
from probpose_quant.narrow_ranges import recipe_ranges
from probpose_quant.sensitivity import export_raw_graph, rounded_graph

CORRECTED = 48
RECIPES = {
    "extremes": Recipe(name="x", observer="minmax"),
    "without 1e-5 of the values on each side": Recipe(name="x", observer="percentile", tail=1e-5),
    "without 1e-4": Recipe(name="x", observer="percentile", tail=1e-4),
    "least divergence": Recipe(name="x", observer="entropy"),
    "least squared error": Recipe(name="x", observer="mse"),
    "the same, narrowed by the outputs": Recipe(name="x", observer="mse", narrowed=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--calib", required=True)
    parser.add_argument("--crops", type=int, default=96)
    parser.add_argument("--judged", type=int, default=48)
    arguments = parser.parse_args()
    model, contract = open_checkpoint(arguments.checkpoint)
    crops, _ = read_calibration_crops(arguments.calib, arguments.crops + arguments.judged)
    calibration, judged = crops[: arguments.crops], crops[arguments.crops :]
    reference = TorchRuntime(model).run(judged)
    graph = export_raw_graph(model, contract)
    for name, recipe in RECIPES.items():
        ranges = recipe_ranges(model, contract, calibration, recipe)
        say(name, output_drift(reference, GraphRuntime(rounded_graph(graph, recipe, ranges)).run(judged), contract))
        if recipe.observer == "mse":
            corrected = correct_biases(model, contract, calibration[:CORRECTED], recipe, ranges)
            own = rounded_graph(export_raw_graph(corrected, contract), recipe, ranges)
            name += f", biases corrected on {CORRECTED} crops"
            say(name, output_drift(reference, GraphRuntime(own).run(judged), contract))


def say(name: str, drift: OutputDrift) -> None:
    """A row of the table."""
    print(f"| {name} | {drift.map_overlap:.3f} | {drift.probability:.4f} |", flush=True)


if __name__ == "__main__":
    main()
