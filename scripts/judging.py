"""Judge estimates on a set and on its cropped version, with intervals: what the scripts behind docs/results share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.estimator import PoseEstimator
from probpose_edge.poses import instance_scores
from probpose_eval.annotations.coco import AnnotationSet, Person, labelled_persons, read_annotations
from probpose_eval.annotations.crop_set import write_crop_set
from probpose_eval.metrics.best_threshold import best_threshold as threshold_with_largest_ex_ap
from probpose_eval.metrics.bootstrap import Interval, Resampled, resample
from probpose_eval.metrics.oks import OksRule
from probpose_eval.metrics.presence import presence_accuracy
from probpose_eval.pictures import read_picture
from probpose_eval.predict import iterate_crops

METRICS = ("mean-OKS", "mean-Ex-OKS", "AP", "Ex-AP")
Result = dict[str, Any]
PersonEstimator = Callable[[NDArray[np.uint8], NDArray[np.float64]], NDArray[np.float64]]
"""Picture (H, W, 3) uint8 BGR and box (4,) px → (K, 3): x, y in px and a confidence."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureSet:
    """Annotations and the folder of their pictures."""

    annotations: AnnotationSet
    images: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimates:
    """Keypoints (N, K, 2) px, presence and quality (N, K) of N labelled persons, from their true boxes."""

    persons: tuple[Person, ...]
    keypoints: NDArray[np.float64]
    presence: NDArray[np.float64]
    quality: NDArray[np.float64]


def read_sets(source: str, folder: Path, *, crop_seed: int = 0) -> dict[str, PictureSet]:
    """``annotations.json:images/`` as ``"plain"``, and its cropped version, written to the new `folder`, as
    ``"cropped"``."""
    annotations, _, images = source.partition(":")
    write_crop_set(annotations, images, folder, seed=crop_seed)
    return {
        "plain": PictureSet(annotations=read_annotations(annotations), images=Path(images)),
        "cropped": PictureSet(annotations=read_annotations(folder / "annotations.json"), images=folder / "images"),
    }


def estimate(estimator: PoseEstimator, data: PictureSet) -> Estimates:
    """A model of ours on every labelled person, through the SDK."""
    parts = []
    contract = estimator.contract
    for crops in iterate_crops(data.annotations, data.images, input_wh=contract.input_wh, padding=contract.padding):
        poses = estimator.predict_crops(crops.crops, crops.windows, boxes_xyxy=crops.boxes_xyxy)
        parts.append((crops.persons, poses.keypoints, poses.presence, poses.quality))
    persons, keypoints, presence, quality = zip(*parts, strict=True)
    return Estimates(
        persons=tuple(person for batch in persons for person in batch),
        keypoints=np.concatenate(keypoints),
        presence=np.concatenate(presence).astype(np.float64),
        quality=np.concatenate(quality).astype(np.float64),
    )


def estimate_with(model: PersonEstimator, data: PictureSet) -> Estimates:
    """Another model on every labelled person; its confidence stands for presence and quality."""
    persons = labelled_persons(data.annotations)
    pictures: dict[int, NDArray[np.uint8]] = {}
    found = []
    for person in sorted(persons, key=lambda p: p.image_id):
        if person.image_id not in pictures:
            pictures = {person.image_id: read_picture(data.images, data.annotations.images[person.image_id])}
        found.append((person, model(pictures[person.image_id], person.bbox_xyxy)))
    values = np.stack([points for _, points in found])
    return Estimates(
        persons=tuple(person for person, _ in found),
        keypoints=values[..., :2],
        presence=values[..., 2],
        quality=values[..., 2],
    )


def as_results(estimates: Estimates, threshold: float, category_id: int) -> list[Result]:
    """COCO results, scored as the SDK scores them: mean quality over the keypoints whose presence reaches the
    threshold."""
    scores = instance_scores(estimates.quality, estimates.presence >= threshold)
    points = np.concatenate((estimates.keypoints, estimates.presence[..., None]), axis=2)
    return [
        {
            "image_id": person.image_id,
            "category_id": category_id,
            "annotation_id": person.id,
            "keypoints": keypoints.reshape(-1).tolist(),
            "score": float(score),
        }
        for person, keypoints, score in zip(estimates.persons, points, scores, strict=True)
    ]


def best_threshold(data: PictureSet, estimates: Estimates) -> float:
    """The presence threshold with the largest Ex-AP, see `probpose_eval.metrics.best_threshold`."""
    category_id = data.annotations.category_id
    return threshold_with_largest_ex_ap(data.annotations, lambda at: as_results(estimates, at, category_id))


def resampled_metrics(
    data: PictureSet, estimates: Estimates, threshold: float, *, samples: int = 1000
) -> dict[str, Resampled]:
    """`METRICS` on bootstrap samples of the pictures; one seed, so that differences are paired."""
    results = as_results(estimates, threshold, data.annotations.category_id)
    rule = OksRule(presence_threshold=threshold)
    return {
        name: resample(data.annotations, results, metric=name, rule=rule, samples=samples, seed=0) for name in METRICS
    }


def presence_figures(data: PictureSet, estimates: Estimates, threshold: float) -> dict[str, float | None]:
    """Share of right answers to "is this keypoint in the window", over all, and as the mean of both classes."""
    results = as_results(estimates, threshold, data.annotations.category_id)
    (found,) = presence_accuracy(data.annotations, results, thresholds=(threshold,))
    return {"presence accuracy": found.accuracy, "balanced presence accuracy": found.balanced_accuracy}


def mean_metrics(data: Sequence[PictureSet], estimates: Sequence[Estimates], threshold: float) -> dict[str, Resampled]:
    """Means of `resampled_metrics` over versions of one set, such as cuts of the same pictures.

    A bootstrap sample draws a picture with all its versions, so that intervals are as wide as the pictures are few.
    Raises `ValueError` for versions of different pictures.
    """
    if any(set(each.annotations.images) != set(data[0].annotations.images) for each in data):
        raise ValueError("Versions of a set must show the same pictures, but their image ids differ.")
    parts = [resampled_metrics(each, found, threshold) for each, found in zip(data, estimates, strict=True)]
    return {
        name: Resampled(
            value=float(np.mean([part[name].value for part in parts])),
            samples=np.mean([part[name].samples for part in parts], axis=0),
        )
        for name in METRICS
    }


def mean_presence_figures(
    data: Sequence[PictureSet], estimates: Sequence[Estimates], threshold: float
) -> dict[str, float | None]:
    """Means of `presence_figures` over versions of one set; None where a version has none."""
    parts = [presence_figures(each, found, threshold) for each, found in zip(data, estimates, strict=True)]
    columns = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: None if None in values else float(np.mean([value for value in values if value is not None]))
        for name, values in columns.items()
    }


def intervals(metrics: Mapping[str, Resampled]) -> dict[str, dict[str, float]]:
    """Values with 95 % intervals, for JSON."""
    return {name: as_numbers(metric.interval()) for name, metric in metrics.items()}


def paired_differences(first: Mapping[str, Resampled], second: Mapping[str, Resampled]) -> dict[str, dict[str, float]]:
    """first - second with paired 95 % intervals, for JSON."""
    return {name: as_numbers(first[name].minus(second[name])) for name in first}


def as_numbers(interval: Interval) -> dict[str, float]:
    """Value, low and high of an interval, to five digits."""
    numbers = dataclasses.asdict(interval)
    return {name: round(numbers[name], 5) for name in ("value", "low", "high")}
