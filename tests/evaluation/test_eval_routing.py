"""Curves of routing: what they compare, and what must hold whatever the router says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import InputError, PoseEstimator, RoutedEstimator
from probpose_edge.routing.router_contract import RouterContract
from probpose_eval import EvaluationSet, load_evaluation_set, predict_set
from probpose_eval.annotations.coco import labelled_persons
from probpose_eval.evaluate import mean_oks
from probpose_eval.observations.observed_truth import observed_truth
from probpose_eval.pictures import read_picture
from probpose_eval.routing.draw_routing import CurvePanel, draw_routing
from probpose_eval.routing.observe_pair import ObservedPair, observe_pair, router_scores
from probpose_eval.routing.routed_curve import ROUTING_METRICS, SHARES, CurveConfig, random_routing, routed_curve
from probpose_eval.routing.routed_report import build_routed_report
from probpose_eval.routing.routing_cost import measure_routing_cost, routed_macs

CONFIG = CurveConfig(draws=6, samples=20)


class Brightness:
    """A router that scores crops by their brightness, and is closed by nobody."""

    def __init__(self, contract: RouterContract) -> None:
        self.contract = contract

    def __call__(self, crops: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return crops.mean(axis=(1, 2, 3)) / 255

    def close(self) -> None: ...


@pytest.fixture
def data(photographed: tuple[Path, Path]) -> EvaluationSet:
    return load_evaluation_set(*photographed, name="noise")


@pytest.fixture
def members(template_estimator: Callable[..., PoseEstimator]) -> tuple[PoseEstimator, PoseEstimator]:
    """A small model that is off by five cells, less sure, and has another threshold."""
    small = template_estimator(shift=5, presence=0.7, model="small", presence_threshold=0.8)
    return small, template_estimator(model="large")


@pytest.fixture
def router(members: tuple[PoseEstimator, PoseEstimator]) -> Brightness:
    return Brightness(
        RouterContract(
            model="bright",
            format="onnx",
            precision="fp32",
            recipe="fp32",
            input_wh=(192, 256),
            padding=1.25,
            small="small",
            large="large",
            keypoint_names=members[0].contract.keypoint_names,
            score_quantiles=(0.2, 0.5, 0.6),
            checkpoint_sha256="0" * 64,
            licence="Apache-2.0",
        )
    )


@pytest.fixture
def pair(members: tuple[PoseEstimator, PoseEstimator], data: EvaluationSet) -> ObservedPair:
    return observe_pair(*members, data.annotations, data.images_dir)


def test_a_routing_is_what_the_estimator_says(
    members: Any, router: Brightness, pair: ObservedPair, data: EvaluationSet
) -> None:
    routed = RoutedEstimator(router, *members, share=0.5)
    persons = labelled_persons(data.annotations)
    found, large = [], []
    for person in persons:
        picture = read_picture(data.images_dir, data.annotations.images[person.image_id])
        found.append(routed(picture, person.bbox_xyxy))
        assert routed.last_routing is not None
        large.append(routed.last_routing.large[0])
    assert 0 < sum(large) < len(large)
    seen = pair.routed(np.array(large))
    for name in ("keypoints", "presence", "quality", "scores"):
        said = np.concatenate([getattr(poses, name) for poses in found])
        np.testing.assert_allclose(getattr(seen, name), said, atol=1e-6)
    with pytest.raises(InputError, match="must say of each of the"):
        pair.routed(np.array(large[1:]))


def test_curves_begin_and_end_with_one_model_and_the_best_is_best(
    router: Brightness, pair: ObservedPair, data: EvaluationSet
) -> None:
    scores = router_scores(router, data.annotations, data.images_dir)
    random = random_routing(data.annotations, pair, config=CONFIG)
    points = routed_curve(data.annotations, pair, scores, random, config=CONFIG)
    assert [point.share for point in points] == list(SHARES)
    ends = [observed_truth(data.annotations, each, pair.rule).person_oks.mean() for each in (pair.small, pair.large)]
    for point, oks in ((points[0], ends[0]), (points[-1], ends[1])):
        assert point.routed["mean-OKS"].value == pytest.approx(oks)
        for metric in ROUTING_METRICS:
            assert point.gain[metric].value == point.gain[metric].low == point.gain[metric].high == 0
            assert point.best[metric] == point.routed[metric].value == point.random[metric]
    n = len(pair.small)
    for point in points[1:-1]:
        sent = np.ceil(n * point.share) / n
        assert point.random["mean-OKS"] == pytest.approx((1 - sent) * ends[0] + sent * ends[1])
        assert point.best["mean-OKS"] >= max(point.routed["mean-OKS"].value, point.random["mean-OKS"])
        assert point.gain["mean-OKS"].value == pytest.approx(point.routed["mean-OKS"].value - point.random["mean-OKS"])
    truth = [observed_truth(data.annotations, each, pair.rule).person_oks for each in (pair.small, pair.large)]
    perfect = routed_curve(data.annotations, pair, truth[1] - truth[0], random, config=CONFIG)
    for point in perfect:
        assert point.routed["mean-OKS"].value == pytest.approx(point.best["mean-OKS"])
    assert draw_routing([[CurvePanel(title="a", points=points, ms=range(5))] * 2] * 2).startswith(b"\x89PNG")


def test_costs_are_of_the_shares(members: Any, router: Brightness, data: EvaluationSet) -> None:
    report = build_routed_report(
        router,
        *members,
        {"plain": data},
        labels=("r", "s", "l"),
        config=CONFIG,
        macs=(1.0, 100.0, 400.0),
        rounds=1,
    )
    assert [cost.macs for cost in report.costs] == [100.0, 176.0, 251.0, 326.0, 400.0]
    assert [report.costs[0].sent, report.costs[-1].sent] == [0, 1]
    assert all(cost.ms > 0 for cost in report.costs)
    assert set(report.networks) == {"router", "small", "large"}
    assert [point.share for point in report.curves["plain"]] == list(SHARES)
    assert routed_macs(0.0, 7, 100, 400) == 100
    without = build_routed_report(router, *members, {}, labels=("r", "s", "l"))
    assert (without.costs, without.curves) == ((), {})
    assert measure_routing_cost(router, *members, [], rounds=1)[0].macs is None


def test_sets_are_predicted_with_a_routed_estimator(members: Any, router: Brightness, data: EvaluationSet) -> None:
    alone = [predict_set(member, data.annotations, data.images_dir) for member in members]
    results = predict_set(RoutedEstimator(router, *members, share=0.5), data.annotations, data.images_dir)
    means = [mean_oks(data.annotations, each).mean for each in (alone[0], results, alone[1])]
    assert means[0] < means[1] < means[2]
