"""Which samples each process and part computes, and that parts of a batch give the step of the whole batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from probpose_edge.exceptions import InputError
from probpose_train.config import DataSource, LossConfig, TrainConfig
from probpose_train.dataset import Part, PartSampler
from probpose_train.distributed import Group, choose_device, join_group
from probpose_train.loss_kernels import make_kernels
from probpose_train.losses import Targets
from probpose_train.optimizer import make_optimizer
from probpose_train.prepare import Prepared, prepare
from probpose_train.state import TrainingState
from probpose_train.step import make_tools, training_step

SETTINGS = TrainConfig(
    sources=(DataSource(annotations="synth"),),
    input_wh=(96, 128),
    samples=24,
    batch_size=8,
    device="cpu",
    bf16="off",
)


def configured(**changes: object) -> TrainConfig:
    return TrainConfig(**{**SETTINGS.__dict__, **changes})


@pytest.mark.parametrize(("size", "accumulate"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)])
def test_every_step_has_the_same_samples_however_it_is_divided(size: int, accumulate: int) -> None:
    config = configured(accumulate=accumulate)
    ranks = [iter(PartSampler(config, 1, rank, size)) for rank in range(size)]
    for step in (1, 2):
        parts = [next(ranks[rank]) for _ in range(accumulate) for rank in range(size)]
        assert [number for part in parts for number in part] == list(range(8 * step, 8 * step + 8))
    assert len(PartSampler(config, 1, 0, size)) == 2 * accumulate


def gradients(config: TrainConfig, prepared: Prepared, batch: Part) -> dict[str, torch.Tensor]:
    """Gradients of one step without batch statistics, which depend on how a batch is divided."""
    model, group = prepared.model.eval(), Group()
    state = TrainingState(model=model, average=AveragedModel(model), optimizer=make_optimizer(model, config))
    for settings in state.optimizer.param_groups:
        settings["lr"] = 0.0
    tools = make_tools(config, prepared.contract, model, make_kernels(prepared.contract, group.device), group, None)
    crops, targets = batch
    length = config.batch_size // config.accumulate
    cuts = [slice(start, start + length) for start in range(0, config.batch_size, length)]
    training_step(tools, state, iter([(crops[cut], Targets(*(value[cut] for value in targets))) for cut in cuts]))
    assert state.step == 1
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def test_the_gradient_of_a_batch_is_that_of_its_parts() -> None:
    # Every keypoint is labelled, so the mean over the parts' means is the mean over the batch. Visibility weighs its
    # two classes alike within each part, which is not linear in the batch: left out.
    settings = {"clip_norm": 1e9, "loss": LossConfig(visibility=0.0)}
    rng = np.random.default_rng(0)
    labelled = torch.ones(8, 17, dtype=torch.bool)
    present, hidden = torch.ones(8, 17), torch.zeros(8, 17)
    points = torch.from_numpy(rng.uniform(1, 22, (8, 17, 2)).astype(np.float32))
    area = torch.full((8,), 60.0)
    targets = Targets(points, labelled, present, labelled, hidden, labelled, area)
    batch = torch.from_numpy(rng.integers(0, 256, (8, 128, 96, 3), dtype=np.uint8)), targets
    prepared = prepare(configured(**settings), torch.device("cpu"))
    whole = gradients(configured(**settings), prepared, batch)
    divided = gradients(configured(**settings, accumulate=4), prepared, batch)
    assert len(whole) > 100
    # The bias of the map head has no gradient, because sparsemax ignores what all cells share: rounding remains.
    largest = max(float(value.abs().max()) for value in whole.values())
    for name, value in whole.items():
        bound = 1e-4 * float(value.abs().max()) + 1e-6 * largest
        torch.testing.assert_close(divided[name], value, rtol=1e-3, atol=bound)


def test_a_batch_that_does_not_divide_among_the_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match=r"8 samples do not among 3 process\(es\).*--batch-size"), join_group(SETTINGS):
        pass


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device(configured(device="auto"), 0) == torch.device("cuda", 0)
    assert choose_device(SETTINGS, 1) == torch.device("cpu")
    with pytest.raises(InputError, match=r"process 1 finds 1\. Start no more than that with --nproc-per-node"):
        choose_device(configured(device="cuda"), 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(configured(device="auto"), 3) == torch.device("cpu")
    with pytest.raises(InputError, match="needs a GPU that torch can use, and there is none"):
        choose_device(configured(device="cuda"))
