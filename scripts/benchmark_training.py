"""How fast training goes: the loader, the step, and the step's share of what the machine can compute.

    python scripts/benchmark_training.py --data annotations.json:images/ --model probpose-m --batch-size 32

Prints a Markdown table for the processor and, where torch sees one, for the GPU. Every line is the median of rounds in
which all lines take turns. "Per core-second" counts the processor time of this process instead of the time on the wall,
which stays comparable when other programs run beside it; it does not exist for GPUs and for loaders with workers of
their own. The peak is the best of three large matrix products in the arithmetic of the step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch.optim.swa_utils import AveragedModel

from probpose_models.probpose_m import count_multiply_adds
from probpose_train import parse_source, recommended_config
from probpose_train.config import TrainConfig
from probpose_train.dataset import Part, make_loader
from probpose_train.describe_run import describe_environment
from probpose_train.device_augment import PackedPlans, render
from probpose_train.distributed import Group
from probpose_train.loss_kernels import make_kernels
from probpose_train.optimizer import make_optimizer
from probpose_train.prepare import Prepared, prepare
from probpose_train.state import TrainingState
from probpose_train.step import make_tools, training_step

BACKWARD_AND_FORWARD = 3
"""A training step computes about three times the products of a forward pass."""
AHEAD = 4
"""Batches that each worker of the loader makes in advance."""


@dataclass(kw_only=True)
class Line:
    """One thing measured: `work` does one piece of `units` samples (or operations)."""

    name: str
    work: Callable[[], None]
    units: float
    one_process: bool
    walls: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)

    def measure(self) -> None:
        wall, core = time.perf_counter(), time.process_time()
        self.work()
        self.walls.append(self.units / (time.perf_counter() - wall))
        self.cores.append(self.units / max(time.process_time() - core, 1e-9))

    def row(self, scale: float = 1.0) -> str:
        core = f"{statistics.median(self.cores) / scale:.1f}" if self.one_process else "–"
        return f"| {self.name} | {statistics.median(self.walls) / scale:.1f} | {core} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synth", help="annotations.json:images/ or synth")
    parser.add_argument("--model", default="probpose-m")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        config = recommended_config(
            sources=(parse_source(arguments.data),),
            model=arguments.model,
            batch_size=arguments.batch_size,
            device=device,
            compile=arguments.compile,
        )
        report(config, Group(device=torch.device(device)), arguments.rounds, arguments.workers)


def report(config: TrainConfig, group: Group, rounds: int, workers: list[int]) -> None:
    """Measure one device and print its table."""
    prepared = prepare(config, group.device)
    madds = count_multiply_adds(prepared.model, prepared.contract.input_wh)
    step, bf16 = step_line(config, prepared, group)
    loaders = [loader_line(config, prepared, place, count) for place in ("cpu", "device") for count in workers]
    lines = [*loaders, render_line(config, prepared, group), step]
    peak = matmul_line(group.device, torch.bfloat16 if bf16 else torch.float32)
    for line in (*lines, peak):
        line.work()  # the first time starts workers and fills caches
    for _ in range(rounds):
        for line in (*lines, peak):
            line.measure()
    machine = describe_environment(group, 0)
    on_gpu = group.device.type == "cuda"
    print(
        f"\n{machine['device'] if on_gpu else machine['processor']}, {machine['torch_threads']} thread(s), torch "
        f"{machine['versions']['torch']}, {config.model}, batch {config.batch_size}, "
        f"{'bfloat16' if bf16 else 'float32'}, {rounds} rounds\n"
    )
    print("| samples per second | on the wall | per core-second |\n| --- | --- | --- |")
    for line in lines:
        print(line.row())
    print(peak.row(1e9))
    rates = (step.walls, peak.walls) if on_gpu else (step.cores, peak.cores)
    flops = statistics.median(rates[0]) * madds * 2 * BACKWARD_AND_FORWARD
    print(
        f"\nThe step computes {flops / 1e9:.1f} Gflop/s ({madds / 1e9:.2f} G multiply-adds a crop, forward and "
        f"backward), {100 * flops / max(rates[1]):.0f} % of the peak."
    )


def loader_line(config: TrainConfig, prepared: Prepared, place: str, workers: int) -> Line:
    """Batches ready for the step, as the training loop reads them."""
    settings = {**config.__dict__, "augment_on": place, "workers": workers, "samples": 10**7}
    endless = TrainConfig(**settings)
    prepared = prepare(endless, torch.device("cpu"))
    batches: Iterator[Part] = iter(make_loader(prepared.stream, endless, 0))
    pixels = "with pixels" if place == "cpu" else "plans only"

    # Workers are ahead by some batches: many more must be taken at once to see how fast they make them.
    taken = 1 if workers == 0 else 3 * AHEAD * workers

    def work() -> None:
        for _ in range(taken):
            next(batches)

    name = f"loader, {pixels}, {workers} worker(s)"
    return Line(name=name, work=work, units=taken * config.batch_size, one_process=workers == 0)


def render_line(config: TrainConfig, prepared: Prepared, group: Group) -> Line:
    """Pixels from plans on the device of the step."""
    planned = prepare(TrainConfig(**{**config.__dict__, "augment_on": "device"}), torch.device("cpu"))
    plans, _ = next(iter(make_loader(planned.stream, TrainConfig(**{**config.__dict__, "augment_on": "device"}), 0)))
    assert isinstance(plans, PackedPlans)

    def work() -> None:
        render(plans, prepared.contract.input_wh, group.device)
        synchronise(group.device)

    on_cpu = group.device.type == "cpu"
    name = f"pixels from plans on {group.device.type}"
    return Line(name=name, work=work, units=config.batch_size, one_process=on_cpu)


def step_line(config: TrainConfig, prepared: Prepared, group: Group) -> tuple[Line, bool]:
    """The optimizer step on one batch that is ready."""
    model = prepared.model.to(device=group.device, memory_format=torch.channels_last).train()
    state = TrainingState(model=model, average=AveragedModel(model), optimizer=make_optimizer(model, config))
    for parameters in state.optimizer.param_groups:
        parameters["lr"] = 0.0
    tools = make_tools(config, prepared.contract, model, make_kernels(prepared.contract, group.device), group, None)
    batch = next(iter(make_loader(prepared.stream, config, 0)))

    def work() -> None:
        training_step(tools, state, iter([batch]))
        synchronise(group.device)

    on_cpu = group.device.type == "cpu"
    return Line(name="step", work=work, units=config.batch_size, one_process=on_cpu), tools.bf16


def matmul_line(device: torch.device, dtype: torch.dtype) -> Line:
    """What the machine can compute: a large matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def work() -> None:
        left @ right
        synchronise(device)

    return Line(name="peak, Gflop/s", work=work, units=2.0 * size**3, one_process=device.type == "cpu")


def synchronise(device: torch.device) -> None:
    """Wait for a GPU, so that clocks see its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
