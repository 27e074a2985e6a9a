"""What routing easy persons to a small model and hard ones to a large one is worth: a page of the docs.

    python scripts/routing_page.py ROUTER:SMALL:LARGE … --judge val.json:images/ --transfer SMALL:LARGE … \\
      --formats ROUTER:SMALL:LARGE …

LARGE may be `flip`, the small model with a flip test. Every router is also tried on the other pairs and on
those of --transfer, without training. The page and its figure are written; nothing is trained and no file is changed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from calibration_page import table
from judging import PictureSet, read_sets
from made_by import anonymous_command
from numpy.typing import NDArray
from routing_formats import BETWEEN, formats_table

from probpose_cli.routed import OpenPair, RoutedFiles, multiply_adds, open_pair, parse_routed
from probpose_edge.atomic_write import write_bytes_atomically, write_text_atomically
from probpose_edge.routing.check_members import check_members
from probpose_edge.routing.router import Router
from probpose_edge.routing.router_contract import RouterContract
from probpose_edge.routing.running_share import RunningShare
from probpose_eval.annotations.coco import labelled_persons
from probpose_eval.benchmark.latency import Latency, describe_machine
from probpose_eval.metrics.bootstrap import Interval, Resampled
from probpose_eval.metrics.okd import okd, relative_gain
from probpose_eval.observations.observed_truth import observed_truth
from probpose_eval.routing.draw_routing import CurvePanel, draw_routing
from probpose_eval.routing.observe_pair import ObservedPair, observe_pair, router_scores
from probpose_eval.routing.routed_curve import (
    ROUTING_METRICS,
    CurveConfig,
    RoutedPoint,
    random_routing,
    route_metrics,
    routed_curve,
)
from probpose_eval.routing.routed_report import persons_of, time_networks
from probpose_eval.routing.routing_cost import Picture, RoutingCost, measure_routing_cost

CONFIG = CurveConfig()
_NAMES = {"plain": "as they are", "cropped": "cropped"}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Of the networks alone, and of routing at every share; multiply-adds of router, small and large model."""

    networks: dict[str, Latency]
    costs: tuple[RoutingCost, ...]
    macs: tuple[float, float, float] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Studied:
    """One pair: files, times, observations on each set and what random routing gives there.

    routers, scores: name of a router that fits → its contract, and set → its scores.
    """

    files: RoutedFiles
    timing: Timing | None
    observed: dict[str, ObservedPair]
    random: dict[str, dict[float, dict[str, Resampled]]]
    routers: dict[str, RouterContract]
    scores: dict[str, dict[str, NDArray[np.float64]]]

    @property
    def name(self) -> str:
        """Of the pair."""
        _, small, large = self.files.labels
        return f"{small} and {large.removeprefix(f'{small}, ')}"


