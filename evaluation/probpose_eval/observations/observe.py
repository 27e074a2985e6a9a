"""What models say of a set, in one pass over its crops: poses, how maps hold the truth, how maps differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge import ModelContract, PoseEstimator, Poses, RawOutputs, image_to_cells, poses_to_coco
from probpose_edge.estimator import PERSONS_AT_ONCE
from probpose_edge.exceptions import InputError
from probpose_edge.probabilities.calibrated_maps import LOST_SHARE_KEY, TEMPERATURE_KEY, calibrated_maps, softmax_rows
from probpose_edge.runtimes.base import outputs_from
from probpose_edge.window import scale_windows
from probpose_eval.annotations.coco import AnnotationSet, Person, labelled_persons
from probpose_eval.annotations.windows import inside_windows
from probpose_eval.metrics.coverage import Standing, standing
from probpose_eval.predict import CropBatch, Progress, check_keypoints, iterate_crops

_HEATMAP_FLOOR = 1e-6
"""Added to plain heatmaps, whose values are in [0, 1], so that the logarithm of a normalised one is finite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Observations:
    """What one model said of P persons with K keypoints, from their true boxes, in the order of `labelled_persons`.

    Attributes
    ----------
    annotation_ids, image_ids: (P,) int64.
    boxes_xyxy: (P, 4) float64 px, the true boxes. windows: (P, 4) float64 px ``[center_x, center_y, width, height]``,
        the model's activation windows.
    keypoints: (P, K, 2) float64 px.
    presence, visibility, quality, expected_oks: (P, K) float64, as in `probpose_edge.Poses`.
    scores: (P,) float64, at `presence_threshold`, that of the estimator; `scores_hold`: they are those at any other
        threshold, too, because they come from the scores in the metadata of the file.
    standing: (P, K) float64, probability mass of the smallest credible region (see
        `probpose_edge.calibrated_maps`) that reaches the true place, its whole cell included; NaN where the truth is
        not labelled or lies outside the window, and everywhere for maps that are not calibrated.
    standing_own: (P, K) float64, how much of that is the mass of the true cell itself and of those exactly as
        probable: `map_standing` counts them in part.
    """

    annotation_ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    windows: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    presence: NDArray[np.float64]
    visibility: NDArray[np.float64]
    quality: NDArray[np.float64]
    expected_oks: NDArray[np.float64]
    scores: NDArray[np.float64]
    standing: NDArray[np.float64]
    standing_own: NDArray[np.float64]
    presence_threshold: float
    scores_hold: bool = False

    def __len__(self) -> int:
        return len(self.annotation_ids)


@dataclass(frozen=True, kw_only=True, eq=False)
class MapDrift:
    """How far one model's maps are from the reference's.

    Attributes
    ----------
    kl: (P, K) float64, Kullback-Leibler divergence of the model's map from the reference's, nats, sum of
        ``p log(p / q)`` over the cells with p of the reference and q of the model.
    overlap: (P, K) float64 in [0, 1], sum over the cells of the smaller of the two probabilities.
    """

    kl: NDArray[np.float64]
    overlap: NDArray[np.float64]


