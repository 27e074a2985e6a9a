"""Open any model file for evaluation: on its runtime, in torch, or simulated."""

from __future__ import annotations

import sys
from pathlib import Path

from probpose_cli.imports import needs
from probpose_edge.estimator import PoseEstimator


def open_for_evaluation(path: Path, *, threads: int | None = None) -> PoseEstimator:
    """An estimator for a .onnx, .tflite, .mlpackage or .safetensors file.

    A CoreML package runs on CoreML where that exists, else in the executor of this project, which reports itself as
    simulated. Raises as the readers of the formats do.
    """
    if path.suffix == ".safetensors":
        models = needs("probpose_models", purpose="evaluating checkpoints", extra="train")
        model, contract = models.load_checkpoint(path)
        return PoseEstimator(models.TorchRuntime(model), contract)
    if path.suffix == ".mlpackage" and sys.platform != "darwin":
        executor = needs(
            "probpose_convert.mil_executor", purpose="simulating CoreML files on this system", extra="convert"
        )
        estimator: PoseEstimator = executor.open_simulated(path)
        return estimator
    return PoseEstimator.open(path, threads=threads)
