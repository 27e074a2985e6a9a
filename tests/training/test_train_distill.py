"""Teachers: soft targets from a checkpoint, labels from a deployed file."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import probpose_edge
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_edge.runtimes.base import RawOutputs
from probpose_models.checkpoint import build_model, checkpoint_contract
from probpose_models.outputs import PoseOutputs
from probpose_models.shipped import shipped_checkpoint
from probpose_train.config import DataSource, LossConfig, TrainConfig
from probpose_train.distill import Teacher, ask, distillation_losses, fill_labels, open_teacher
from probpose_train.losses import Targets
from probpose_train.training_loop import train

CPU = torch.device("cpu")
NETWORK = build_model("probpose-m")
CONTRACT = checkpoint_contract(NETWORK)
SYNTH = (DataSource(annotations="synth"),)


class Certain:
    """A runtime that sees keypoint k in cell (2 + k, 10), sure of every second one."""

    name, provenance = "certain", "simulated"

    def run(self, crops: np.ndarray) -> RawOutputs:
        logits = np.full((len(crops), 17, 64, 48), -9, np.float32)
        logits[:, range(17), 10, [2 + k for k in range(17)]] = 9
        ones = np.ones((len(crops), 17), np.float32)
        presence = np.tile(np.where(np.arange(17) % 2 == 0, 0.9, 0.4).astype(np.float32), (len(crops), 1))
        return RawOutputs(logits=logits, presence=presence, visibility=ones, quality=0.9 * ones)

    def close(self) -> None:
        pass


def unknown_targets(count: int) -> Targets:
    no = torch.zeros(count, 17, dtype=torch.bool)
    zeros = torch.zeros(count, 17)
    return Targets(torch.full((count, 17, 2), -1.0), no, zeros, no.clone(), zeros, no, torch.ones(count))


def label_teacher(student: Any = CONTRACT) -> Teacher:
    return Teacher(contract=CONTRACT, student=student, estimator=PoseEstimator(Certain(), CONTRACT), sure=0.5)


def test_sure_keypoints_stand_where_nothing_is_known_and_only_there() -> None:
    targets = unknown_targets(2)
    targets.map_mask[0, 0] = True
    targets.presence_mask[0, :3] = True
    crops = torch.zeros(2, 256, 192, 3, dtype=torch.uint8)
    filled = fill_labels(label_teacher(), crops, targets)
    learnt = torch.zeros(2, 17, dtype=torch.bool)
    learnt[:, ::2] = True
    assert filled.map_mask[1].tolist() == learnt[1].tolist() == filled.presence_mask[1].tolist()
    learnt[0, :3] = False
    known = targets.map_mask | learnt
    assert torch.equal(filled.map_mask, known)
    assert torch.equal(filled.presence, learnt.float())
    assert torch.equal(filled.visibility_mask, targets.visibility_mask)
    expected = torch.tensor([[2.0 + k, 10.0] for k in range(17)])
    torch.testing.assert_close(filled.points_cell[1, ::2], expected[::2], atol=1e-3, rtol=0)
    assert (filled.points_cell[1, 1::2] == -1).all()


def test_labels_for_a_larger_window_are_in_its_cells() -> None:
    student = CONTRACT.replace(model="probpose-m-dh", window_ratio=1.25)
    filled = fill_labels(label_teacher(student), torch.zeros(1, 256, 192, 3, dtype=torch.uint8), unknown_targets(1))
    # Distances from the center shrink by the ratio of the windows.
    expected = (torch.tensor([2.0, 10.0]) - torch.tensor([23.5, 31.5])) / 1.25 + torch.tensor([23.5, 31.5])
    torch.testing.assert_close(filled.points_cell[0, 0], expected, atol=1e-3, rtol=0)


def test_soft_terms_pull_the_student_to_the_teacher() -> None:
    torch.manual_seed(0)
    taught = PoseOutputs(torch.randn(2, 17, 64, 48), *(torch.randn(2, 17) for _ in range(3)))
    teacher = Teacher(contract=CONTRACT, student=CONTRACT, model=NETWORK)
    logits = torch.randn(2, 17, 64, 48, requires_grad=True)
    scalars = [torch.randn(2, 17, requires_grad=True) for _ in range(3)]
    terms = distillation_losses(teacher, taught, PoseOutputs(logits, *scalars), LossConfig())
    assert set(terms) == {"teacher_map", "teacher_scalars"}
    same = distillation_losses(teacher, taught, taught, LossConfig())
    assert same["teacher_map"].item() == pytest.approx(0, abs=1e-5)
    assert terms["teacher_map"].item() > 0.1
    assert terms["teacher_scalars"] > same["teacher_scalars"]
    sum(terms.values()).backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in (logits, *scalars))
    halved = distillation_losses(teacher, taught, PoseOutputs(logits, *scalars), LossConfig(distill=0.5))
    assert halved["teacher_map"].item() == pytest.approx(terms["teacher_map"].item() / 2)


def test_one_map_teaches_the_expert_of_two() -> None:
    student = CONTRACT.replace(model="probpose-m-dh", window_ratio=1.25)
    taught = PoseOutputs(torch.randn(1, 17, 64, 48), *(torch.randn(1, 17) for _ in range(3)))
    maps = [torch.randn(1, 17, 64, 48, requires_grad=True) for _ in range(2)]
    scalars = [torch.randn(1, 17, requires_grad=True) for _ in range(3)]
    learnt = PoseOutputs(maps[0], *scalars, expert_logits=maps[1])
    terms = distillation_losses(
        Teacher(contract=CONTRACT, student=student, model=NETWORK), taught, learnt, LossConfig()
    )
    sum(terms.values()).backward()
    assert maps[1].grad is not None
    # Presence is about another window, and so is the larger map.
    assert maps[0].grad is None
    assert scalars[0].grad is None
    assert scalars[1].grad is not None


def test_a_teacher_must_see_the_same_crops_and_cells() -> None:
    config = TrainConfig(sources=SYNTH, teacher=str(shipped_checkpoint()))
    student = CONTRACT.replace(padding=1.4)
    with pytest.raises(InputError, match=r"must have the padding of the network it teaches, 1\.4, but .* has 1\.25"):
        open_teacher(config, student, CPU)
    heat = CONTRACT.replace(heatmap_wh=(24, 32))
    with pytest.raises(InputError, match=r"must give probability maps of \(24, 32\) cells"):
        open_teacher(config, heat, CPU)


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_the_shipped_model_teaches_a_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "safetensors":
        path = shipped_checkpoint()
    else:
        pytest.importorskip("onnxruntime")
        path = next((Path(probpose_edge.__file__).parent / "weights").glob("*.onnx"))
    config = TrainConfig(sources=SYNTH, teacher=str(path), samples=2, batch_size=2, device="cpu", bf16="off")
    import probpose_train.step as step

    seen = []

    def watched(teacher: Teacher, crops: torch.Tensor, targets: Targets) -> Targets:
        # As in a set that labels nothing but noses.
        forgotten = torch.zeros_like(targets.map_mask)
        forgotten[:, 0] = targets.map_mask[:, 0]
        filled = fill_labels(teacher, crops, targets._replace(map_mask=forgotten, presence_mask=forgotten.clone()))
        seen.append(int((filled.map_mask & ~forgotten).sum()))
        return filled

    monkeypatch.setattr(step, "fill_labels", watched)
    train(config, tmp_path / "run", console=Console(quiet=True))
    (row,) = csv.DictReader((tmp_path / "run" / "log.csv").open())
    assert ("teacher_map" in row) == (kind == "safetensors")
    assert (sum(seen) > 0) == (kind == "onnx")


def test_a_teacher_in_a_checkpoint_is_not_trained() -> None:
    teacher = open_teacher(TrainConfig(sources=SYNTH, teacher=str(shipped_checkpoint())), CONTRACT, CPU)
    assert teacher.model is not None
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert not teacher.model.training
    answers = ask(teacher, torch.zeros(1, 3, 256, 192))
    assert answers is not None
    assert not answers.logits.requires_grad
    assert ask(dataclasses.replace(teacher, model=None), torch.zeros(1, 3, 256, 192)) is None
