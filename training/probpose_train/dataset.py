"""The endless, reproducible stream of training samples: sample number n depends on the seed and n alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from probpose_edge.exceptions import AnnotationError
from probpose_train.augment import TrainSample, WindowFrame, augment
from probpose_train.config import TrainConfig
from probpose_train.losses import Targets
from probpose_train.sources import DrawnSet, PersonSet, TrainPerson


class SampleStream(Dataset[TrainSample]):
    """Several sets mixed by their shares; indexable by the global sample number."""

    def __init__(self, config: TrainConfig, frame: WindowFrame, keypoint_names: tuple[str, ...]) -> None:
        self._sets: list[PersonSet | DrawnSet] = [
            DrawnSet() if source.annotations == "synth" else PersonSet(source) for source in config.sources
        ]
        for source, people in zip(config.sources, self._sets, strict=True):
            if people.keypoint_names is not None and people.keypoint_names != keypoint_names:
                raise AnnotationError(
                    f"All sets of a run must name the model's keypoints in the same order; {source.annotations} has "
                    f"{list(people.keypoint_names)[:4]} …, the model {list(keypoint_names)[:4]} …. Reorder the set."
                )
        shares = np.array([source.share for source in config.sources])
        self._cumulated = np.cumsum(shares / shares.sum())
        self._seed, self._count = config.seed, config.samples
        self._frame, self._augment = frame, config.augment

    def __len__(self) -> int:
        return self._count

    def describe(self) -> str:
        """One line: how many persons each set has."""
        return ", ".join("drawn people" if isinstance(s, DrawnSet) else f"{len(s)} persons" for s in self._sets)

    def __getitem__(self, index: int) -> TrainSample:
        rng = np.random.default_rng((self._seed, index))
        return augment(self._draw(rng), rng, self._frame, self._augment, lambda: self._draw(rng))

    def _draw(self, rng: np.random.Generator) -> TrainPerson:
        people = self._sets[min(int(np.searchsorted(self._cumulated, rng.random())), len(self._sets) - 1)]
        return people.sample(rng) if isinstance(people, DrawnSet) else people.person(int(rng.integers(len(people))))


class FromSample(Sampler[int]):
    """The sample numbers from `start` on, in order."""

    def __init__(self, start: int, stop: int) -> None:
        self._start, self._stop = start, stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._start, self._stop))

    def __len__(self) -> int:
        return max(0, self._stop - self._start)


def collate(samples: list[TrainSample]) -> tuple[Tensor, Targets]:
    """Stack N samples: crops (N, H, W, 3) uint8 and `Targets`."""

    def stack(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))

    return stack("crop"), Targets(*(stack(name) for name in Targets._fields))


def make_loader(stream: SampleStream, config: TrainConfig, first_step: int) -> DataLoader[TrainSample]:
    """Batches from the given optimizer step on."""
    return DataLoader(
        stream,
        batch_size=config.batch_size,
        sampler=FromSample(first_step * config.batch_size, config.total_steps * config.batch_size),
        collate_fn=collate,
        num_workers=config.workers,
        persistent_workers=False,
        drop_last=True,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if config.workers else None,
    )
