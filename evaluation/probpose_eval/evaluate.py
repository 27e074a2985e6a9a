"""AP and Ex-AP of a result set, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import AnnotationError, InputError
from probpose_eval.average_precision import AREA_RANGES, OKS_THRESHOLDS, Matches, match, precision_and_recall
from probpose_eval.coco import AnnotationSet, labelled_persons, sigmas_of
from probpose_eval.oks import EXTENDED_LEVELS, PLACED_LEVELS, check_definition, extended_oks, oks
from probpose_eval.results import Result, ResultArrays, result_arrays

UNDEFINED = -1.0
"""Value of a metric with nobody to find, as in COCO's evaluation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InstanceOks:
    """OKS of the n labelled persons of a set, each with the result made from its own box.

    Attributes
    ----------
    person_ids, image_ids: (n,) ids of the annotations and their images.
    oks: (n,) float64.
    mean: mean OKS, NaN without persons. share_above_half: share of persons with an OKS above 0.5.
    """

    person_ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    oks: NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float(self.oks.mean()) if self.oks.size else float("nan")

    @property
    def share_above_half(self) -> float:
        return float((self.oks > 0.5).mean()) if self.oks.size else float("nan")


def evaluate(
    annotations: AnnotationSet,
    results: Sequence[Result],
    *,
    extended: bool = False,
    definition: str = "paper",
    presence_threshold: float = 0.5,
    padding: float = 1.25,
    input_wh: tuple[int, int] = (192, 256),
) -> dict[str, float]:
    """AP and AR of COCO results, standard or extended.

    Standard: ``AP``, ``AP50``, ``AP75``, ``APm``, ``APl``, ``AR``, ``AR50``, ``AR75``, ``ARm``, ``ARl``, and ``AP-v1``,
    ``AP-v2``: the same AP over keypoints of one visibility level only (persons without one are ignored). Keypoints
    with v = 3 do not count, else the values equal pycocotools. Extended: the same with the prefix ``Ex-``, from Ex-OKS over all
    keypoints with v > 0, and ``Ex-AP-v3`` too. -1 where nobody is to be found.

    results: see `probpose_eval.results.Result`; the third value of a keypoint is its presence probability.
    definition: of Ex-OKS, see `probpose_eval.oks.extended_oks`. ``"exococotools"`` also leaves out images whose every
        person is ignored in an area range, in both modes; ``"paper"`` follows pycocotools in everything else.
    presence_threshold, padding, input_wh: used by the extended metrics.

    Raises `AnnotationError` for bad results, `InputError` for bad settings.
    """
    levels = EXTENDED_LEVELS if extended else PLACED_LEVELS
    arrays = result_arrays(results, annotations)
    metrics: dict[str, float] = {}
    for only in (None, *levels):
        matches = match_set(
            annotations,
            arrays,
            extended=extended,
            definition=definition,
            presence_threshold=presence_threshold,
            padding=padding,
            input_wh=input_wh,
            only_level=only,
            area_ranges=tuple(AREA_RANGES) if only is None else ("all",),
        )
        metrics |= summarise(matches) if only is None else {f"AP-v{only}": average_precision(matches)}
    return {f"Ex-{name}" if extended else name: value for name, value in metrics.items()}


def match_set(
    annotations: AnnotationSet,
    results: Sequence[Result] | ResultArrays,
    *,
    extended: bool = False,
    definition: str = "paper",
    presence_threshold: float = 0.5,
    padding: float = 1.25,
    input_wh: tuple[int, int] = (192, 256),
    only_level: int | None = None,
    area_ranges: Sequence[str] = ("all",),
) -> Matches:
    """Matches of a result set, the ground of `evaluate` and of the bootstrap; arguments as `evaluate`.

    only_level: count only keypoints of this visibility level. area_ranges: names from `AREA_RANGES`, in the order of
    the first axis of the matches. Images are numbered by rising id.
    """
    check_definition(definition)
    check_threshold(presence_threshold)
    arrays = results if isinstance(results, ResultArrays) else result_arrays(results, annotations)
    sigmas = sigmas_of(annotations)
    persons = annotations.persons
    k = len(annotations.keypoint_names)
    keypoints = np.stack([p.keypoints for p in persons]) if persons else np.zeros((0, k, 3))
    boxes = np.stack([p.bbox_xyxy for p in persons]) if persons else np.zeros((0, 4))
    areas = np.array([p.area for p in persons], dtype=np.float64)
    crowd = np.array([p.iscrowd for p in persons], dtype=np.bool_)
    unlabelled = np.array([p.num_keypoints == 0 for p in persons], dtype=np.bool_)
    levels: Sequence[int] = EXTENDED_LEVELS if extended else PLACED_LEVELS
    if only_level is not None:
        levels = (only_level,)
        unlabelled = unlabelled | ~(keypoints[..., 2] == only_level).any(axis=1)

    def similarity(result: NDArray[np.intp], person: NDArray[np.intp]) -> NDArray[np.float64]:
        pairs = keypoints[person], boxes[person], areas[person], arrays.keypoints[result], sigmas
        if not extended:
            return oks(*pairs, levels=levels)
        return extended_oks(
            *pairs,
            definition=definition,
            presence_threshold=presence_threshold,
            padding=padding,
            input_wh=input_wh,
            levels=levels,
        )

    image_ids = np.array(sorted(annotations.images), dtype=np.int64)
    return match(
        similarity,
        result_images=np.searchsorted(image_ids, arrays.image_ids),
        result_scores=arrays.scores,
        result_areas=arrays.areas,
        person_images=np.searchsorted(image_ids, np.array([p.image_id for p in persons], dtype=np.int64)),
        person_areas=areas,
        person_ignored=crowd | unlabelled,
        person_crowd=crowd,
        image_count=len(image_ids),
        area_ranges=[AREA_RANGES[name] for name in area_ranges],
        skip_ignored_images=definition == "exococotools",
    )


