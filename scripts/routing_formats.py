"""Routers and members in several formats and precisions, through `RoutedEstimator` as a user runs it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from calibration_page import table
from judging import PictureSet
from numpy.typing import NDArray

from probpose_cli.routed import OpenPair, RoutedFiles, open_pair
from probpose_edge import RoutedEstimator
from probpose_edge.routing.route_sorted import route_sorted
from probpose_eval.annotations.coco import labelled_persons
from probpose_eval.evaluate import truth_arrays
from probpose_eval.metrics.confidence_scores import rank_correlation
from probpose_eval.metrics.oks import oks
from probpose_eval.pictures import read_picture
from probpose_eval.routing.observe_pair import router_scores

BETWEEN = (0.25, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ran:
    """One run over a set: the OKS of every person, who went to the large model, and failures."""

    oks: NDArray[np.float64]
    large: NDArray[np.bool_]
    failures: int


def formats_table(chosen: Sequence[RoutedFiles], data: PictureSet) -> str:
    """A row per router and members; the router of the first row is what the others are compared with."""
    first: NDArray[np.float64] | None = None
    rows = []
    for files in chosen:
        with open_pair(files, threads=1) as pair:
            scores = router_scores(pair.router, data.annotations, data.images)
            first = scores if first is None else first
            small, large = (run(pair, share, data) for share in (0.0, 1.0))
            row = [
                *files.labels,
                f"{np.abs(scores - first).max():.4f}",
                f"{rank_correlation(scores, first):.4f}",
            ]
            same = [(route_sorted(scores, share=s) == route_sorted(first, share=s)).mean() for s in BETWEEN]
            row.append(", ".join(f"{part:.1%}" for part in same))
            for share in BETWEEN:
                ran = run(pair, share, data)
                part = ran.large.mean()
                lot = (1 - part) * small.oks.mean() + part * large.oks.mean()
                row.append(f"{100 * ran.oks.mean():.1f} ({100 * (ran.oks.mean() - lot):+.2f} at {part:.0%})")
                if ran.failures:
                    raise RuntimeError(f"{files.labels}: {ran.failures} failures at run time")
            rows.append(row)
    head = ["router", "small", "large", "scores off by at most", "rank correlation", "same choice at 25, 50, 75%"]
    return table([*head, *(f"mean OKS at {share:.0%} (− random at the share sent)" for share in BETWEEN)], rows)


def run(pair: OpenPair, share: float, data: PictureSet) -> Ran:
    """A `RoutedEstimator` over all pictures of a set, one after the other as from a stream, from the true boxes."""
    persons = labelled_persons(data.annotations)
    truth = truth_arrays(persons, data.annotations)
    by_picture: dict[int, list[int]] = {}
    for index, person in enumerate(persons):
        by_picture.setdefault(person.image_id, []).append(index)
    found, large, failures = np.zeros(len(persons)), np.zeros(len(persons), dtype=np.bool_), 0
    estimator = RoutedEstimator(pair.router, pair.small, pair.large, share=share)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # counted
        for image_id, rows in by_picture.items():
            own = truth.select(np.array(rows, dtype=np.intp))
            poses = estimator(read_picture(data.images, data.annotations.images[image_id]), own.boxes_xyxy)
            keypoints = np.concatenate([poses.keypoints, poses.presence[..., None]], axis=2).astype(np.float64)
            found[rows] = oks(own.keypoints, own.boxes_xyxy, own.areas, keypoints, own.sigmas)
            assert estimator.last_routing is not None  # a call has just been made
            large[rows] = estimator.last_routing.large
            failures += len(estimator.last_routing.failures)
    return Ran(oks=found, large=large, failures=failures)
