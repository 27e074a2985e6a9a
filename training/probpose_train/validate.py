"""Judge a network while it trains, by the SDK and the evaluation that judge every shipped file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from probpose_edge.estimator import PoseEstimator
from probpose_edge.metadata import ModelContract
from probpose_eval.coco import AnnotationSet, read_annotations
from probpose_eval.evaluate import evaluate, mean_oks
from probpose_eval.predict import predict_set
from probpose_models.torch_runtime import TorchRuntime


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationSet:
    """Annotations and their image folder."""

    annotations: AnnotationSet
    images: Path


def read_validation_set(annotations: str, images: str) -> ValidationSet:
    """Read the annotations; raises `AnnotationError`."""
    return ValidationSet(annotations=read_annotations(annotations), images=Path(images))


def validate(model: nn.Module, contract: ModelContract, data: ValidationSet) -> dict[str, float]:
    """Mean OKS over labelled persons and AP, with true boxes, padding of the contract, no flip."""
    estimator = PoseEstimator(TorchRuntime(model), contract)
    results = predict_set(estimator, data.annotations, data.images)
    scores = evaluate(data.annotations, results)
    return {"val_mean_oks": mean_oks(data.annotations, results).mean, "val_AP": scores["AP"]}
