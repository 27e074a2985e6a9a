"""Everything measured of one model, against the metrics it is made of and against values worked out by hand."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probpose_edge.exceptions import AnnotationError
from probpose_eval import AnnotationSet, OksRule, evaluate, mean_oks, parse_annotations, presence_accuracy
from probpose_eval.metrics.coverage import LEVELS
from probpose_eval.metrics.model_scores import ModelScores, SubsetScores
from probpose_eval.metrics.resample_observations import resample_observations
from probpose_eval.metrics.score_observations import score_observations
from probpose_eval.observations.observe import Observations, results_of
from probpose_eval.observations.observed_results import results_at, scores_at

RandomSet = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]
Observe = Callable[..., Observations]
RULE = OksRule(presence_threshold=0.6, padding=1.0)


@pytest.fixture
def observed(random_set: RandomSet, random_observations: Observe) -> tuple[AnnotationSet, Observations]:
    annotations = parse_annotations(random_set(51, images=20, levels=(0, 1, 2, 3))[0])
    return annotations, random_observations(annotations)


def test_named_metrics_and_means_are_those_of_the_results(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, observations = observed
    scores = score_observations(annotations, observations, rule=RULE)
    at_threshold = dataclasses.replace(observations, scores=scores_at(observations, 0.6))
    results = results_of(at_threshold, annotations.category_id)
    settings = {"presence_threshold": 0.6, "padding": 1.0}
    expected = {
        **evaluate(annotations, results, **settings),
        **evaluate(annotations, results, extended=True, **settings),
    }
    assert scores.metrics == pytest.approx({k: None if v == -1 else v for k, v in expected.items()}, abs=1e-12)
    assert scores.mean_oks == pytest.approx(mean_oks(annotations, results).mean)
    assert scores.share_above_half == pytest.approx(mean_oks(annotations, results).share_above_half)
    extended = dataclasses.replace(RULE, extended=True)
    assert scores.mean_ex_oks == pytest.approx(mean_oks(annotations, results, rule=extended).mean)
    assert (scores.whole.precision.ap, scores.whole.precision.ex_ar) == (expected["AP"], expected["Ex-AR"])
    assert scores.score_gap.as_said == expected["AP"]
    assert scores.score_gap.constant < scores.score_gap.as_said < scores.score_gap.true_oks
    (presence,) = presence_accuracy(annotations, results, thresholds=[0.6], padding=1.0)
    assert scores.whole.presence.accuracy == presence.accuracy
    assert scores.whole.presence.balanced_accuracy == presence.balanced_accuracy
    assert (scores.whole.presence.positives, scores.whole.presence.negatives) == (presence.present, presence.absent)
    assert scores.persons == len(observations)
    assert scores.presence_threshold == 0.6


def test_keypoints_and_areas_share_the_whole(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, observations = observed
    scores = score_observations(annotations, observations, rule=RULE)
    assert list(scores.keypoints) == list(annotations.keypoint_names)
    assert list(scores.areas) == list("ABCDE")
    for parts in (list(scores.keypoints.values()), list(scores.areas.values())):
        assert sum(part.labelled for part in parts) == scores.whole.labelled
        assert sum(part.presence.negatives for part in parts) == scores.whole.presence.negatives
        assert sum(part.visibility.positives for part in parts) == scores.whole.visibility.positives
        brier = sum(_weighted(part.presence.brier, part.presence) for part in parts)
        assert brier == pytest.approx(_weighted(scores.whole.presence.brier, scores.whole.presence))
        said = sum((part.quality.mean_said or 0) * part.quality.count for part in parts)
        assert said == pytest.approx(scores.whole.quality.mean_said * scores.whole.quality.count)
        assert sum(part.coverage.count for part in parts if part.coverage) == scores.whole.coverage.count
    for area in "ABC":
        assert scores.areas[area].presence.negatives == 0
    for area in "DE":
        assert scores.areas[area].presence.positives == scores.areas[area].quality.count == 0


def _weighted(brier: float | None, presence: Any) -> float:
    return (brier or 0) * (presence.positives + presence.negatives)


def test_figures_of_the_heads_are_those_of_their_definition(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, observations = observed
    scores = score_observations(annotations, observations, rule=OksRule())
    persons = [p for p in annotations.persons if p.id in set(observations.annotation_ids.tolist())]
    truth = np.stack([person.keypoints for person in persons])
    in_window = np.isin(truth[..., 2], (1, 2))  # the points of this set lie in their boxes
    inside = (truth[..., :2] >= 0).all(axis=2) & (truth[..., 0] <= 640) & (truth[..., 1] <= 480)
    visible = (truth[..., 2] == 2) & inside
    said = observations.visibility[in_window]
    assert scores.whole.visibility.accuracy == pytest.approx(((said >= 0.5) == visible[in_window]).mean())
    assert scores.whole.visibility.brier == pytest.approx(((said - visible[in_window]) ** 2).mean())
    areas = np.array([person.area for person in persons])[:, None]
    distance2 = ((observations.keypoints - truth[..., :2]) ** 2).sum(axis=2)
    sigmas = np.array([0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107])
    sigmas = np.concatenate([sigmas, [0.087, 0.087, 0.089, 0.089]])
    true_oks = np.exp(-distance2 / (2 * (2 * sigmas) ** 2 * areas))
    correlation = np.corrcoef(observations.quality[in_window], true_oks[in_window])[0, 1]
    assert scores.whole.quality.pearson == pytest.approx(correlation)
    assert scores.whole.oks == pytest.approx(true_oks[in_window].mean())
    wrist = annotations.keypoint_names.index("left_wrist")
    own = np.corrcoef(observations.expected_oks[in_window[:, wrist], wrist], true_oks[in_window[:, wrist], wrist])[0, 1]
    assert scores.keypoints["left_wrist"].expected_oks.pearson == pytest.approx(own)
    sides = (observations.boxes_xyxy[:, 2:] - observations.boxes_xyxy[:, :2]).max(axis=1)
    near = (np.sqrt(distance2) <= 0.1 * sides[:, None])[in_window]
    assert scores.whole.pck["0.1"] == pytest.approx(near.mean())
    assert scores.whole.coverage.levels == pytest.approx(tuple(LEVELS))
    above, own_mass = observations.standing - observations.standing_own, observations.standing_own
    half = np.clip((0.5 - above[in_window]) / own_mass[in_window], 0, 1).mean()
    assert scores.whole.coverage.shares[9] == pytest.approx(half)
    person_oks = np.where(in_window, true_oks, 0).sum(axis=1) / in_window.sum(axis=1)
    correlation = np.corrcoef(scores_at(observations, 0.5), person_oks)[0, 1]
    assert scores.instances.pearson == pytest.approx(correlation)


def test_scores_follow_the_threshold(observed: tuple[AnnotationSet, Observations]) -> None:
    _, observations = observed
    assert results_at(observations, 0.5).scores == pytest.approx(observations.scores)
    assert results_at(observations, 1.0).scores.tolist() == pytest.approx(
        np.where((observations.presence >= 1).any(axis=1), scores_at(observations, 1.0), 0)
    )
    expected = [r["bbox"][2] * r["bbox"][3] for r in results_of(observations)]
    assert results_at(observations, 0.5).areas == pytest.approx(np.array(expected))


def test_what_has_no_cases_is_none(document: dict[str, Any], random_observations: Observe) -> None:
    """One person, everything labelled and in view: nothing is absent, and areas B to E are empty."""
    annotations = parse_annotations(document)
    observations = random_observations(annotations)
    plain = dataclasses.replace(
        observations,
        standing=np.full_like(observations.standing, np.nan),
        standing_own=np.full_like(observations.standing, np.nan),
    )
    scores = score_observations(annotations, plain)
    assert scores.metrics["Ex-AP-v3"] is None
    assert scores.metrics["APl"] is None
    assert (scores.whole.presence.auroc, scores.whole.presence.balanced_accuracy) == (None, None)
    assert scores.whole.coverage is None
    assert (scores.instances.count, scores.instances.pearson) == (1, None)
    for area in "BCDE":
        numbers = json.dumps(dataclasses.asdict(scores.areas[area]))
        assert set(_leaves(scores.areas[area])) <= {0, None, 0.5}, numbers
        assert scores.areas[area].precision.ex_ap is scores.areas[area].pck["0.1"] is None


def _leaves(scores: SubsetScores) -> list[Any]:
    def walk(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [leaf for item in value.values() for leaf in walk(item)]
        return [leaf for item in value for leaf in walk(item)] if isinstance(value, (list, tuple)) else [value]

    return walk(dataclasses.asdict(scores))


def test_a_set_with_nobody_labelled_has_no_numbers(random_set: RandomSet, random_observations: Observe) -> None:
    document = random_set(52)[0]
    someone = random_observations(parse_annotations(document))
    for annotation in document["annotations"]:
        annotation["iscrowd"] = 1
    nobody = dataclasses.replace(
        someone,
        **{
            field.name: getattr(someone, field.name)[:0]
            for field in dataclasses.fields(someone)
            if isinstance(getattr(someone, field.name), np.ndarray)
        },
    )
    annotations = parse_annotations(document)
    scores = score_observations(annotations, nobody)
    assert (scores.persons, scores.images, scores.mean_oks, scores.instances.count) == (0, 0, None, 0)
    assert set(scores.metrics.values()) == {None}
    assert set(_leaves(scores.whole)) <= {0, None, 0.5}
    assert all(np.isnan(each.value) for each in resample_observations(annotations, nobody, samples=3).values())


def test_a_border_that_cuts_a_keypoint_off_hides_it(document: dict[str, Any], random_observations: Observe) -> None:
    person = document["annotations"][0]
    person["bbox"] = [0, 20, 60, 120]
    person["keypoints"][:3] = [-10, 80, 2]  # in the window, out of the picture, labelled as visible before the cut
    annotations = parse_annotations(document)
    scores = score_observations(annotations, random_observations(annotations))
    nose = scores.keypoints["nose"]
    assert scores.areas["C"].labelled == nose.presence.positives == 1
    assert (nose.visibility.positives, nose.visibility.negatives) == (0, 1)


def test_it_is_json_and_small_without_the_curves_of_subsets(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, observations = observed
    full = score_observations(annotations, observations)
    brief = score_observations(annotations, observations, subset_curves=False)
    assert isinstance(full, ModelScores)
    text = json.dumps(dataclasses.asdict(full), allow_nan=False)
    assert len(json.dumps(dataclasses.asdict(brief), allow_nan=False)) < 0.6 * len(text)
    assert brief.whole == full.whole
    assert brief.keypoints["nose"].presence.curve == ()
    assert len(full.keypoints["nose"].presence.curve) > 3
    assert brief.keypoints["nose"].presence.ece == full.keypoints["nose"].presence.ece


def test_observations_of_another_set_are_refused(observed: tuple[AnnotationSet, Observations]) -> None:
    annotations, observations = observed
    fewer = dataclasses.replace(annotations, persons=annotations.persons[:-4])
    with pytest.raises(AnnotationError, match=r"of the \d+ labelled persons of the set, in its order .* Observe this"):
        score_observations(fewer, observations)
    with pytest.raises(AnnotationError, match=r"its 17 keypoints, but came for \d+ persons with 16\."):
        score_observations(annotations, dataclasses.replace(observations, keypoints=observations.keypoints[:, 1:]))
