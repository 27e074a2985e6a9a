"""Open any model file for evaluation: on its runtime, in torch, or simulated."""

from __future__ import annotations

import sys
from pathlib import Path

from probpose_edge.estimator import PoseEstimator
from probpose_edge.extras import import_extra


def open_for_evaluation(path: Path, *, threads: int | None = None) -> PoseEstimator:
    """An estimator for a .onnx, .tflite, .mlpackage or .safetensors file, or a published .pth.

    A CoreML package runs on CoreML where that exists, else in the executor of this project, which reports itself as
    simulated. Raises as the readers of the formats do.
    """
    if path.suffix in (".safetensors", ".pth", ".pt"):
        import_extra("Evaluating checkpoints", "torch", "train")
        from probpose_models import TorchRuntime, open_checkpoint

        model, contract = open_checkpoint(path)
        return PoseEstimator(TorchRuntime(model), contract)
    if path.suffix == ".mlpackage" and sys.platform != "darwin":
        import_extra("Simulating CoreML files on this system", "torch", "convert")
        from probpose_convert.mil_executor import open_simulated

        return open_simulated(path)
    return PoseEstimator.open(path, threads=threads)
