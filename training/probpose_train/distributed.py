"""Several processes, one per GPU or core, started by torchrun: who I am, and how we agree."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import distributed, nn

from probpose_edge.exceptions import InputError
from probpose_train.config import TrainConfig

PATIENCE = datetime.timedelta(hours=2)
"""The others wait while the first process validates and writes."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """This process among those of the run, and the device it computes on."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder; exactly one does."""
        return self.rank == 0


@contextlib.contextmanager
def join_group(config: TrainConfig) -> Iterator[Group]:
    """Join the processes that torchrun started (gloo on CPUs, nccl on GPUs); alone without torchrun.

    Raises `InputError` for a GPU that is not there and a batch that does not divide among the processes.
    """
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    device = choose_device(config, local)
    parts = size * config.accumulate
    if config.batch_size % parts or config.batch_size < 2 * parts:
        raise InputError(
            f"The batch must divide into equal parts of at least 2 samples, but {config.batch_size} samples do not "
            f"among {size} process(es) with {config.accumulate} part(s) each. Change --batch-size or --accumulate."
        )
    if size == 1:
        yield Group(device=device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Group(rank=distributed.get_rank(), size=size, device=device)
    finally:
        distributed.destroy_process_group()


def choose_device(config: TrainConfig, local_rank: int = 0) -> torch.device:
    """Device of a process; raises `InputError` where a GPU is asked for that torch cannot use."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise InputError("device 'cuda' needs a GPU that torch can use, and there is none. Use device 'cpu' or 'auto'.")
    if config.device == "cpu" or not available:
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise InputError(
            f"Every process needs a GPU of its own, but process {local_rank} finds {torch.cuda.device_count()}. Start "
            "no more than that with --nproc-per-node, or use device 'cpu'."
        )
    return torch.device("cuda", local_rank)


def spread(model: nn.Module, group: Group) -> nn.Module:
    """The network whose gradients are the mean over all processes; itself if there is only one."""
    if group.size == 1:
        return model
    gpu = group.device.type == "cuda"
    return nn.parallel.DistributedDataParallel(model, device_ids=[group.device.index] if gpu else None)


def synchronise_statistics(model: nn.Module, group: Group) -> nn.Module:
    """Batch normalisation over the samples of all GPUs; torch has none for CPUs, where every process has its own."""
    if group.size == 1 or group.device.type != "cuda":
        return model
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def mean_over_group(values: torch.Tensor, group: Group) -> torch.Tensor:
    """Mean of a tensor over all processes, the same on each."""
    if group.size > 1:
        distributed.all_reduce(values)
        values /= group.size
    return values


def wait_for_all(group: Group) -> None:
    """Return when every process is here."""
    if group.size > 1:
        distributed.barrier()


def decided_by_leader(decision: bool, group: Group) -> bool:
    """What the first process decided; the others wait for it here."""
    if group.size == 1:
        return decision
    told = torch.tensor([float(decision)], device=group.device)
    distributed.broadcast(told, src=0)
    return bool(told.item())