def summarise(matches: Matches) -> dict[str, float]:
    """The ten COCO keypoint metrics of matches made for all area ranges (`AREA_RANGES`)."""
    metrics: dict[str, float] = {}
    curves = [precision_and_recall(matches, area) for area in range(len(AREA_RANGES))]
    rows = {"50": 0, "75": int(np.argmin(np.abs(OKS_THRESHOLDS - 0.75)))}
    for letter, which in (("AP", 0), ("AR", 1)):
        for suffix, curve in zip(("", "m", "l"), curves, strict=True):
            metrics[letter + suffix] = float(curve[which].mean()) if curve is not None else UNDEFINED
        for suffix, row in rows.items():
            whole = curves[0]
            metrics[letter + suffix] = float(whole[which][row].mean()) if whole is not None else UNDEFINED
    order = [a + s for a in ("AP", "AR") for s in ("", "50", "75", "m", "l")]
    return {name: metrics[name] for name in order}


def average_precision(matches: Matches, image_weights: NDArray[np.integer] | None = None, *, area: int = 0) -> float:
    """AP over all thresholds in one area range; -1 if nobody is to be found."""
    curves = precision_and_recall(matches, area, image_weights)
    return UNDEFINED if curves is None else float(curves[0].mean())


def mean_oks(
    annotations: AnnotationSet,
    results: Sequence[Result],
    *,
    extended: bool = False,
    definition: str = "paper",
    presence_threshold: float = 0.5,
    padding: float = 1.25,
    input_wh: tuple[int, int] = (192, 256),
) -> InstanceOks:
    """OKS (or Ex-OKS) of every labelled person with the result made from its own box: no matching, no scores.

    Labelled are persons that are no crowd and have a keypoint with v = 1 or 2 and ``num_keypoints`` > 0. Results name
    their person by ``annotation_id``; if none does, they must be one per labelled person, in file order (as
    `probpose_eval.predict.predict_set` returns them). Raises `AnnotationError` if a person has no result or several.
    """
    check_threshold(presence_threshold)
    arrays = result_arrays(results, annotations)
    persons = labelled_persons(annotations)
    wanted = {person.id: index for index, person in enumerate(persons)}
    rows = np.full(len(persons), -1, dtype=np.intp)
    if any("annotation_id" in result for result in results):
        for index, result in enumerate(results):
            person = wanted.get(result.get("annotation_id", -1))
            if person is None:
                continue
            if rows[person] >= 0:
                raise AnnotationError(
                    f"Mean OKS needs one result per labelled person, but annotation {persons[person].id} has several. "
                    "Keep the one made from its box."
                )
            rows[person] = index
    elif len(results) == len(persons):
        rows = np.arange(len(persons), dtype=np.intp)
    if (rows < 0).any() or any(arrays.image_ids[r] != p.image_id for r, p in zip(rows, persons, strict=True)):
        raise AnnotationError(
            f"Mean OKS needs one result per labelled person ({len(persons)}), named by annotation_id or in file order, "
            f"but the {len(results)} results given do not fit. Predict from the true boxes of this set."
        )
    k = len(annotations.keypoint_names)
    pairs = (
        np.stack([p.keypoints for p in persons]) if persons else np.zeros((0, k, 3)),
        np.stack([p.bbox_xyxy for p in persons]) if persons else np.zeros((0, 4)),
        np.array([p.area for p in persons], dtype=np.float64),
        arrays.keypoints[rows],
        sigmas_of(annotations),
    )
    if extended:
        values = extended_oks(
            *pairs,
            definition=definition,
            presence_threshold=presence_threshold,
            padding=padding,
            input_wh=input_wh,
        )
    else:
        values = oks(*pairs)
    return InstanceOks(
        person_ids=np.array([p.id for p in persons], dtype=np.int64),
        image_ids=np.array([p.image_id for p in persons], dtype=np.int64),
        oks=values,
    )


def check_threshold(presence_threshold: float) -> None:
    """Raise `InputError` unless the threshold lies in [0, 1]."""
    if not 0 <= presence_threshold <= 1:
        raise InputError(f"The presence threshold must lie in [0, 1], got {presence_threshold}. Use for example 0.5.")
