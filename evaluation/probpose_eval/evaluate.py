"""AP and Ex-AP of a result set, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import AnnotationError
from probpose_eval.annotations.coco import AnnotationSet, Person, labelled_persons, sigmas_of
from probpose_eval.metrics.average_precision import AREA_RANGES, Column, Matches, match, precision_and_recall
from probpose_eval.metrics.domain_areas import areas_of_keypoints
from probpose_eval.metrics.oks import OksRule, Truth, pair_oks
from probpose_eval.results import Result, ResultArrays, check_presence, result_arrays

UNDEFINED = -1.0
"""Value of a metric with nobody to find, as in COCO's evaluation."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to count: persons in an area range of `AREA_RANGES`, and all keypoints or only some of them.

    only_level: those of one visibility level. only_keypoint: those with this index. only_domain: those in one of the
    areas A to E, see `areas_of_keypoints`.
    """

    area: str = "all"
    only_level: int | None = None
    only_keypoint: int | None = None
    only_domain: str | None = None

    @property
    def view(self) -> tuple[int | None, int | None, str | None]:
        """What decides which keypoints count."""
        return self.only_level, self.only_keypoint, self.only_domain


WHOLE = Way()


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
    ``AR-v1``, ``AP-v2``, ``AR-v2``: the same over keypoints of one visibility level only (persons without one are
    ignored). Keypoints with v = 3 do not count, else the values equal pycocotools. Extended: the same with the prefix
    ``Ex-``, from Ex-OKS over all keypoints with v > 0, and ``Ex-AP-v3``, ``Ex-AR-v3`` too. -1 where nobody is to be
    found.

    results: see `probpose_eval.results.Result`; the third value of a keypoint is its presence probability.
    extended … input_wh: see `probpose_eval.metrics.oks.OksRule`.

    Raises `AnnotationError` for bad results, `InputError` for bad settings.
    """
    rule = OksRule(
        extended=extended,
        definition=definition,
        presence_threshold=presence_threshold,
        padding=padding,
        input_wh=input_wh,
    )
    return named_metrics(annotations, results, rule)


def named_metrics(
    annotations: AnnotationSet, results: Sequence[Result] | ResultArrays, rule: OksRule
) -> dict[str, float]:
    """What `evaluate` gives, by a rule. Raises `AnnotationError` for bad results."""
    matches = match_set(annotations, results, rule=rule, ways=_all_ways(rule))
    prefix = "Ex-" if rule.extended else ""
    return {prefix + name: value for name, value in summarise(matches, rule).items()}


def match_set(
    annotations: AnnotationSet,
    results: Sequence[Result] | ResultArrays,
    *,
    rule: OksRule | None = None,
    ways: Sequence[Way] = (WHOLE,),
) -> Matches:
    """Matches of a result set, the ground of `evaluate` and of the bootstrap; their columns are the given ways.

    Images are numbered by rising id. Raises `AnnotationError` for bad results.
    """
    rule = rule or OksRule()
    arrays = results if isinstance(results, ResultArrays) else result_arrays(results, annotations)
    if rule.extended:
        check_presence(arrays.keypoints)
    persons = annotations.persons
    truth = truth_arrays(persons, annotations)
    crowd = np.array([p.iscrowd for p in persons], dtype=np.bool_)
    ignored = crowd | np.array([p.num_keypoints == 0 for p in persons], dtype=np.bool_)
    views = {way.view: _counted(way, truth, rule, annotations) for way in ways}
    columns = [
        Column(
            view=list(views).index(way.view),
            ignored=ignored if way.view == WHOLE.view else ignored | ~views[way.view].any(axis=1),
            area_range=AREA_RANGES[way.area],
        )
        for way in ways
    ]
    masks = list(views.values())
    image_ids = np.array(sorted(annotations.images), dtype=np.int64)
    return match(
        lambda person, result: pair_oks(truth, arrays.keypoints, rule, person, result, masks),
        columns,
        result_images=np.searchsorted(image_ids, arrays.image_ids),
        result_scores=arrays.scores,
        result_areas=arrays.areas,
        person_images=np.searchsorted(image_ids, np.array([p.image_id for p in persons], dtype=np.int64)),
        person_areas=truth.areas,
        person_crowd=crowd,
        image_count=len(image_ids),
        skip_ignored_images=rule.definition == "exococotools",
    )