def main() -> None:
    """Study every pair, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", type=parse_routed, metavar="ROUTER:SMALL:LARGE")
    parser.add_argument("--transfer", nargs="+", default=[], metavar="SMALL:LARGE", help="pairs without a router")
    parser.add_argument("--routers", nargs="+", default=[], type=Path, help="routers of no pair here, tried on all")
    parser.add_argument(
        "--formats", nargs="+", default=[], type=parse_routed, metavar="ROUTER:SMALL:LARGE", help="in other formats"
    )
    parser.add_argument("--judge", required=True, help="annotations.json:images/")
    parser.add_argument("--rounds", type=int, default=2, help="of the timing")
    parser.add_argument("--out", type=Path, default=Path("docs/results/routing.md"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/routing.png"))
    args = parser.parse_args()
    with ExitStack() as stack:
        opened = [stack.enter_context(open_pair(files, threads=1)) for files in args.pairs]
        sets = read_sets(args.judge, Path(stack.enter_context(tempfile.TemporaryDirectory())) / "cropped")
        pictures = persons_of(sets["plain"].annotations, sets["plain"].images)
        pairs = list(zip(args.pairs, opened, strict=True))
        routers = {files.router.name: pair.router for files, pair in pairs}
        routers |= {path.name: stack.enter_context(Router.open(path, threads=1)) for path in args.routers}
        # Times first, in one go: what follows takes longer.
        timed = [time_pair(files, pair, pictures, args.rounds) for files, pair in pairs]
        studied = [study(*pair, timing, routers, sets) for pair, timing in zip(pairs, timed, strict=True)]
        others = []
        for text in args.transfer:
            files = parse_routed(f"{args.pairs[0].router}:{text}")
            others.append(study(files, stack.enter_context(open_pair(files, threads=1)), None, routers, sets))
        curves = [curves_of(each, each.files.router.name, sets) for each in studied]
        panels = [
            [
                CurvePanel(
                    title=f"{each.name}, {_NAMES[name]}", points=points, ms=[cost.ms for cost in each.timing.costs]
                )
                for name, points in curve.items()
            ]
            for each, curve in zip(studied, curves, strict=True)
            if each.timing is not None
        ]
        write_bytes_atomically(args.figure, draw_routing(panels))
        source = f"{Path(args.judge.partition(':')[0]).name}"
        command = anonymous_command(sys.argv[1:], Path(__file__).name)
        formats = formats_table(args.formats, sets["plain"]) if args.formats else ""
        write_text_atomically(args.out, page(studied, curves, others, sets, formats, source, command))


def time_pair(files: RoutedFiles, pair: OpenPair, pictures: list[Picture], rounds: int) -> Timing:
    """Networks alone, then the whole way at every share."""
    macs = multiply_adds(files, pair)
    return Timing(
        networks=time_networks(pair.router, pair.small, pair.large, clock=time.process_time),
        costs=measure_routing_cost(
            pair.router, pair.small, pair.large, pictures, rounds=rounds, macs=macs, clock=time.process_time
        ),
        macs=macs,
    )


def study(
    files: RoutedFiles,
    pair: OpenPair,
    timing: Timing | None,
    routers: dict[str, Router],
    sets: dict[str, PictureSet],
) -> Studied:
    """Both models, every router that fits, and random routing, on both sets."""
    if timing is not None:
        check_members(pair.router, pair.small, pair.large)
    fit = {name: each for name, each in routers.items() if each.contract.padding == pair.large.contract.padding}
    observed = {
        name: observe_pair(pair.small, pair.large, data.annotations, data.images) for name, data in sets.items()
    }
    return Studied(
        files=files,
        timing=timing,
        observed=observed,
        random={name: random_routing(sets[name].annotations, seen, config=CONFIG) for name, seen in observed.items()},
        routers={name: router.contract for name, router in fit.items()},
        scores={
            name: {of: router_scores(router, data.annotations, data.images) for of, data in sets.items()}
            for name, router in fit.items()
        },
    )


def curves_of(studied: Studied, router: str, sets: dict[str, PictureSet]) -> dict[str, tuple[RoutedPoint, ...]]:
    """Set → curve of one router on a pair."""
    theta = studied.routers[router].theta
    return {
        name: routed_curve(
            data.annotations,
            studied.observed[name],
            studied.scores[router][name],
            studied.random[name],
            theta=theta,
            config=CONFIG,
        )
        for name, data in sets.items()
    }


def page(
    studied: Sequence[Studied],
    curves: Sequence[dict[str, tuple[RoutedPoint, ...]]],
    others: Sequence[Studied],
    sets: dict[str, PictureSet],
    formats: str,
    source: str,
    command: str,
) -> str:
    """The page as Markdown."""
    machine = describe_machine()
    persons = {name: len(labelled_persons(data.annotations)) for name, data in sets.items()}
    lines = [
        "# Routing",
        "",
        f"Judged on {source}, {persons['plain']} labelled persons, and on its cropped version, {persons['cropped']}, "
        "from true boxes; nothing was trained or chosen on them. OKS, AP and Ex-AP in points. *Random*: the expected "
        f"value of sending as many persons to the large model by lot (exact for the OKS, the mean of {CONFIG.draws} "
        "draws for AP and Ex-AP). *Routed − random* with 95 % intervals, paired over "
        f"{CONFIG.samples} bootstrap samples of the pictures. *Best*: those go to the large model whom it helps most "
        "by the truth, an upper bound that no router can know. What routing is: [routing](../routing.md).",
        "",
        f"Processor time on one thread of an {machine.processor} ({machine.system}): crops, router, networks and "
        "decode, mean over persons of the first pictures, taken as a stream, all shares in turn in one run.",
        "",
        "![Mean OKS against average cost](../images/routing.png)",
        "",
    ]
    for each, own in zip(studied, curves, strict=True):
        lines += [f"## {each.name}", "", _networks(each), ""]
        for name, points in own.items():
            lines += [f"Pictures {_NAMES[name]}, router {each.files.router.name}:", ""]
            lines += [_curve(points, each.timing.costs if each.timing else ()), ""]
            lines += [_verdict(points), ""]
    lines += ["## Which end of the scores", ""]
    lines += [
        "Persons of both sets in fifths by rising score: by the true one, `(D_s − D_l) / D_s`, and by the router's. "
        "What the large model adds to the OKS on average, in points.",
        "",
        _fifths([*studied, *others], sets),
        "",
    ]
    lines += ["## Other routers, without training", ""]
    lines += [
        "Each router on the pairs that it was not trained for: mean OKS, and routed − random. Crops are cut in its own "
        "size for this; `RoutedEstimator` takes routers of the size of either model only.",
        "",
    ]
    lines += [_transfers([*studied, *others], sets), ""]
    if formats:
        lines += [
            "## Formats",
            "",
            "Routers and members in several formats through `RoutedEstimator`, picture after picture as from a stream "
            "(pictures as they are); .mlpackage files are run by our own executor, which is a simulation. Scores and "
            "choices are compared with those of the first router, choices at the share of the whole set.",
            "",
            formats,
            "",
        ]
    lines += ["## Streams", ""]
    lines += [
        "The same persons one after another, in the order of the file, by running quantiles that start from those in "
        "the router's metadata, against sorting the scores of the whole set.",
        "",
        _streams(studied, curves, sets),
        "",
        f"`{command}`",
        "",
    ]
    return "\n".join(lines)


def _networks(each: Studied) -> str:
    if each.timing is None:
        return ""
    times = each.timing.networks
    words = []
    for index, name in enumerate(("router", "small", "large")):
        macs = "" if each.timing.macs is None else f", {each.timing.macs[index] / 1e6:.1f} M multiply-adds"
        words.append(f"{name} {times[name].median_ms:.2f} ms{macs}")
    share = times["router"].median_ms / times["small"].median_ms
    more = times["router"].median_ms / (times["large"].median_ms - times["small"].median_ms)
    ends = [each.random["plain"][end]["mean-OKS"].value for end in (0.0, 1.0)]
    return (
        f"Networks alone, one crop, medians in turns: {'; '.join(words)}. The router takes {share:.1%} of the small "
        f"model's time. Random routing needs none: for the same cost it could send {more:.1%} of the persons more, "
        f"worth {100 * more * (ends[1] - ends[0]):+.2f} points of mean OKS (as they are)."
    )


def _curve(points: Sequence[RoutedPoint], costs: Sequence[RoutingCost]) -> str:
    head = ["to the large one", "ms", "M multiply-adds"]
    for metric in ROUTING_METRICS:
        label = metric.replace("-OKS", " OKS")
        head += [label, "random", "routed − random", "best"]
    rows = []
    for point, cost in zip(points, costs, strict=True):
        row = [f"{point.share:.0%}", f"{cost.ms:.2f}", "–" if cost.macs is None else f"{cost.macs / 1e6:.0f}"]
        for metric in ROUTING_METRICS:
            row += [_points(point.routed[metric].value), _points(point.random[metric])]
            row += [_interval(point.gain[metric]) if point.share in BETWEEN else "", _points(point.best[metric])]
        rows.append(row)
    return table(head, rows)


def _verdict(points: Sequence[RoutedPoint]) -> str:
    between = [point for point in points if point.share in BETWEEN]
    words = []
    for metric in ROUTING_METRICS:
        above = [point for point in between if point.gain[metric].value > 0]
        sure = [point for point in between if point.gain[metric].low > 0]
        words.append(f"{metric} above random at {len(above)} of {len(between)} shares, told from chance at {len(sure)}")
    return f"Routed against random: {'; '.join(words)}."


def _fifths(studied: Sequence[Studied], sets: dict[str, PictureSet]) -> str:
    rows = []
    for each in studied:
        gains, true, said = [], [], []
        for name, data in sets.items():
            pair = each.observed[name]
            facts = [observed_truth(data.annotations, seen, pair.rule) for seen in (pair.small, pair.large)]
            truth = facts[0].truth
            distances = [
                okd(truth.keypoints, truth.areas, seen.keypoints, truth.sigmas) for seen in (pair.small, pair.large)
            ]
            gains.append(facts[1].person_oks - facts[0].person_oks)
            true.append(relative_gain(*distances))
            said.append(each.scores[each.files.router.name][name])
        gain = np.concatenate(gains)
        for what, scores in (("true", np.concatenate(true)), ("router's", np.concatenate(said))):
            fifths = np.array_split(np.argsort(scores, kind="stable"), 5)
            rows.append([each.name, what, *(f"{100 * gain[persons].mean():+.2f}" for persons in fifths)])
    return table(["pair", "score", "lowest", "second", "third", "fourth", "highest"], rows)


def _transfers(studied: Sequence[Studied], sets: dict[str, PictureSet]) -> str:
    rows = []
    for each in studied:
        for router in each.routers:
            if each.timing is not None and router == each.files.router.name:
                continue
            for name, points in curves_of(each, router, sets).items():
                for point in points:
                    if point.share in BETWEEN:
                        rows.append(
                            [router, each.name, _NAMES[name], f"{point.share:.0%}"]
                            + [_points(point.routed["mean-OKS"].value)]
                            + [_interval(point.gain[metric]) for metric in ROUTING_METRICS]
                        )
    head = ["router", "pair", "pictures", "share", "mean OKS", *(f"Δ {metric}" for metric in ROUTING_METRICS)]
    return table(head, rows) if rows else "There is one pair only."


def _streams(
    studied: Sequence[Studied],
    curves: Sequence[dict[str, tuple[RoutedPoint, ...]]],
    sets: dict[str, PictureSet],
) -> str:
    rows = []
    for each, own in zip(studied, curves, strict=True):
        router = each.files.router.name
        contract = each.routers[router]
        for name, data in sets.items():
            points = own[name]
            for share in BETWEEN:
                running = RunningShare(contract.score_quantiles, share=share, theta=contract.theta)
                scores = each.scores[router][name]
                sent = np.concatenate([running(scores[i : i + 1]) for i in range(len(scores))])
                found = route_metrics(data.annotations, each.observed[name], sent, CONFIG)
                chance = _by_lot(each.random[name], float(sent.mean()))
                rows.append(
                    [
                        each.name,
                        _NAMES[name],
                        f"{share:.0%}",
                        f"{sent.mean():.1%}",
                        _points(found["mean-OKS"].value),
                        _points(next(p for p in points if p.share == share).routed["mean-OKS"].value),
                        _interval(found["mean-OKS"].minus(chance)),
                    ]
                )
    return table(["pair", "pictures", "asked for", "sent", "mean OKS", "sorted", "− random at the share sent"], rows)


def _by_lot(random: dict[float, dict[str, Resampled]], share: float) -> Resampled:
    """Expected mean OKS of random routing at any share: between the shares 0 and 1 it is a straight line."""
    small, large = random[0.0]["mean-OKS"], random[1.0]["mean-OKS"]
    return Resampled(
        value=(1 - share) * small.value + share * large.value,
        samples=(1 - share) * small.samples + share * large.samples,
    )


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _interval(interval: Interval) -> str:
    value, low, high = (f"{100 * each:+.2f}" for each in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
