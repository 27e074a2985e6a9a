"""The endless, reproducible stream of training samples: sample number n depends on the seed and n alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from probpose_edge.exceptions import AnnotationError
from probpose_train.augment import PlannedSample, TrainSample, WindowFrame, augment, plan_sample
from probpose_train.config import TrainConfig
from probpose_train.device_augment import PackedPlans, pack_plans
from probpose_train.losses import Targets
from probpose_train.sources import DrawnSet, PersonSet, TrainPerson

Part = tuple[Tensor | PackedPlans, Targets]
"""What one process computes at once: crops (N, H, W, 3) uint8 RGB or the plans to make them, and the truth."""


class SampleStream(Dataset[TrainSample | PlannedSample]):
    """Several sets mixed by their shares; indexable by the global sample number."""

    def __init__(self, config: TrainConfig, frame: WindowFrame, keypoint_names: tuple[str, ...]) -> None:
        self.sets: list[PersonSet | DrawnSet] = [
            DrawnSet(keypoint_names) if source.annotations == "synth" else PersonSet(source)
            for source in config.sources
        ]
        for source, people in zip(config.sources, self.sets, strict=True):
            if people.keypoint_names != keypoint_names:
                raise AnnotationError(
                    f"All sets of a run must name the model's keypoints in the same order; {source.annotations} has "
                    f"{list(people.keypoint_names)[:4]} …, the model {list(keypoint_names)[:4]} …. Reorder the set."
                )
        shares = np.array([source.share for source in config.sources])
        self._cumulated = np.cumsum(shares / shares.sum())
        self._seed, self._count = config.seed, config.samples
        self._frame, self._augment = frame, config.augment
        self._plans_only = config.augment_on == "device"

    def __len__(self) -> int:
        return self._count

    def describe(self) -> str:
        """One line: how many persons each set has."""
        return ", ".join("drawn people" if isinstance(s, DrawnSet) else f"{len(s)} persons" for s in self.sets)

    def __getitem__(self, index: int) -> TrainSample | PlannedSample:
        rng = np.random.default_rng((self._seed, index))
        make = plan_sample if self._plans_only else augment
        return make(self._draw(rng), rng, self._frame, self._augment, lambda: self._draw(rng))

    def collate(self, samples: list[TrainSample | PlannedSample]) -> Part:
        """Stack N samples."""

        def stack(name: str) -> Tensor:
            return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))

        truth = Targets(*(stack(name) for name in Targets._fields))
        plans = [sample.plan for sample in samples if isinstance(sample, PlannedSample)]
        return (pack_plans(plans, self._frame.input_wh) if plans else stack("crop")), truth

    def _draw(self, rng: np.random.Generator) -> TrainPerson:
        people = self.sets[min(int(np.searchsorted(self._cumulated, rng.random())), len(self.sets) - 1)]
        return people.sample(rng) if isinstance(people, DrawnSet) else people.person(int(rng.integers(len(people))))


class PartSampler(Sampler[list[int]]):
    """Sample numbers of the parts that one process computes, from an optimizer step on.

    Step s is made of the samples s · B to (s + 1) · B - 1, whatever computes them: in `accumulate` turns, every process
    takes the next equal part of them, in the order of their ranks.
    """

    def __init__(self, config: TrainConfig, first_step: int, rank: int = 0, size: int = 1) -> None:
        self._config, self._first_step, self._rank, self._size = config, first_step, rank, size

    def __iter__(self) -> Iterator[list[int]]:
        config = self._config
        length = config.batch_size // (self._size * config.accumulate)
        for step in range(self._first_step, config.total_steps):
            for turn in range(config.accumulate):
                start = step * config.batch_size + (turn * self._size + self._rank) * length
                yield list(range(start, start + length))

    def __len__(self) -> int:
        return max(0, self._config.total_steps - self._first_step) * self._config.accumulate


def make_loader(
    stream: SampleStream, config: TrainConfig, first_step: int, rank: int = 0, size: int = 1
) -> DataLoader[TrainSample | PlannedSample]:
    """The parts of one process, from the given optimizer step on."""
    return DataLoader(
        stream,
        batch_sampler=PartSampler(config, first_step, rank, size),
        collate_fn=stream.collate,
        num_workers=config.workers,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if config.workers else None,
    )