def summarise(matches: Matches, rule: OksRule) -> dict[str, float]:
    """Named metrics, without prefix, of matches made in all ways of the rule."""
    curves = [precision_and_recall(matches, column) for column in range(len(matches.positives))]
    metrics: dict[str, float] = {}
    for which, letters in enumerate(("AP", "AR")):
        per_threshold = [None if curve is None else curve[which] for curve in curves]
        whole, medium, large = per_threshold[:3]
        for name, values in (
            (letters, whole),
            (f"{letters}50", whole if whole is None else whole[0]),
            (f"{letters}75", whole if whole is None else whole[5]),
            (f"{letters}m", medium),
            (f"{letters}l", large),
        ):
            metrics[name] = UNDEFINED if values is None else float(values.mean())
    for level, curve in zip(rule.levels, curves[3:], strict=True):
        for which, letters in enumerate(("AP", "AR")):
            metrics[f"{letters}-v{level}"] = UNDEFINED if curve is None else float(curve[which].mean())
    return metrics


def average_precision(matches: Matches, image_weights: NDArray[np.integer] | None = None) -> float:
    """AP over all thresholds in the first column of matches; -1 if nobody is to be found."""
    curves = precision_and_recall(matches, 0, image_weights)
    return UNDEFINED if curves is None else float(curves[0].mean())


def mean_oks(annotations: AnnotationSet, results: Sequence[Result], *, rule: OksRule | None = None) -> InstanceOks:
    """OKS (or Ex-OKS) of every labelled person with the result made from its own box: no matching, no scores.

    Labelled are persons that are no crowd and have a keypoint with v = 1 or 2 and ``num_keypoints`` > 0. Results name
    their person by ``annotation_id``; if none does, they must be one per labelled person, in file order (as
    `probpose_eval.predict.predict_set` returns them). Raises `AnnotationError` if a person has no result or several.
    """
    arrays = result_arrays(results, annotations)
    persons = labelled_persons(annotations)
    rows = result_of_person(persons, results)
    if (rows < 0).any() or any(arrays.image_ids[r] != p.image_id for r, p in zip(rows, persons, strict=True)):
        raise AnnotationError(
            f"Mean OKS needs one result per labelled person ({len(persons)}), named by annotation_id or in file order, "
            f"but the {len(results)} results given do not fit. Predict from the true boxes of this set."
        )
    rule = rule or OksRule()
    truth = truth_arrays(persons, annotations)
    counted = truth.counted(rule.levels)
    values = pair_oks(truth, arrays.keypoints, rule, np.arange(len(persons)), rows, [counted])[0]
    return InstanceOks(
        person_ids=np.array([p.id for p in persons], dtype=np.int64),
        image_ids=np.array([p.image_id for p in persons], dtype=np.int64),
        oks=values,
    )


def result_of_person(persons: Sequence[Person], results: Sequence[Result]) -> NDArray[np.intp]:
    """(G,) index of the result made from each person's box, -1 if there is none; see `mean_oks`."""
    rows = np.full(len(persons), -1, dtype=np.intp)
    if not any("annotation_id" in result for result in results):
        return np.arange(len(persons), dtype=np.intp) if len(results) == len(persons) else rows
    wanted = {person.id: index for index, person in enumerate(persons)}
    for index, result in enumerate(results):
        person = wanted.get(result.get("annotation_id", -1))
        if person is None:
            continue
        if rows[person] >= 0:
            raise AnnotationError(
                f"There must be one result per labelled person, but annotation {persons[person].id} has several. "
                "Keep the one made from its box."
            )
        rows[person] = index
    return rows


def truth_arrays(persons: Sequence[Person], annotations: AnnotationSet) -> Truth:
    """Some persons of a set as arrays."""
    k = len(annotations.keypoint_names)
    return Truth(
        keypoints=np.stack([p.keypoints for p in persons]) if persons else np.zeros((0, k, 3)),
        boxes_xyxy=np.stack([p.bbox_xyxy for p in persons]) if persons else np.zeros((0, 4)),
        areas=np.array([p.area for p in persons], dtype=np.float64),
        sigmas=sigmas_of(annotations),
    )


def _counted(way: Way, truth: Truth, rule: OksRule, annotations: AnnotationSet) -> NDArray[np.bool_]:
    """(G, K) keypoints that count, of all persons of the set."""
    counted = truth.counted(rule.levels if way.only_level is None else (way.only_level,))
    if way.only_keypoint is not None:
        counted &= np.arange(counted.shape[1]) == way.only_keypoint
    if way.only_domain is not None:
        areas = areas_of_keypoints(annotations, annotations.persons, input_wh=rule.input_wh, padding=rule.padding)
        counted &= areas == way.only_domain
    return counted


def _all_ways(rule: OksRule) -> tuple[Way, ...]:
    return (*(Way(area=name) for name in AREA_RANGES), *(Way(only_level=level) for level in rule.levels))