def observe_set(
    estimators: Sequence[PoseEstimator],
    annotations: AnnotationSet,
    images_dir: str | os.PathLike[str],
    *,
    reference: int | None = None,
    batch: int = 16,
    progress: Progress | None = None,
) -> list[tuple[Observations, MapDrift | None]]:
    """Run models over every labelled person, from the true boxes; per model what it said, and its drift.

    Pictures are read and cut once for models that cut alike, and no map outlives its batch. reference: index of the
    model that the maps of the others are compared with. The drift is None for the reference itself, without one, and
    where maps have nothing in common: other crops, windows, cells or kinds of maps, or none, of a file that decodes
    inside. Probability maps are compared as `calibrated_maps` if both models carry its numbers, else both as softmax of
    the logits at the temperature of the reference; plain heatmaps by their shares. progress: called with (persons done,
    persons in all).

    Raises as `probpose_eval.predict.predict_set`, and `InputError` for a reference that is no index of a model.
    """
    if reference is not None and not 0 <= reference < len(estimators):
        raise InputError(
            f"The reference must be the index of one of the {len(estimators)} models, got {reference}. Count from 0."
        )
    check_keypoints(estimators, annotations)
    persons = labelled_persons(annotations)
    cuts = list(dict.fromkeys((e.contract.input_wh, e.contract.padding) for e in estimators))
    total, done = len(persons) * len(cuts), 0
    parts: list[list[_Part]] = [[] for _ in estimators]
    base = None if reference is None else estimators[reference]
    for input_wh, padding in cuts:
        # The reference goes first, so that its maps are there for the others.
        alike = [
            i for i, e in enumerate(estimators) if (e.contract.input_wh, e.contract.padding) == (input_wh, padding)
        ]
        alike.sort(key=lambda index: index != reference)
        for crops in iterate_crops(
            annotations, images_dir, input_wh=input_wh, padding=padding, batch=min(batch, PERSONS_AT_ONCE)
        ):
            raw_of_base: RawOutputs | None = None
            for index in alike:
                estimator = estimators[index]
                raw = estimator.runtime.run(crops.crops)
                poses = estimator.decode_outputs(raw, crops.windows, boxes_xyxy=crops.boxes_xyxy)
                drift = None
                if index == reference:
                    raw_of_base = _copy(raw)
                elif raw_of_base is not None and base is not None:
                    drift = map_drift(raw_of_base, base.contract, raw, estimator.contract)
                reached, own = _standing(raw, crops, estimator.contract)
                parts[index].append(
                    _Part(persons=crops.persons, poses=poses, standing=reached, standing_own=own, drift=drift)
                )
            done += len(crops.persons)
            if progress is not None:
                progress(done, total)
    return [_join(rows, persons, estimator) for rows, estimator in zip(parts, estimators, strict=True)]


def results_of(observations: Observations, category_id: int = 1) -> list[dict[str, Any]]:
    """COCO results with ``annotation_id``, as `probpose_eval.predict.predict_set` gives them."""
    poses = Poses(
        keypoints=observations.keypoints,
        presence=observations.presence,  # type: ignore[arg-type]  # float32 values in float64
        visibility=observations.visibility,  # type: ignore[arg-type]
        quality=observations.quality,  # type: ignore[arg-type]
        expected_oks=observations.expected_oks,  # type: ignore[arg-type]
        boxes=observations.boxes_xyxy,
        windows=observations.windows,
        scores=observations.scores,  # type: ignore[arg-type]
        presence_threshold=observations.presence_threshold,
    )
    return [
        {**result, "image_id": int(image_id), "annotation_id": int(annotation_id)}
        for result, image_id, annotation_id in zip(
            poses_to_coco(poses, image_id=0, category_id=category_id),
            observations.image_ids,
            observations.annotation_ids,
            strict=True,
        )
    ]


