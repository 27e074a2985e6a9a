"""One optimizer step: the parts of a batch, their mean gradient, and a look at it before the weights move."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import TrainingError
from probpose_models.deploy import Deployable
from probpose_models.outputs import PoseOutputs
from probpose_train.config import TrainConfig
from probpose_train.dataset import Part
from probpose_train.device_augment import PackedPlans, render
from probpose_train.distill import Teacher, ask, distillation_losses, fill_labels
from probpose_train.distributed import Group, mean_over_group, spread
from probpose_train.heatmap_loss import heatmap_losses
from probpose_train.losses import LossKernels, Targets, compute_losses
from probpose_train.state import TrainingState


class NotFiniteError(TrainingError):
    """The loss or its gradient is NaN or infinite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StepTools:
    """What every step of a run uses and none changes; `forward` is the network, spread over processes and compiled."""

    config: TrainConfig
    contract: ModelContract
    group: Group
    deployable: Deployable
    forward: Callable[[torch.Tensor], Any]
    kernels: LossKernels
    bf16: bool
    teacher: Teacher | None


def make_tools(
    config: TrainConfig,
    contract: ModelContract,
    model: nn.Module,
    kernels: LossKernels,
    group: Group,
    teacher: Teacher | None,
) -> StepTools:
    """Wrap the network for this process."""
    forward: Any = spread(model, group)
    native = group.device.type == "cuda" or bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return StepTools(
        config=config,
        contract=contract,
        group=group,
        deployable=Deployable(model).to(group.device),
        forward=torch.compile(forward) if config.compile else forward,
        kernels=kernels,
        bf16=native if config.bf16 == "auto" else config.bf16 == "on",
        teacher=teacher,
    )


def training_step(tools: StepTools, state: TrainingState, parts: Iterator[Part]) -> dict[str, float]:
    """Take this process' parts of the next batch, and move the weights and their average by one step.

    Returns the loss terms, means over all parts of all processes. Raises `NotFiniteError` before the weights move if
    the loss or its gradient is not finite.
    """
    config, group = tools.config, tools.group
    state.optimizer.zero_grad(set_to_none=True)
    names: list[str] = []
    values = torch.zeros(0, device=group.device)
    for turn in range(config.accumulate):
        pixels, targets = next(parts)
        last = turn == config.accumulate - 1
        # Dropped paths depend on the seed, the step and the part alone, whichever process computes it.
        _seed(config.seed, state.step, turn * group.size + group.rank)
        with contextlib.nullcontext() if last or group.size == 1 else tools.forward.no_sync():
            terms = _losses(tools, pixels, targets)
            (terms["total"] / config.accumulate).backward()
        names = list(terms)
        part = torch.stack([value.detach().float() for value in terms.values()]) / config.accumulate
        values = part if turn == 0 else values + part
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
    *numbers, gradient = torch.cat((mean_over_group(values, group), norm.detach().float().view(1))).tolist()
    logged = dict(zip(names, numbers, strict=True))
    if not (math.isfinite(logged["total"]) and math.isfinite(gradient)):
        first = state.step * config.batch_size
        raise NotFiniteError(
            f"The loss and its gradient must stay finite, but at step {state.step + 1} (samples {first} to "
            f"{first + config.batch_size - 1}) the loss is {logged['total']} and the norm of its gradient {gradient}. "
            "The weights were not changed by that step."
        )
    state.optimizer.step()
    state.average.update_parameters(state.model)
    state.step += 1
    return logged


def _losses(tools: StepTools, pixels: torch.Tensor | PackedPlans, targets: Targets) -> dict[str, torch.Tensor]:
    device, contract = tools.group.device, tools.contract
    if isinstance(pixels, PackedPlans):
        crops = render(pixels, contract.input_wh, device)
    else:
        crops = pixels.to(device, non_blocking=True)
    targets = Targets(*(value.to(device, non_blocking=True) for value in targets))
    if tools.teacher is not None:
        targets = fill_labels(tools.teacher, crops, targets)
    x = tools.deployable.normalise(crops).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=tools.bf16):
        outputs = PoseOutputs(*tools.forward(x))
        answers = None if tools.teacher is None else ask(tools.teacher, x)
    if tools.config.loss.kind == "heatmap":
        terms = heatmap_losses(outputs, targets, tools.kernels, tools.config.loss)
    else:
        terms = compute_losses(outputs, targets, tools.kernels, contract.temperature, tools.config.loss)
    taught: dict[str, torch.Tensor] = {}
    if tools.teacher is not None and answers is not None:
        taught = distillation_losses(tools.teacher, answers, outputs, tools.config.loss)
    total = torch.stack([terms["total"], *taught.values()]).sum()
    if tools.group.size > 1:
        # A head without labels in a part must still take part when gradients are averaged.
        total = total + sum(value.float().sum() for value in outputs if value is not None) * 0
    return {**terms, **taught, "total": total}


def _seed(*numbers: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))
