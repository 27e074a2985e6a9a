"""Accuracy of routing at every share, beside random routing of as many persons, and beside the best routing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.routing.route_sorted import route_sorted
from probpose_eval.annotations.coco import AnnotationSet
from probpose_eval.metrics.bootstrap import Interval, Resampled
from probpose_eval.metrics.resample_observations import resample_observations
from probpose_eval.observations.observed_truth import observed_truth
from probpose_eval.routing.observe_pair import ObservedPair

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
ROUTING_METRICS = ("mean-OKS", "AP", "Ex-AP")


@dataclass(frozen=True, kw_only=True)
class RoutedPoint:
    """Routing at one share, on one set; metrics are those of `ROUTING_METRICS`, in [0, 1].

    Attributes
    ----------
    share: of the persons, rounded up, who went to the large model.
    routed: metric → value with its 95 % interval over pictures. random: metric → expected value of random routing.
    gain: metric → routed - random, paired over the same pictures. best: metric → value if those go to the large model
        whom it helps most by the truth, an upper bound that no router knows (of AP nearly: it follows the OKS).
    """

    share: float
    routed: dict[str, Interval]
    random: dict[str, float]
    gain: dict[str, Interval]
    best: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class CurveConfig:
    """How curves are measured: random draws to take the mean of, bootstrap samples of the pictures, and a seed."""

    draws: int = 40
    samples: int = 400
    seed: int = 0


def routed_curve(
    annotations: AnnotationSet,
    pair: ObservedPair,
    scores: NDArray[np.float64],
    random: Mapping[float, Mapping[str, Resampled]],
    *,
    theta: float = 1.0,
    config: CurveConfig | None = None,
) -> tuple[RoutedPoint, ...]:
    """One point per share of `random`, which `random_routing` gives for the same pair, set and config.

    scores: (P,) of a router, see `router_scores`. theta: see `route_sorted`.
    """
    config = config or CurveConfig()
    facts = [observed_truth(annotations, seen, pair.rule) for seen in (pair.small, pair.large)]
    gains = {
        False: facts[1].person_oks - facts[0].person_oks,
        True: facts[1].person_ex_oks - facts[0].person_ex_oks,
    }
    points = []
    for share, expected in random.items():
        routed = route_metrics(annotations, pair, route_sorted(scores, share=share, theta=theta), config)
        best = {
            extended: route_metrics(annotations, pair, route_sorted(gain, share=share), config)
            for extended, gain in gains.items()
        }
        points.append(
            RoutedPoint(
                share=share,
                routed={name: each.interval() for name, each in routed.items()},
                random={name: each.value for name, each in expected.items()},
                gain={name: each.minus(expected[name]) for name, each in routed.items()},
                best={name: best[name.startswith("Ex-")][name].value for name in ROUTING_METRICS},
            )
        )
    return tuple(points)


def random_routing(
    annotations: AnnotationSet,
    pair: ObservedPair,
    *,
    shares: Sequence[float] = SHARES,
    config: CurveConfig | None = None,
) -> dict[float, dict[str, Resampled]]:
    """Share → metric → what is expected of sending as many persons, drawn at random, to the large model.

    Of the mean OKS it is exact, of AP and Ex-AP the mean over `CurveConfig.draws` draws.
    """
    config = config or CurveConfig()
    rng, n = np.random.default_rng(config.seed), len(pair.small)
    ends = [route_metrics(annotations, pair, np.full(n, large), config) for large in (False, True)]
    expected = {}
    for share in shares:
        count = int(route_sorted(np.zeros(n), share=share).sum())
        if count in (0, n):
            expected[share] = ends[count > 0]
            continue
        drawn = []
        for _ in range(config.draws):
            large = np.zeros(n, dtype=np.bool_)
            large[rng.permutation(n)[:count]] = True
            drawn.append(route_metrics(annotations, pair, large, config, metrics=("AP", "Ex-AP")))
        expected[share] = {
            "mean-OKS": _mean([ends[0]["mean-OKS"], ends[1]["mean-OKS"]], [n - count, count]),
            **{name: _mean([each[name] for each in drawn], [1] * config.draws) for name in ("AP", "Ex-AP")},
        }
    return expected


def route_metrics(
    annotations: AnnotationSet,
    pair: ObservedPair,
    large: NDArray[np.bool_],
    config: CurveConfig,
    *,
    metrics: Sequence[str] = ROUTING_METRICS,
) -> dict[str, Resampled]:
    """Metrics of one routing, given as a (P,) mask of who goes to the large model."""
    return resample_observations(
        annotations, pair.routed(large), rule=pair.rule, metrics=metrics, samples=config.samples, seed=config.seed
    )


def _mean(parts: Sequence[Resampled], weights: Sequence[int]) -> Resampled:
    return Resampled(
        value=float(np.average([part.value for part in parts], weights=weights)),
        samples=np.average([part.samples for part in parts], axis=0, weights=weights),
    )