def map_standing(observations: Observations, chosen: NDArray[np.bool_] | None = None) -> Standing:
    """Where the keypoints stand in their maps, for `metrics.coverage.coverage`; those of a (P, K) mask or all.

    Keypoints without a standing are left out. Its numbers of cells are not known and 0: it cannot be spread again.
    """
    known = np.isfinite(observations.standing)
    some = known if chosen is None else known & chosen
    own, reached = observations.standing_own[some], observations.standing[some]
    none = np.zeros(len(own), dtype=np.int64)
    return Standing(above=reached - own, own=own, cells_above=none, cells_own=none, cells=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    persons: tuple[Person, ...]
    poses: Poses
    standing: NDArray[np.float64]
    standing_own: NDArray[np.float64]
    drift: MapDrift | None


def _standing(
    raw: RawOutputs, crops: CropBatch, contract: ModelContract
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, K) twice, see `Observations`."""
    truth = np.stack([person.keypoints for person in crops.persons])
    reached, own = np.full(truth.shape[:2], np.nan), np.full(truth.shape[:2], np.nan)
    if not _is_calibrated(contract):
        return reached, own
    windows = scale_windows(crops.windows, contract.window_ratio)
    n, k = np.nonzero(np.isin(truth[..., 2], (1, 2)) & inside_windows(truth[..., :2], windows))
    width, height = contract.heatmap_wh
    place = np.rint(image_to_cells(truth[..., :2], windows, contract.heatmap_wh)[n, k]).astype(np.intp)
    place = np.clip(place, 0, (width - 1, height - 1))
    maps = calibrated_maps(raw.logits, contract)[n, k].reshape(len(n), height * width)
    found = standing(maps, place[:, 1] * width + place[:, 0])
    reached[n, k], own[n, k] = found.above + found.own, found.own
    return reached, own


def _is_calibrated(contract: ModelContract) -> bool:
    gives_maps = contract.map_kind == "probability" and contract.output_kind == "logits"
    return gives_maps and {TEMPERATURE_KEY, LOST_SHARE_KEY} <= set(contract.calibration)


def _comparable(reference: ModelContract, other: ModelContract) -> bool:
    if "decoded" in (reference.output_kind, other.output_kind):
        return False
    return all(getattr(reference, name) == getattr(other, name) for name in ("map_kind", "heatmap_wh", "window_ratio"))


def map_drift(reference: RawOutputs, base: ModelContract, raw: RawOutputs, contract: ModelContract) -> MapDrift | None:
    """Between the answers of two models to the same crops; None where their maps have nothing in common.

    Maps are compared as `observe_set` says; base, contract: of the reference and of the other model.
    """
    if not _comparable(base, contract):
        return None
    if base.map_kind == "heatmap":
        p, q = (_heatmap_shares(each.logits) for each in (reference, raw))
    elif _is_calibrated(base) and _is_calibrated(contract):
        p, q = calibrated_maps(reference.logits, base), calibrated_maps(raw.logits, contract)
    else:
        p, q = (_softmax(each.logits, base.temperature) for each in (reference, raw))
    n, k = p.shape[:2]
    return compare_maps(p.reshape(n, k, -1), q.reshape(n, k, -1))


def compare_maps(reference: NDArray[np.float32], other: NDArray[np.float32]) -> MapDrift:
    """Divergence and overlap of (N, K, C) maps with sum 1; cells of `other` that are 0 count as the smallest float."""
    smallest = np.finfo(np.float32).tiny
    ratio = np.log(np.maximum(reference, smallest)) - np.log(np.maximum(other, smallest))
    # The sum cannot be negative, but for rounding.
    return MapDrift(
        kl=np.maximum(np.einsum("nkc,nkc->nk", reference, ratio, dtype=np.float64), 0),
        overlap=np.clip(np.minimum(reference, other).sum(axis=-1, dtype=np.float64), 0, 1),
    )


def _softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    n, k, height, width = logits.shape
    return softmax_rows(logits.reshape(n * k, height * width), temperature).reshape(logits.shape)


def _heatmap_shares(heatmaps: NDArray[np.float32]) -> NDArray[np.float32]:
    positive = np.maximum(heatmaps, 0) + np.float32(_HEATMAP_FLOOR)
    return np.asarray(positive / positive.sum(axis=(2, 3), keepdims=True), dtype=np.float32)


def _copy(raw: RawOutputs) -> RawOutputs:
    """Outputs of one's own: runtimes may reuse their buffers."""
    return outputs_from({name: values.copy() for name, values in raw.named().items()})


def _join(
    parts: Sequence[_Part], persons: Sequence[Person], estimator: PoseEstimator
) -> tuple[Observations, MapDrift | None]:
    """The parts one after another, in the order of the persons."""
    k = len(estimator.contract.keypoint_names)
    place = {person.id: index for index, person in enumerate(persons)}
    order = np.argsort([place[person.id] for part in parts for person in part.persons])

    def ordered(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        rows = [np.zeros((0, *shape)), *(getattr(part.poses, name) for part in parts)]
        return np.concatenate(rows).astype(np.float64)[order.astype(np.intp)]

    def gathered(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.concatenate([np.zeros((0, k)), *values])[order.astype(np.intp)]

    drifts = [part.drift for part in parts if part.drift is not None]
    observations = Observations(
        annotation_ids=np.array([person.id for person in persons], dtype=np.int64),
        image_ids=np.array([person.image_id for person in persons], dtype=np.int64),
        boxes_xyxy=ordered("boxes", (4,)),
        windows=ordered("windows", (4,)),
        keypoints=ordered("keypoints", (k, 2)),
        presence=ordered("presence", (k,)),
        visibility=ordered("visibility", (k,)),
        quality=ordered("quality", (k,)),
        expected_oks=ordered("expected_oks", (k,)),
        scores=ordered("scores", ()),
        standing=gathered([part.standing for part in parts]),
        standing_own=gathered([part.standing_own for part in parts]),
        presence_threshold=estimator.presence_threshold,
        scores_hold=bool(estimator.contract.scores),
    )
    if not drifts:
        return observations, None
    return observations, MapDrift(
        kl=gathered([drift.kl for drift in drifts]), overlap=gathered([drift.overlap for drift in drifts])
    )
