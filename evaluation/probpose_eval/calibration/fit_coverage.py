"""Fit the two numbers of calibrated maps (see `probpose_edge.calibrated_maps`) so that coverage equals mass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.probabilities.calibrated_maps import softmax_rows
from probpose_edge.probmap import sparsemax_maps
from probpose_eval.metrics.coverage import LEVELS, Standing, coverage, standing

TEMPERATURES = tuple(float(t) for t in np.geomspace(0.01, 3, 14))
"""Temperatures that are tried first, in units of `logit_unit`; neighbours differ by half."""
FINER = 10
"""Temperatures that are tried next, between the two neighbours of the best one; neighbours differ by a twelfth."""
LOST_SHARES = tuple(round(0.01 * step, 2) for step in range(31))
_AT_ONCE = 512
"""Maps in memory together while their standing is computed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MapSamples:
    """M present keypoints with the logits of their maps.

    Attributes
    ----------
    logits: (M, C) float32. cells: (M,) the cell each keypoint lies in. pictures: (M,) which picture each is from.
    """

    logits: NDArray[np.float32]
    cells: NDArray[np.intp]
    pictures: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cells)


@dataclass(frozen=True, kw_only=True)
class CoverageFit:
    """Temperature of the softmax, and the share of the mass that is spread over the window."""

    temperature: float
    lost_share: float


def sparsemax_standing(samples: MapSamples, temperature: float) -> Standing:
    """Where the keypoints stand in the maps that are decoded."""
    return _in_parts(samples, lambda logits: sparsemax_maps(logits[:, None, None], temperature)[:, 0, 0])


def softmax_standings(
    samples: MapSamples, *, progress: Callable[[int, int], None] | None = None
) -> dict[float, Standing]:
    """Temperature → where the keypoints stand in softmax maps of it, before any mass is spread."""
    unit, total = logit_unit(samples), len(TEMPERATURES) + FINER
    standings: dict[float, Standing] = {}

    def add(temperatures: Iterable[float]) -> None:
        for temperature in temperatures:
            standings[temperature] = softmax_standing(samples, temperature)
            if progress is not None:
                progress(len(standings), total)

    add(unit * factor for factor in TEMPERATURES)
    step = TEMPERATURES[1] / TEMPERATURES[0]
    around = fit_coverage(standings).temperature
    add(float(t) for t in around * np.geomspace(1 / step, step, FINER + 2)[1:-1])
    return standings


def softmax_standing(samples: MapSamples, temperature: float) -> Standing:
    """Where the keypoints stand in softmax maps of one temperature."""
    return _in_parts(samples, lambda logits: softmax_rows(logits, temperature))


def fit_coverage(standings: dict[float, Standing], chosen: NDArray[np.bool_] | None = None) -> CoverageFit:
    """The numbers with the smallest mean square of q - share, over the (M,) chosen keypoints or all.

    Of equal ones the least lost share is taken, because the rest of the map then says most.
    """
    best = (np.inf, 0.0, 0.0)
    for temperature, everyone in standings.items():
        some = everyone if chosen is None else everyone.select(chosen)
        for lost_share in LOST_SHARES:
            error = float(((coverage(some.spread(lost_share)) - LEVELS) ** 2).mean())
            best = min(best, (error, lost_share, temperature))
    return CoverageFit(temperature=best[2], lost_share=best[1])


def logit_unit(samples: MapSamples) -> float:
    """Median height of the logits' peaks over their maps' median: the scale that temperatures are relative to."""
    heights = samples.logits.max(axis=1) - np.median(samples.logits, axis=1)
    return float(max(np.median(heights), 1e-6))


def _in_parts(samples: MapSamples, maps: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Standing:
    parts = [
        standing(maps(samples.logits[part]), samples.cells[part])
        for part in (slice(first, first + _AT_ONCE) for first in range(0, len(samples), _AT_ONCE))
    ]
    return Standing(
        above=np.concatenate([part.above for part in parts]),
        own=np.concatenate([part.own for part in parts]),
        cells_above=np.concatenate([part.cells_above for part in parts]),
        cells_own=np.concatenate([part.cells_own for part in parts]),
        cells=parts[0].cells,
    )
