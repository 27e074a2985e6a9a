"""Everything a run needs from its configuration: what can be wrong with the input shows up here, before any writing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import InputError
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_models.checkpoint import build_model, checkpoint_contract
from probpose_models.confidence_head import without_confidence_head
from probpose_models.initialise import load_initial
from probpose_models.mobilenet_v2 import MobileNetV2, load_imagenet_weights
from probpose_models.vit import VisionTransformer
from probpose_train.augment import WindowFrame
from probpose_train.config import TrainConfig
from probpose_train.dataset import SampleStream
from probpose_train.distill import Teacher, open_teacher
from probpose_train.run_skeleton import skeleton_of_run, with_run_skeleton
from probpose_train.validate import ValidationSet, read_validation_set


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Network, contract and data of a run; the validation sets by the prefix of their figures in the log; the parts of
    the network that the checkpoint it starts from does not have."""

    model: nn.Module
    contract: ModelContract
    stream: SampleStream
    validation: dict[str, ValidationSet]
    teacher: Teacher | None
    fresh: tuple[str, ...] = ()


def prepare(config: TrainConfig, device: torch.device) -> Prepared:
    """Build or load the network, read the annotations, open the teacher. Raises `ProbPoseError`."""
    torch.manual_seed(config.seed)
    model, contract, fresh = _model(config)
    skeleton = Skeleton.of(contract)
    frame = WindowFrame(
        input_wh=contract.input_wh,
        heatmap_wh=contract.heatmap_wh,
        padding=contract.padding,
        flip_permutation=skeleton.flip_permutation,
        window_ratio=contract.window_ratio,
    )
    stream = SampleStream(config, frame, contract.keypoint_names)
    validation = {}
    if config.val_annotations:
        validation["val"] = read_validation_set(config.val_annotations, config.val_images, skeleton)
    if config.val_crop_annotations:
        validation["val_crop"] = read_validation_set(config.val_crop_annotations, config.val_crop_images, skeleton)
    teacher = open_teacher(config, contract, device) if config.teacher else None
    return Prepared(model=model, contract=contract, stream=stream, validation=validation, teacher=teacher, fresh=fresh)


def freeze_blocks(model: nn.Module, count: int) -> list[nn.Module]:
    """Stop the gradient of the first `count` backbone blocks and return them; they belong in eval mode."""
    blocks = list(getattr(model.backbone, "features", ()))[:count]
    for block in blocks:
        block.requires_grad_(False)
    return blocks


def _sizes(config: TrainConfig) -> dict[str, Any]:
    if config.model.startswith("probpose-m"):
        sizes: dict[str, Any] = {"input_wh": config.input_wh} if config.input_wh else {}
        return {**sizes, "scalar_heads": config.loss.kind == "probability"}
    if config.input_wh not in (None, (192, 256)):
        raise InputError(
            f"Only a probpose-m can see crops of {config.input_wh}, got {config.model}. Leave input_wh out."
        )
    return {}


def _model(config: TrainConfig) -> tuple[nn.Module, ModelContract, tuple[str, ...]]:
    fresh: tuple[str, ...] = ()
    if config.init_from:
        model, contract, fresh = load_initial(
            Path(config.init_from), config.model, window_ratio=config.window_ratio, input_wh=config.input_wh
        )
        model, contract = without_confidence_head(model, contract)
        contract = contract.replace(precision="fp32", checkpoint_sha256="", accuracy={})
        model, contract, new = with_run_skeleton(model, contract, config)
        fresh += (f"{len(new)} of {len(contract.keypoint_names)} keypoints",) if new else ()
    else:
        skeleton = skeleton_of_run(config)
        model = build_model(
            config.model, len(skeleton.keypoint_names), window_ratio=config.window_ratio, **_sizes(config)
        )
        contract = checkpoint_contract(model, skeleton=skeleton)
        if config.backbone_weights:
            if not isinstance(model.backbone, MobileNetV2):
                raise InputError(f"--backbone-weights fit MobileNetV2 only, and {config.model} has another backbone.")
            load_imagenet_weights(model.backbone, Path(config.backbone_weights))
    if isinstance(model.backbone, VisionTransformer):
        model.backbone.set_drop_path(config.drop_path)
    elif config.drop_path:
        raise InputError(f"drop_path skips blocks of a transformer, and {config.model} has none. Set it to 0.")
    return model, contract, fresh
