"""What both models of a pair and a router say of every person of a set."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_edge.routing.router import Routes
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons
from probpose_eval.metrics.oks import OksRule
from probpose_eval.observations.observe import Observations, observe_set
from probpose_eval.observations.observed_results import scores_at
from probpose_eval.predict import Progress, iterate_crops


@dataclass(frozen=True, kw_only=True, eq=False)
class ObservedPair:
    """Both models on the same P persons, at one presence threshold, and the rule by which they are judged."""

    small: Observations
    large: Observations
    rule: OksRule

    def routed(self, large: NDArray[np.bool_]) -> Observations:
        """What a `probpose_edge.RoutedEstimator` says that sends the persons marked in the (P,) mask to the large one.

        Raises `InputError` for a mask of another shape.
        """
        if large.shape != (len(self.small),):
            raise InputError(
                f"A routing must say of each of the {len(self.small)} persons who estimates it, got {large.shape}. "
                "Route the scores of this very set."
            )
        threshold = self.rule.presence_threshold
        small, other = (
            dataclasses.replace(each, scores=scores_at(each, threshold), scores_hold=True)
            for each in (self.small, self.large)
        )
        chosen: dict[str, Any] = {
            field.name: np.where(large.reshape(-1, *(1,) * (values.ndim - 1)), getattr(other, field.name), values)
            for field in dataclasses.fields(small)
            if isinstance(values := getattr(small, field.name), np.ndarray)
        }
        return dataclasses.replace(small, **chosen)


def observe_pair(
    small: PoseEstimator,
    large: PoseEstimator,
    annotations: AnnotationSet,
    images_dir: str | os.PathLike[str],
    *,
    definition: str = "paper",
    progress: Progress | None = None,
) -> ObservedPair:
    """Run both models from the true boxes, each on crops of its own size, at the presence threshold of the large one.

    definition: of Ex-OKS, see `OksRule`. Raises as `observe_set`.
    """
    contract, threshold = large.contract, large.presence_threshold
    alike = PoseEstimator(small.runtime, small.contract, presence_threshold=threshold)
    observed = [seen for seen, _ in observe_set([alike, large], annotations, images_dir, progress=progress)]
    rule = OksRule(
        definition=definition,
        presence_threshold=threshold,
        padding=contract.activation_padding,
        input_wh=contract.input_wh,
    )
    return ObservedPair(small=observed[0], large=observed[1], rule=rule)


def router_scores(
    router: Routes, annotations: AnnotationSet, images_dir: str | os.PathLike[str]
) -> NDArray[np.float64]:
    """(P,) scores of the labelled persons, in the order of `labelled_persons`; raises as `observe_set`."""
    contract, found = router.contract, dict[int, float]()
    for batch in iterate_crops(annotations, images_dir, input_wh=contract.input_wh, padding=contract.padding):
        found.update(zip((person.id for person in batch.persons), router(batch.crops), strict=True))
    return np.array([found[person.id] for person in labelled_persons(annotations)], dtype=np.float64)
