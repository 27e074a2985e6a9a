"""Model files side by side on this machine: speed, memory, load time, energy, and which one to ship."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError, MissingExtraError, RuntimeUnavailableError
from probpose_edge.window import box_to_window, crop_windows
from probpose_eval.benchmark.arithmetic_peak import ArithmeticPeak, measure_arithmetic_peak
from probpose_eval.benchmark.energy import EnergyMeter, find_energy_meter
from probpose_eval.benchmark.footprint import Footprint, measure_footprint
from probpose_eval.benchmark.latency import Latency, Machine, describe_machine, measure_calls
from probpose_eval.benchmark.operator_profile import OperatorProfile, profile_operators
from probpose_eval.model_file import size_of
from probpose_eval.synth.scene import draw_scene

_SCENES = 4
_SCENE_SEED = 51_300
_ENERGY_BLOCKS = 3
_ENERGY_SECONDS = 0.7
"""Of one block: counters of energy are refreshed about a thousand times a second."""


@dataclass(frozen=True, kw_only=True)
class FileTiming:
    """What one file takes on this machine.

    Attributes
    ----------
    path, model, format, precision, recipe, output_kind: the file, and what its contract says.
    size_bytes: of the file, or of all files of a package.
    runtime: what ran it.
    network, person: time of one batch through the network alone, and of the whole way from a picture and boxes to
        poses (crops, network, decode), in the same run.
    footprint: load time and peak memory, in a process of its own.
    operators: where the work is done; None where the runtime does not tell.
    joules: per crop, through the network alone; None where the machine does not tell.
    """

    path: Path
    model: str
    format: str
    precision: str
    recipe: str
    output_kind: str
    size_bytes: int
    runtime: str
    network: Latency
    person: Latency
    footprint: Footprint
    operators: OperatorProfile | None
    joules: float | None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Files in the order given, and what their times depend on.

    peak: the machine's own, None without onnxruntime. energy: what tells the energy, or why nothing does.
    """

    files: tuple[FileTiming, ...]
    machine: Machine
    threads: int
    batch: int
    rounds: int
    peak: ArithmeticPeak | None
    energy: str

    def crops_per_second(self, latency: Latency) -> float:
        """Of the median."""
        return 1000 * self.batch / latency.median_ms

    def gops(self, timing: FileTiming) -> float | None:
        """Billions of operations per second of the network, a multiply-add counting as two.

        The fewest multiply-adds of the files of a model count: some runtimes pad channels and multiply zeros.
        """
        counts = [f.operators.macs for f in self.files if f.model == timing.model and f.operators and f.operators.macs]
        return 2e-9 * min(counts) * self.crops_per_second(timing.network) if counts else None


