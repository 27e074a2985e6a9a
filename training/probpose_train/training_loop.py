"""A run from its first step, or from its last checkpoint, to its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from probpose_edge.exceptions import TrainingError
from probpose_train.config import TrainConfig
from probpose_train.dataset import Part, make_loader
from probpose_train.distributed import Group, decided_by_leader, join_group, synchronise_statistics, wait_for_all
from probpose_train.loss_kernels import make_kernels
from probpose_train.optimizer import make_optimizer
from probpose_train.prepare import Prepared, freeze_blocks, prepare
from probpose_train.report_run import open_reporter
from probpose_train.run_folder import (
    BEST,
    LAST,
    create_run_folder,
    drop_log_after,
    load_state,
    read_config,
    refuse_other_run,
)
from probpose_train.schedule import set_learning_rate
from probpose_train.state import TrainingState, restore
from probpose_train.step import NotFiniteError, StepTools, make_tools, training_step


def train(config: TrainConfig, folder: Path, *, console: Console | None = None) -> Path:
    """Train from the start; returns the best checkpoint. The folder must not hold another run.

    Started by torchrun, every process calls this; the first one writes.
    """
    with join_group(config) as group:
        prepared = prepare(config, group.device)
        refuse_other_run(folder)
        # Nobody may look for another run in the folder after the leading process has written this one there.
        wait_for_all(group)
        if group.leads:
            create_run_folder(folder, config)
        return _run(config, folder, prepared, None, group, console)


def resume(folder: Path, *, console: Console | None = None) -> Path:
    """Continue the run in a folder where its last checkpoint was written; on the CPU without extra workers the
    weights become those of an uninterrupted run."""
    config = read_config(folder)
    state = load_state(folder)
    with join_group(config) as group:
        prepared = prepare(config, group.device)
        if group.leads:
            drop_log_after(folder, int(state["step"]))
        return _run(config, folder, prepared, state, group, console)


def _run(
    config: TrainConfig,
    folder: Path,
    prepared: Prepared,
    saved: dict[str, Any] | None,
    group: Group,
    console: Console | None,
) -> Path:
    console = (console or Console()) if group.leads else Console(quiet=True)
    model = synchronise_statistics(prepared.model, group).to(device=group.device, memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
    frozen = freeze_blocks(model, config.freeze)
    state = TrainingState(model=model, average=average, optimizer=make_optimizer(model, config))
    if saved is not None:
        restore(state, saved)
    kernels = make_kernels(prepared.contract, group.device)
    tools = make_tools(config, prepared.contract, model, kernels, group, prepared.teacher)
    reporter = open_reporter(config, folder, prepared, group, console, state.step) if group.leads else None
    console.print(
        f"{config.model} on {_machine(group)}{' in bf16' if tools.bf16 else ''}: {prepared.stream.describe()}; "
        f"{config.total_steps} steps of {config.batch_size}, from step {state.step}; run folder {folder}"
    )
    if prepared.fresh and saved is None:
        console.print(f"Not in {config.init_from}, so from fresh weights: {', '.join(prepared.fresh)}.")
    parts = iter(make_loader(prepared.stream, config, state.step, group.rank, group.size))
    with _progress(console) as show:
        task = show.add_task("training", total=config.total_steps, completed=state.step)

        def advance(loss: float) -> None:
            show.update(task, completed=state.step, description=f"loss {loss:.3f}")

        while state.step < config.total_steps:
            _set_modes(model, frozen)
            row = _interval(tools, state, parts, folder, advance)
            stop = reporter.report(state, row) if reporter is not None else False
            if decided_by_leader(stop, group):
                break
    return folder / BEST


def _interval(
    tools: StepTools, state: TrainingState, parts: Iterator[Part], folder: Path, advance: Callable[[float], None]
) -> dict[str, float | int]:
    """The steps up to the next report; returns the row of the log: means of the loss terms, and the speed."""
    config = tools.config
    first, start, rate = state.step, time.perf_counter(), 0.0
    sums: dict[str, float] = {}
    for _ in range(min(config.steps_per_epoch, config.total_steps - first)):
        rate = set_learning_rate(state.optimizer, config, state.step)
        try:
            terms = training_step(tools, state, parts)
        except NotFiniteError as error:
            raise TrainingError(f"{error} {_way_on(folder)}") from error
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value
        advance(terms["total"])
    steps, seconds = state.step - first, time.perf_counter() - start
    row: dict[str, float | int] = {"step": state.step, "learning_rate": rate}
    row |= {name: value / steps for name, value in sums.items()}
    row["samples_per_s"] = steps * config.batch_size / seconds
    return row


def _way_on(folder: Path) -> str:
    last = folder / LAST
    if not last.exists():
        return "There is no checkpoint yet: start again with a lower learning rate, and look at those samples."
    return (
        f"The last checkpoint in {folder} is from before and whole: look at those samples, lower the learning rate and "
        f"start with --init-from {last}."
    )


def _set_modes(model: nn.Module, frozen: list[nn.Module]) -> None:
    model.train()
    for block in frozen:
        block.eval()


def _machine(group: Group) -> str:
    return f"{group.device.type}, {group.size} processes" if group.size > 1 else str(group.device)


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress
