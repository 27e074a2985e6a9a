"""Run one model over annotated sets and keep what calibration needs: maps of present keypoints, presence, quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probpose_edge import PoseEstimator, RawOutputs, image_to_cells
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_edge.window import scale_windows
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons
from probpose_eval.calibration.fit_coverage import MapSamples
from probpose_eval.calibration.quality_samples import QualitySamples
from probpose_eval.metrics.oks import OksRule, Truth, keypoint_oks
from probpose_eval.metrics.presence import presence_truth
from probpose_eval.metrics.presence_reliability import PresenceSamples
from probpose_eval.predict import iterate_crops

LARGEST_MAP_SAMPLE = 4096
"""Maps that are kept: 50 MB. More change the fitted numbers by less than pictures do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PicturedSet:
    """Annotations with the folder of their pictures. A picture and its cropped version have the same image id."""

    annotations: AnnotationSet
    images_dir: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationSamples:
    """What one model said about some sets.

    Attributes
    ----------
    maps: present keypoints, at most `LARGEST_MAP_SAMPLE` of them. presence: all keypoints whose presence is known.
    quality: all present keypoints.
    persons, pictures: how many persons were run, and from how many pictures.
    """

    maps: MapSamples
    presence: PresenceSamples
    quality: QualitySamples
    persons: int
    pictures: int


def collect_samples(
    estimator: PoseEstimator,
    sets: Sequence[PicturedSet],
    *,
    batch: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationSamples:
    """Run a model over every labelled person of the sets, from the true boxes.

    Which maps are kept is drawn at random, alike in every run. progress: called with (persons done, persons in all).
    Raises as `predict_set`, and `InputError` for a model without probability maps and presence.
    """
    contract = estimator.contract
    if contract.map_kind != "probability":
        raise InputError(
            f"Calibration needs probability maps and presence, but {contract.model} is a plain heatmap network and has "
            "neither. Use a ProbPose model."
        )
    if contract.output_kind == "decoded":
        raise InputError(
            f"Calibration needs maps, but this file of {contract.model} decodes them inside. Calibrate the checkpoint "
            "and convert it again with --decoded."
        )
    for each in sets:
        if each.annotations.keypoint_names != contract.keypoint_names:
            raise AnnotationError(
                f"A model must have the keypoints of the set ({', '.join(each.annotations.keypoint_names)}), but "
                f"{contract.model} has {', '.join(contract.keypoint_names)}. Use a matching set."
            )
    chosen = _choose_maps([len(labelled_persons(each.annotations)) for each in sets], sets, estimator)
    parts: list[_Part] = []
    total, done = sum(len(rows) for rows in chosen), 0
    for each, keep in zip(sets, chosen, strict=True):
        row_of = {person.id: row for row, person in enumerate(labelled_persons(each.annotations))}
        for crops in iterate_crops(
            each.annotations, each.images_dir, input_wh=contract.input_wh, padding=contract.padding, batch=batch
        ):
            raw = estimator.runtime.run(crops.crops)
            found = estimator.decode_outputs(raw, crops.windows).keypoints
            rows = [row_of[person.id] for person in crops.persons]
            truth = _truth(each.annotations, rows, estimator)
            cells = image_to_cells(
                truth.keypoints[..., :2], scale_windows(crops.windows, contract.window_ratio), contract.heatmap_wh
            )
            pictures = np.array([person.image_id for person in crops.persons], dtype=np.int64)
            known = presence_truth(truth, padding=contract.activation_padding, input_wh=contract.input_wh)
            parts.append(
                _part(raw, cells, keypoint_oks(truth, found, OksRule(), known[0]), pictures, keep[rows], known)
            )
            done += len(rows)
            if progress is not None:
                progress(done, total)
    if not parts:
        raise AnnotationError(
            "Calibration needs labelled persons, but the set has none. Give a set with keypoints that have v = 1 or 2."
        )
    return _join(parts, done)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    maps: MapSamples
    presence: PresenceSamples
    quality: QualitySamples


def _part(
    raw: RawOutputs,
    points_cell: NDArray[np.float64],
    oks: NDArray[np.float64],
    pictures: NDArray[np.int64],
    keep: NDArray[np.bool_],
    known: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> _Part:
    logits, presence, quality = raw.logits, raw.presence, raw.quality
    assert presence is not None  # a probability model has both
    assert quality is not None
    height, width = logits.shape[2:]
    n, k = np.nonzero(keep)
    cell = np.clip(np.rint(points_cell[n, k]).astype(np.intp), 0, (width - 1, height - 1))
    maps = MapSamples(
        logits=logits[n, k].reshape(len(n), height * width).astype(np.float32),
        cells=cell[:, 1] * width + cell[:, 0],
        pictures=pictures[n],
    )
    present, absent = known
    n, k = np.nonzero(present)
    reached = QualitySamples(said=quality[n, k].astype(np.float64), oks=oks[n, k], keypoint=k, pictures=pictures[n])
    n, k = np.nonzero(present | absent)
    return _Part(
        maps=maps,
        quality=reached,
        presence=PresenceSamples(
            probability=presence[n, k].astype(np.float64), present=present[n, k], keypoint=k, pictures=pictures[n]
        ),
    )


def _choose_maps(
    counts: Sequence[int], sets: Sequence[PicturedSet], estimator: PoseEstimator
) -> list[NDArray[np.bool_]]:
    """Per set, (persons, K): the present keypoints whose maps are kept."""
    contract = estimator.contract
    present = [
        presence_truth(
            _truth(each.annotations, range(count), estimator),
            padding=contract.activation_padding,
            input_wh=contract.input_wh,
        )[0]
        for each, count in zip(sets, counts, strict=True)
        if count
    ]
    if not present:
        return [np.zeros((0, len(each.annotations.keypoint_names)), dtype=np.bool_) for each in sets]
    together = np.concatenate(present)
    index = np.flatnonzero(together)
    if len(index) > LARGEST_MAP_SAMPLE:
        together[:] = False
        together.reshape(-1)[np.random.default_rng(0).choice(index, LARGEST_MAP_SAMPLE, replace=False)] = True
    return np.split(together, np.cumsum(counts)[:-1])


def _truth(annotations: AnnotationSet, rows: Sequence[int], estimator: PoseEstimator) -> Truth:
    """Some labelled persons as arrays, with the sigmas of the model."""
    everyone = labelled_persons(annotations)
    persons = [everyone[row] for row in rows]
    return Truth(
        keypoints=np.stack([person.keypoints for person in persons]),
        boxes_xyxy=np.stack([person.bbox_xyxy for person in persons]),
        areas=np.array([person.area for person in persons]),
        sigmas=estimator.contract.sigmas,
    )


def _join(parts: Sequence[_Part], persons: int) -> CalibrationSamples:
    maps, presence, quality = ([getattr(part, name) for part in parts] for name in ("maps", "presence", "quality"))
    return CalibrationSamples(
        maps=MapSamples(
            logits=np.concatenate([part.logits for part in maps]),
            cells=np.concatenate([part.cells for part in maps]),
            pictures=np.concatenate([part.pictures for part in maps]),
        ),
        presence=PresenceSamples(
            probability=np.concatenate([part.probability for part in presence]),
            present=np.concatenate([part.present for part in presence]),
            keypoint=np.concatenate([part.keypoint for part in presence]),
            pictures=np.concatenate([part.pictures for part in presence]),
        ),
        quality=QualitySamples(
            said=np.concatenate([part.said for part in quality]),
            oks=np.concatenate([part.oks for part in quality]),
            keypoint=np.concatenate([part.keypoint for part in quality]),
            pictures=np.concatenate([part.pictures for part in quality]),
        ),
        persons=persons,
        pictures=len({int(i) for part in presence for i in np.unique(part.pictures)}),
    )
