"""AP, AR, Ex-AP and Ex-AR over some of the keypoints, and what the scores contribute to AP."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probpose_eval.annotations.coco import AnnotationSet
from probpose_eval.evaluate import WHOLE, Way, match_set
from probpose_eval.metrics.average_precision import precision_and_recall
from probpose_eval.metrics.model_scores import PrecisionScores, ScoreGap
from probpose_eval.metrics.oks import OksRule
from probpose_eval.results import ResultArrays


def precision_scores(
    annotations: AnnotationSet, results: ResultArrays, rule: OksRule, ways: Sequence[Way] = (WHOLE,)
) -> tuple[PrecisionScores, ...]:
    """One per way to count; None where nobody is to be found."""
    figures: list[list[tuple[float | None, float | None]]] = []
    for extended in (False, True):
        matches = match_set(annotations, results, rule=dataclasses.replace(rule, extended=extended), ways=ways)
        curves = (precision_and_recall(matches, column) for column in range(len(ways)))
        figures.append(
            [(None, None) if curve is None else (float(curve[0].mean()), float(curve[1].mean())) for curve in curves]
        )
    return tuple(
        PrecisionScores(ap=ap, ar=ar, ex_ap=ex_ap, ex_ar=ex_ar)
        for (ap, ar), (ex_ap, ex_ar) in zip(*figures, strict=True)
    )


def score_gaps(
    annotations: AnnotationSet,
    results: ResultArrays,
    rule: OksRule,
    oks: NDArray[np.float64],
    ex_oks: NDArray[np.float64],
) -> tuple[ScoreGap, ScoreGap]:
    """What another score would change, for AP and for Ex-AP; oks, ex_oks: (N,) of each result with its own person."""

    def scored(scores: NDArray[np.float64]) -> PrecisionScores:
        return precision_scores(annotations, dataclasses.replace(results, scores=scores), rule)[0]

    as_said, constant = scored(results.scores), scored(np.ones(len(oks)))
    return (
        ScoreGap(as_said=as_said.ap, constant=constant.ap, true_oks=scored(oks).ap),
        ScoreGap(as_said=as_said.ex_ap, constant=constant.ex_ap, true_oks=scored(ex_oks).ex_ap),
    )
