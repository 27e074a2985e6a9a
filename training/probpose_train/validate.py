"""Judge a network while it trains, by the SDK and the evaluation that judge every shipped file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.estimator import PoseEstimator
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_eval.annotations.coco import AnnotationSet, read_annotations, with_skeleton
from probpose_eval.evaluate import evaluate, mean_oks
from probpose_eval.predict import predict_set
from probpose_models.torch_runtime import TorchRuntime


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationSet:
    """Annotations and their image folder."""

    annotations: AnnotationSet
    images: Path


def read_validation_set(annotations: str, images: str, skeleton: Skeleton) -> ValidationSet:
    """Read the annotations, which must have the keypoints of the skeleton; raises `AnnotationError`."""
    return ValidationSet(annotations=with_skeleton(read_annotations(annotations), skeleton), images=Path(images))


def validate(model: nn.Module, contract: ModelContract, data: ValidationSet, prefix: str) -> dict[str, float]:
    """Mean OKS over labelled persons, AP and Ex-AP, with true boxes, padding of the contract, no flip.

    Keys are the names of the metrics after the prefix: ``"val_mean_oks"``, ``"val_AP"``, ``"val_Ex-AP"``.
    """
    estimator = PoseEstimator(TorchRuntime(model), contract)
    results = predict_set(estimator, data.annotations, data.images)
    plain = evaluate(data.annotations, results)
    extended = evaluate(
        data.annotations,
        results,
        extended=True,
        presence_threshold=contract.presence_threshold,
        padding=contract.padding * contract.window_ratio,
        input_wh=contract.input_wh,
    )
    return {
        f"{prefix}_mean_oks": mean_oks(data.annotations, results).mean,
        f"{prefix}_AP": plain["AP"],
        f"{prefix}_Ex-AP": extended["Ex-AP"],
    }
