"""Everything about one router and one pair, as plain numbers: what a report and a page of the docs show of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probpose_edge import PoseEstimator
from probpose_edge.routing.check_members import check_members
from probpose_edge.routing.router import Routes
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons
from probpose_eval.benchmark.latency import Latency, measure_calls
from probpose_eval.evaluation_set import EvaluationSet
from probpose_eval.pictures import read_picture
from probpose_eval.routing.observe_pair import observe_pair, router_scores
from probpose_eval.routing.routed_curve import CurveConfig, RoutedPoint, random_routing, routed_curve
from probpose_eval.routing.routing_cost import Picture, RoutingCost, measure_routing_cost

MOST_PICTURES = 40
"""Of the plain set, whose persons are timed."""


@dataclass(frozen=True, kw_only=True)
class RoutedReport:
    """Routing between two models.

    Attributes
    ----------
    router, small, large: labels. theta: see `probpose_edge.routing.route_sorted`.
    curves: name of a set (``"plain"``, ``"cropped"``) → a point per share.
    costs: per share, in the same order, of the persons of the first set; empty if nothing was timed.
    networks: ``"router"``, ``"small"``, ``"large"`` → time of one crop through the network, in turns in one run.
    """

    router: str
    small: str
    large: str
    theta: float
    curves: dict[str, tuple[RoutedPoint, ...]]
    costs: tuple[RoutingCost, ...]
    networks: dict[str, Latency]


def build_routed_report(
    router: Routes,
    small: PoseEstimator,
    large: PoseEstimator,
    sets: Mapping[str, EvaluationSet],
    *,
    labels: tuple[str, str, str],
    definition: str = "paper",
    config: CurveConfig | None = None,
    macs: tuple[float, float, float] | None = None,
    rounds: int = 2,
    progress: Callable[[str, int, int], None] | None = None,
) -> RoutedReport:
    """Measure one router on one pair, from the true boxes, at all shares of `SHARES`.

    labels: of router, small and large. definition: of Ex-OKS. macs: see `measure_routing_cost`. rounds: of the timing;
    0 leaves times out. progress: called with (what, done, in all).

    Raises `InputError` for members that do not fit, and as `observe_pair`.
    """
    check_members(router, small, large)
    tell = progress or (lambda what, done, total: None)
    costs: tuple[RoutingCost, ...] = ()
    networks: dict[str, Latency] = {}
    if rounds and sets:
        first = next(iter(sets.values()))
        pictures = persons_of(first.annotations, first.images_dir)
        networks = time_networks(router, small, large)
        costs = measure_routing_cost(
            router, small, large, pictures, rounds=rounds, macs=macs, progress=lambda d, t: tell("timing routing", d, t)
        )
    curves = {}
    for name, data in sets.items():
        pair = observe_pair(
            small,
            large,
            data.annotations,
            data.images_dir,
            definition=definition,
            progress=lambda done, total: tell("predicting for routing", done, total),
        )
        scores = router_scores(router, data.annotations, data.images_dir)
        random = random_routing(data.annotations, pair, config=config)
        curves[name] = routed_curve(data.annotations, pair, scores, random, theta=router.contract.theta, config=config)
    return RoutedReport(
        router=labels[0],
        small=labels[1],
        large=labels[2],
        theta=router.contract.theta,
        curves=curves,
        costs=costs,
        networks=networks,
    )


def persons_of(annotations: AnnotationSet, images_dir: Path, most: int = MOST_PICTURES) -> list[Picture]:
    """The first pictures of a set that have labelled persons, with their true boxes."""
    groups: dict[int, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {}
    for person in labelled_persons(annotations):
        groups.setdefault(person.image_id, []).append(person.bbox_xyxy)
    return [
        (read_picture(images_dir, annotations.images[image_id]), np.stack(boxes))
        for image_id, boxes in list(groups.items())[:most]
    ]


def time_networks(
    router: Routes,
    small: PoseEstimator,
    large: PoseEstimator,
    *,
    rounds: int = 40,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Latency of one crop through the router and both networks, in turns in one run; see `measure_calls`."""
    rng = np.random.default_rng(0)

    def crop(input_wh: tuple[int, int]) -> np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]:
        return rng.integers(0, 256, (1, input_wh[1], input_wh[0], 3), dtype=np.uint8)

    seen = {name: crop(e.contract.input_wh) for name, e in (("small", small), ("large", large))}
    routed = crop(router.contract.input_wh)
    return measure_calls(
        {
            "router": lambda step: router(routed),
            "small": lambda step: small.runtime.run(seen["small"]),
            "large": lambda step: large.runtime.run(seen["large"]),
        },
        rounds=rounds,
        clock=clock,
    )
