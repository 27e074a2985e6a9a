"""Learn from a trained network: its maps and probabilities, or labels for the keypoints that a set lacks.

A teacher that comes as a checkpoint answers with maps and probabilities, and the student is drawn towards them
everywhere (soft targets: Hinton, Vinyals and Dean 2015). A teacher in a deployed file is asked for keypoints only:
where nobody labelled one and the teacher is sure, its answer counts as a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_models.checkpoint import load_checkpoint
from probpose_models.outputs import PoseOutputs
from probpose_train.config import LossConfig, TrainConfig
from probpose_train.losses import Targets, alignment_loss, sparsemax


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """One of `model`, on the device of the run, and `estimator`, a deployed file; `sure` is its least presence times
    quality. `contract` is the teacher's, `student` that of the network it teaches."""

    contract: ModelContract
    student: ModelContract
    model: nn.Module | None = None
    estimator: PoseEstimator | None = None
    sure: float = 0.5


def open_teacher(config: TrainConfig, student: ModelContract, device: torch.device) -> Teacher:
    """Open ``config.teacher``: a .safetensors checkpoint, or a deployed file that the SDK runs.

    Raises `InputError` for a teacher that sees other crops or knows other keypoints, and the errors of opening files.
    """
    path = Path(config.teacher)
    if path.suffix == ".safetensors":
        model, contract = load_checkpoint(path)
        teacher = Teacher(contract=contract, student=student, model=model.to(device).requires_grad_(False))
    else:
        estimator = PoseEstimator.open(path)
        teacher = Teacher(contract=estimator.contract, student=student, estimator=estimator, sure=config.teacher_sure)
    contract = teacher.contract
    for name in ("keypoint_names", "input_wh", "padding"):
        if getattr(contract, name) != getattr(student, name):
            raise InputError(
                f"A teacher must have the {name} of the network it teaches, {getattr(student, name)}, but {path} has "
                f"{getattr(contract, name)}. Pass another --teacher."
            )
    if contract.map_kind != "probability" or (teacher.model is not None and contract.heatmap_wh != student.heatmap_wh):
        raise InputError(
            f"A teacher must give probability maps of {student.heatmap_wh} cells, but {path} gives a "
            f"{contract.map_kind} of {contract.heatmap_wh}. Pass a model of the probpose family to --teacher."
        )
    return teacher


def fill_labels(teacher: Teacher, crops: Tensor, targets: Targets) -> Targets:
    """Targets in which a deployed teacher's sure keypoints stand where nothing is known; else those given.

    crops: (N, H, W, 3) uint8 RGB. Nothing is known of a keypoint that trains neither the map nor presence.
    """
    if teacher.estimator is None:
        return targets
    width, height = teacher.student.heatmap_wh
    ratio = teacher.student.window_ratio
    # The crop as a window in the student's cells, so that the answers are in cells too.
    window = [(width - 1) / 2, (height - 1) / 2, (width - 1) / ratio, (height - 1) / ratio]
    pixels = crops.cpu().numpy()
    poses = teacher.estimator.predict_crops(pixels, torch.tensor([window] * len(pixels)).numpy())
    device = targets.points_cell.device
    points = torch.from_numpy(poses.keypoints).to(device, torch.float32)
    sure = torch.from_numpy(poses.presence * poses.quality >= teacher.sure).to(device)
    last = points.new_tensor([width - 1, height - 1])
    inside = ((points >= 0) & (points <= last)).all(-1)
    learnt = sure & inside & ~targets.map_mask & ~targets.presence_mask
    return targets._replace(
        points_cell=torch.where(learnt[..., None], points, targets.points_cell),
        map_mask=targets.map_mask | learnt,
        presence=torch.where(learnt, torch.ones_like(targets.presence), targets.presence),
        presence_mask=targets.presence_mask | learnt,
    )


@torch.no_grad()
def ask(teacher: Teacher, x: Tensor) -> PoseOutputs | None:
    """Outputs of a teacher that came as a checkpoint, for normalised crops (N, 3, H, W)."""
    return None if teacher.model is None else PoseOutputs(*teacher.model(x))


def distillation_losses(
    teacher: Teacher, taught: PoseOutputs, learnt: PoseOutputs, config: LossConfig
) -> dict[str, Tensor]:
    """Terms towards the outputs of a teacher, weighted.

    Maps: the sparsemax loss towards the teacher's map, each weighing as much as the teacher believes the keypoint to be
    present. Scalars: cross-entropy towards the teacher's probabilities. Networks with one map and with two can teach
    each other: maps over the input window correspond, the larger map and presence only where the windows are equal.
    """
    alike = teacher.contract.window_ratio == teacher.student.window_ratio
    weight = taught.presence.float().sigmoid()
    pairs = [(_input_map(taught), _input_map(learnt))]
    if alike and learnt.expert_logits is not None:
        pairs.append((taught.logits, learnt.logits))
    maps = torch.stack([_map_loss(teacher, given, own, weight) for given, own in pairs]).mean()
    names = ("presence", "visibility", "quality") if alike else ("visibility", "quality")
    scalars = [
        F.binary_cross_entropy_with_logits(getattr(learnt, name).float(), getattr(taught, name).float().sigmoid())
        * getattr(config, name)
        for name in names
    ]
    return {
        "teacher_map": config.distill * maps,
        "teacher_scalars": config.distill * torch.stack(scalars).sum(),
    }


def _input_map(outputs: PoseOutputs) -> Tensor:
    return outputs.logits if outputs.expert_logits is None else outputs.expert_logits


def _map_loss(teacher: Teacher, taught: Tensor, learnt: Tensor, weight: Tensor) -> Tensor:
    goal = sparsemax(taught.float().flatten(2) / teacher.contract.temperature)
    scaled = learnt.float().flatten(2) / teacher.student.temperature
    losses = alignment_loss(scaled, sparsemax(scaled), goal)
    return (losses * weight).sum() / weight.sum().clamp_min(1e-6)
