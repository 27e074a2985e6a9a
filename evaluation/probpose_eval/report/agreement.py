"""Whether int8 files of one network agree with each other, whatever they cost."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from probpose_edge import PoseEstimator
from probpose_edge.runtimes.base import RawOutputs, outputs_from
from probpose_eval.evaluation_set import EvaluationSet
from probpose_eval.observations.observe import map_drift
from probpose_eval.predict import iterate_crops
from probpose_eval.report.report import PairAgreement

CROPS = 32
"""Of the first persons of a set; each has a map and a probability per keypoint."""


def pair_agreements(estimators: Mapping[str, PoseEstimator], data: EvaluationSet | None) -> tuple[PairAgreement, ...]:
    """Of every two int8 files among the estimators (by label) with outputs alike; empty without a set or persons."""
    chosen = {label: each for label, each in estimators.items() if each.contract.precision == "int8"}
    pairs = [pair for pair in combinations(chosen, 2) if _alike(*(chosen[label] for label in pair))]
    if data is None or not pairs:
        return ()
    answers: dict[str, tuple[int, RawOutputs]] = {}
    for label in dict.fromkeys(label for pair in pairs for label in pair):
        runtime, contract = chosen[label].runtime, chosen[label].contract
        batch = next(
            iterate_crops(
                data.annotations, data.images_dir, input_wh=contract.input_wh, padding=contract.padding, batch=CROPS
            ),
            None,
        )
        if batch is None:
            return ()
        # A runtime may reuse its buffers.
        raw = {name: values.copy() for name, values in runtime.run(batch.crops).named().items()}
        answers[label] = len(batch.crops), outputs_from(raw)
    found = []
    for first, second in pairs:
        (crops, one), (_, other) = answers[first], answers[second]
        maps = map_drift(one, chosen[first].contract, other, chosen[second].contract)
        presence = (each.presence for each in (one, other))
        shift = [np.abs(a.astype(np.float64) - b).mean() for a, b in (presence,) if a is not None and b is not None]
        found.append(
            PairAgreement(
                first=first,
                second=second,
                crops=crops,
                overlap=None if maps is None else float(maps.overlap.mean()),
                presence=float(shift[0]) if shift else None,
            )
        )
    return tuple(found)


def _alike(first: PoseEstimator, second: PoseEstimator) -> bool:
    a, b = first.contract, second.contract
    return all(
        getattr(a, name) == getattr(b, name) for name in ("input_wh", "padding", "output_names", "keypoint_names")
    )