def benchmark_files(
    paths: Sequence[Path],
    *,
    threads: int = 1,
    batch: int = 1,
    rounds: int = 50,
    progress: Callable[[str, int, int], None] | None = None,
) -> Benchmark:
    """Measure files on drawn people, all in turn in every round.

    paths: .onnx, .tflite or .mlpackage files with one input size and one set of keypoints. batch: persons at once;
    files for one crop take them one after another. progress: called with (what, done, in all).

    Raises `InputError` for other arguments or files that differ in input size or keypoints, `ModelFileError` or
    `MetadataError` for a file that cannot be read, before anything is measured, `MissingExtraError` or
    `RuntimeUnavailableError` for a format that cannot run here.
    """
    contracts = _check(paths, threads, batch, rounds)
    report = progress or (lambda what, done, total: None)
    with ExitStack() as stack:
        estimators = []
        for path, contract in zip(paths, contracts, strict=True):
            only_cpu = None if contract.format == "coreml" else threads
            estimators.append(stack.enter_context(PoseEstimator.open(path, threads=only_cpu)))
        pictures = _pictures(contracts[0], batch)
        calls = _calls(estimators, pictures)
        latencies = measure_calls(calls, rounds=rounds, progress=lambda done, total: report("timing", done, total))
        meter = find_energy_meter()
        joules = [_joules(meter, calls[f"network {i}"], batch) for i in range(len(paths))]
        runtimes = [estimator.runtime.name for estimator in estimators]
    files = []
    for index, (path, contract) in enumerate(zip(paths, contracts, strict=True)):
        report("memory and operators", index, len(paths))
        files.append(
            FileTiming(
                path=path,
                model=contract.model,
                format=contract.format,
                precision=contract.precision,
                recipe=contract.recipe,
                output_kind=contract.output_kind,
                size_bytes=size_of(path),
                runtime=runtimes[index],
                network=latencies[f"network {index}"],
                person=latencies[f"person {index}"],
                footprint=measure_footprint(path, threads=threads, batch=batch),
                operators=profile_operators(path, contract.input_wh, threads=threads),
                joules=joules[index],
            )
        )
    return Benchmark(
        files=tuple(files),
        machine=describe_machine(),
        threads=threads,
        batch=batch,
        rounds=rounds,
        peak=_peak(threads),
        energy=meter.source or meter.why,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Picture:
    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    crops: NDArray[np.uint8]


def _check(paths: Sequence[Path], threads: int, batch: int, rounds: int) -> list[ModelContract]:
    for name, value in (("threads", threads), ("batch", batch), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"A benchmark needs {name} of at least 1, got {value}. Give a larger number.")
    if not paths:
        raise InputError("A benchmark needs at least one model file, got none. Name some; two or more are compared.")
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("Every file of a benchmark must be named once, but one was named twice. Leave it out.")
    contracts = [read_contract(path) for path in paths]
    first = contracts[0]
    for path, contract in zip(paths, contracts, strict=True):
        for what, ours, theirs in (
            ("input size", first.input_wh, contract.input_wh),
            ("keypoints", first.keypoint_names, contract.keypoint_names),
        ):
            if ours != theirs:
                raise InputError(
                    f"Files of one benchmark must have the same {what}, but {paths[0].name} has {_short(ours)} and "
                    f"{path.name} has {_short(theirs)}. Benchmark them apart: they do different work."
                )
    return contracts


def _short(value: tuple[object, ...]) -> str:
    return f"{len(value)} keypoints ({value[0]}, …)" if isinstance(value[0], str) else "x".join(map(str, value))


def _pictures(contract: ModelContract, batch: int) -> list[_Picture]:
    """Drawn pictures with `batch` boxes each, and the crops that are cut from them."""
    pictures = []
    for index in range(_SCENES):
        scene = draw_scene(np.random.default_rng((_SCENE_SEED, index)), persons=(1, 3))
        boxes = np.array([person.bbox_xyxy for person in scene.persons], dtype=np.float64)
        boxes = boxes[np.arange(batch) % len(boxes)]
        windows = box_to_window(boxes, contract.input_wh, contract.padding)
        crops = crop_windows(scene.image, windows, contract.input_wh)
        pictures.append(_Picture(image=scene.image, boxes=boxes, crops=crops))
    return pictures


def _calls(estimators: Sequence[PoseEstimator], pictures: Sequence[_Picture]) -> dict[str, Callable[[int], object]]:
    calls: dict[str, Callable[[int], object]] = {}

    def add(index: int, estimator: PoseEstimator) -> None:
        def network(step: int) -> object:
            return estimator.runtime.run(pictures[step % len(pictures)].crops)

        def person(step: int) -> object:
            picture = pictures[step % len(pictures)]
            return estimator(picture.image, picture.boxes)

        calls[f"network {index}"], calls[f"person {index}"] = network, person

    for index, estimator in enumerate(estimators):
        add(index, estimator)
    return calls


def _joules(meter: EnergyMeter, run: Callable[[int], object], batch: int) -> float | None:
    """Per crop, the median of a few blocks of work; of all that draws on the source meanwhile."""
    if meter.measure is None:
        return None
    results = []
    for _ in range(_ENERGY_BLOCKS):
        done = 0

        def block() -> None:
            nonlocal done
            end = time.perf_counter() + _ENERGY_SECONDS
            while time.perf_counter() < end:
                run(done)
                done += 1

        joules = meter.measure(block)
        results.append(joules / (done * batch))
    return float(np.median(results))


def _peak(threads: int) -> ArithmeticPeak | None:
    try:
        return measure_arithmetic_peak(threads=threads)
    except (MissingExtraError, RuntimeUnavailableError):
        return None
