"""What a model says of persons, and how well it met them: the samples that scores are learned from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge import PoseEstimator, Poses
from probpose_edge.exceptions import InputError
from probpose_edge.scores.score_poses import features_of
from probpose_edge.window import box_to_window, crop_windows
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons
from probpose_eval.calibration.calibration_samples import PicturedSet
from probpose_eval.calibration.disturb_crops import disturb_crop, jitter_box
from probpose_eval.evaluate import truth_arrays
from probpose_eval.metrics.oks import OksRule, keypoint_oks
from probpose_eval.pictures import read_picture
from probpose_eval.predict import check_keypoints


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreSamples:
    """M crops with K keypoints.

    Attributes
    ----------
    features: (M, K, F) float64, see `probpose_edge.scores.score_features`.
    oks: (M, K) float64, true OKS; NaN where the keypoint does not count (v = 0 and 3).
    scores: (M,) float64, the scores the file gives now. pictures: (M,) int64, the same number for crops of the same
        picture.
    tells_counting: (M,) bool, whether a keypoint without OKS does not count; else it is one that nobody labelled.
    """

    features: NDArray[np.float64]
    oks: NDArray[np.float64]
    scores: NDArray[np.float64]
    pictures: NDArray[np.int64]
    tells_counting: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def person_oks(self) -> NDArray[np.float64]:
        """(M,) OKS of whole persons; every one has a keypoint that counts."""
        return np.asarray(np.nanmean(self.oks, axis=1))


def collect_score_samples(
    estimator: PoseEstimator,
    data: PicturedSet,
    *,
    rounds: float = 10,
    tells_counting: bool = True,
    seed: int = 0,
    batch: int = 16,
    progress: Callable[[int, int], None] | None = None,
    look: Callable[[Poses, Any], NDArray[np.floating]] | None = None,
) -> ScoreSamples:
    """Run a model `rounds` times over every labelled person (see `persons_in_turn`), each time with another jittered
    box and disturbed crop.

    A network is over-sure on pictures that it was trained on; where it is made to err there, its answers tell how it
    looks when it does. tells_counting: see `ScoreSamples`; False for sets that label some keypoints of nobody.
    progress: called with (crops done, crops in all). look: (poses, what the runtime gave for them) → (N, K, F)
    features; without it those of `score_features`.

    Raises `InputError` for a file that decodes its maps inside, `AnnotationError` for a set with other keypoints, and
    as `read_picture`.
    """
    contract, annotations = estimator.contract, data.annotations
    if contract.output_kind == "decoded":
        raise InputError(
            f"Scores are made from maps, but this file of {contract.model} decodes them inside. Fit the scores of a "
            "file with maps."
        )
    check_keypoints([estimator], annotations)
    persons = labelled_persons(annotations)
    truth, rng = truth_arrays(persons, annotations), np.random.default_rng(seed)
    todo = [(persons[index].image_id, index) for index in persons_in_turn(annotations, rounds, seed=seed)]
    parts: list[ScoreSamples] = []
    picture, at = np.zeros((1, 1, 3), dtype=np.uint8), None
    for start in range(0, len(todo), batch):
        rows = todo[start : start + batch]
        boxes = np.stack([jitter_box(persons[index].bbox_xyxy.astype(np.float64), rng) for _, index in rows])
        windows = box_to_window(boxes, contract.input_wh, contract.padding)
        crops = []
        for (image_id, _), window in zip(rows, windows, strict=True):
            if image_id != at:
                picture, at = read_picture(data.images_dir, annotations.images[image_id]), image_id
            crops.append(disturb_crop(crop_windows(picture, window[None], contract.input_wh)[0], rng))
        raw = estimator.runtime.run(np.stack(crops))
        poses = estimator.decode_outputs(raw, windows, boxes_xyxy=boxes)
        own = truth.select(np.array([index for _, index in rows], dtype=np.intp))
        found = np.concatenate([poses.keypoints, poses.presence[..., None]], axis=2)
        parts.append(
            ScoreSamples(
                features=(
                    features_of(poses, raw.logits, contract) if look is None else look(poses, raw).astype(np.float64)
                ),
                oks=keypoint_oks(own, found, OksRule(), own.counted((1, 2))),
                scores=poses.scores.astype(np.float64),
                pictures=np.array([image_id for image_id, _ in rows], dtype=np.int64),
                tells_counting=np.full(len(rows), tells_counting),
            )
        )
        if progress is not None:
            progress(min(start + batch, len(todo)), len(todo))
    if not parts:
        raise InputError("Learning scores needs labelled persons, but the set has none. Give a set with keypoints.")
    return join_score_samples(parts)


def persons_in_turn(annotations: AnnotationSet, rounds: float, *, seed: int = 0) -> list[int]:
    """Indices into `labelled_persons`, by picture: each `rounds` times; for 2.5 a random half of them once more."""
    persons = labelled_persons(annotations)
    times = np.full(len(persons), int(rounds))
    if more := round((rounds % 1) * len(persons)):
        times[np.random.default_rng((seed, 1)).permutation(len(persons))[:more]] += 1
    order = sorted(range(len(persons)), key=lambda index: persons[index].image_id)
    return [index for index in order for _ in range(times[index])]


def join_score_samples(parts: Sequence[ScoreSamples]) -> ScoreSamples:
    """One part after another; the pictures of all keep their numbers."""
    names = [field.name for field in dataclasses.fields(ScoreSamples)]
    return ScoreSamples(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
