"""What routing costs per person, on average: time of the whole way, measured, and multiply-adds of the networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge import PoseEstimator
from probpose_edge.routing.routed_estimator import RoutedEstimator
from probpose_edge.routing.router import Routes
from probpose_eval.routing.routed_curve import SHARES
from probpose_eval.synth.scene import draw_scene

_SCENES = 12
_SCENE_SEED = 51_400

Picture = tuple[NDArray[np.uint8], NDArray[np.float64]]
"""(H, W, 3) uint8 BGR and (N, 4) boxes xyxy px."""


@dataclass(frozen=True, kw_only=True)
class RoutingCost:
    """Of one person on average, at one share.

    Attributes
    ----------
    share: asked for. sent: of the persons timed who went to the large model.
    ms: crops, router, networks and decode, mean over all persons and rounds, each round all shares in turn.
    macs: multiply-adds of the router and the networks, at the share asked for; None where a file does not tell.
    """

    share: float
    sent: float
    ms: float
    macs: float | None


def measure_routing_cost(
    router: Routes,
    small: PoseEstimator,
    large: PoseEstimator,
    pictures: Sequence[Picture],
    *,
    shares: Sequence[float] = SHARES,
    rounds: int = 3,
    macs: tuple[float, float, float] | None = None,
    theta: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[RoutingCost, ...]:
    """Time routing at all shares in turn, picture by picture, in one run; the pictures come as a stream.

    macs: multiply-adds of the router, the small and the large model for one person. clock: seconds; on a machine that
    other work keeps busy ``time.process_time``, with one thread. A first round is not counted.
    """
    routed = [RoutedEstimator(router, small, large, share=share, theta=theta) for share in shares]
    times, sent = np.zeros(len(shares)), np.zeros(len(shares))
    step, steps = 0, (rounds + 1) * len(pictures)
    for round_number in range(rounds + 1):
        for image, boxes in pictures:
            for turn in range(len(shares)):
                index = (turn + step) % len(shares)
                start = clock()
                routed[index](image, boxes)
                elapsed = clock() - start
                routing = routed[index].last_routing
                if round_number > 0 and routing is not None:
                    times[index] += elapsed
                    sent[index] += routing.large.sum()
            step += 1
            if progress is not None:
                progress(step, steps)
    persons = max(rounds * sum(len(boxes) for _, boxes in pictures), 1)
    return tuple(
        RoutingCost(
            share=share,
            sent=float(sent[index] / persons),
            ms=float(1000 * times[index] / persons),
            macs=None if macs is None else routed_macs(share, *macs),
        )
        for index, share in enumerate(shares)
    )


def drawn_pictures() -> list[Picture]:
    """A few drawn pictures of several persons, always the same, for timing without data."""
    scenes = [draw_scene(np.random.default_rng((_SCENE_SEED, index)), persons=(2, 4)) for index in range(_SCENES)]
    return [(scene.image, np.array([person.bbox_xyxy for person in scene.persons])) for scene in scenes]


def routed_macs(share: float, router: float, small: float, large: float) -> float:
    """Multiply-adds of one person on average; at the shares 0 and 1 no router runs."""
    return (router if 0 < share < 1 else 0.0) + (1 - share) * small + share * large
