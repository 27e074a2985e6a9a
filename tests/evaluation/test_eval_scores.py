"""Learning scores: samples of disturbed crops, the fit, and what is written into the metadata."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probpose_edge import PoseEstimator
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_edge.scores.score_features import FEATURES
from probpose_edge.scores.score_head import read_score_head, run_layers, weighted_scores
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons, read_annotations
from probpose_eval.calibration import fit_score_head as module
from probpose_eval.calibration.calibrate_scores import with_scores
from probpose_eval.calibration.calibration_samples import PicturedSet
from probpose_eval.calibration.disturb_crops import disturb_crop, jitter_box
from probpose_eval.calibration.fit_score_head import fit_score_head
from probpose_eval.calibration.score_samples import (
    ScoreSamples,
    collect_score_samples,
    join_score_samples,
    persons_in_turn,
)
from probpose_eval.data_source import ScoreSource, parse_score_source
from probpose_eval.metrics.confidence_scores import confidence_scores
from probpose_eval.observations.observe import observe_set
from probpose_eval.observations.observed_results import scores_at

Make = Callable[..., PoseEstimator]
QUALITY, PROMISED = FEATURES.index("quality"), FEATURES.index("promised_oks")


@pytest.fixture
def pictured(photographed: tuple[Path, Path]) -> PicturedSet:
    return PicturedSet(annotations=read_annotations(photographed[0]), images_dir=photographed[1])


def simulated(seed: int, persons: int = 400, pictures: int = 40) -> ScoreSamples:
    """The quality knows half of a keypoint's OKS, the features the other half; a quarter does not count."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (persons, 17, len(FEATURES)))
    features[..., QUALITY] += rng.normal(0, 1, (persons, 1))
    features[..., PROMISED] += rng.normal(0, 1, (persons, 1))
    oks = 1 / (1 + np.exp(-(features[..., QUALITY] + features[..., PROMISED])))
    counts = features[..., 1] > -0.7
    counts[:, 0] = True
    return ScoreSamples(
        features=features,
        oks=np.where(counts, oks, np.nan),
        scores=1 / (1 + np.exp(-features[..., QUALITY].mean(axis=1))),
        pictures=rng.integers(0, pictures, persons),
        tells_counting=np.ones(persons, dtype=np.bool_),
    )


def test_a_fit_foretells_persons_that_it_has_not_seen() -> None:
    fit = fit_score_head(simulated(0, persons=2000))
    others = simulated(1)
    said = weighted_scores(*fit.head(others.features)).astype(np.float64)
    before, after = (confidence_scores(each, others.person_oks) for each in (others.scores, said))
    assert after.pearson > before.pearson + 0.02
    assert after.ause < 0.8 * before.ause
    assert after.squared_error < before.squared_error / 2
    assert fit.held_out.pearson == pytest.approx(after.pearson, abs=0.05)
    _, counting = fit.head(others.features)
    counts = np.isfinite(others.oks)[:, 1:]
    assert counting[:, 1:][counts].mean() > counting[:, 1:][~counts].mean() + 0.3


def test_a_fit_is_the_same_every_time() -> None:
    one, two = (fit_score_head(simulated(0)).head.to_dict() for _ in range(2))
    assert one == two


def test_the_gradient_is_that_of_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DECAY", 0.0)
    # Two of them do not tell which keypoints count.
    samples = dataclasses.replace(simulated(3, persons=4), tells_counting=np.array([True, False, True, False]))
    truth, rows, rng = module._Truth(samples), np.arange(4), np.random.default_rng(0)
    shapes = {"hidden": (len(FEATURES), 3), "keypoint": (17, 3), "out": (3, 2), "bias": (2,)}
    weights = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}

    def loss() -> float:
        _, answers = run_layers(weights, samples.features)
        p = answers[..., 1]
        entropy = -(np.where(truth.counts, np.log(p), np.log(1 - p)) * truth.tells).mean()
        return module._error(answers, truth, rows) + module._COUNTING * entropy

    slopes = module._gradient(weights, samples.features, truth, rows)
    for name, at in (("hidden", (2, 1)), ("keypoint", (5, 0)), ("out", (1, 0)), ("out", (2, 1)), ("bias", (1,))):
        values = []
        for step in (1e-5, -2e-5):
            weights[name][at] += step
            values.append(loss())
        weights[name][at] += 1e-5
        assert slopes[name][at] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


def test_keypoints_that_nobody_labelled_teach_nothing_about_counting() -> None:
    some = simulated(0, persons=1000)
    oks = simulated(2, persons=1000).oks
    oks[:, 5:] = np.nan
    others = dataclasses.replace(simulated(2, persons=1000), oks=oks, tells_counting=np.zeros(1000, dtype=np.bool_))
    wrong = dataclasses.replace(others, tells_counting=np.ones(1000, dtype=np.bool_))
    unseen = simulated(1)
    alone, joined, misled = (
        fit_score_head(join_score_samples(parts)).head(unseen.features)[1][:, 5:].mean()
        for parts in ([some], [some, others], [some, wrong])
    )
    assert abs(joined - alone) < 0.06
    assert misled < alone - 0.2


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(InputError, match=r"at least 5 pictures, one of five is held out, got 4\. .*closed form"):
        fit_score_head(simulated(0, pictures=4))


def test_every_person_is_seen_in_every_round(template_estimator: Make, pictured: PicturedSet) -> None:
    steps = []
    persons = labelled_persons(pictured.annotations)
    samples = collect_score_samples(
        template_estimator(), pictured, rounds=3, batch=4, progress=lambda done, total: steps.append((done, total))
    )
    assert len(samples) == 3 * len(persons) == steps[-1][0] == steps[-1][1]
    assert sorted(samples.pictures) == sorted(3 * [person.image_id for person in persons])
    counted = sum(int(np.isin(person.keypoints[:, 2], (1, 2)).sum()) for person in persons)
    assert np.isfinite(samples.oks).sum() == 3 * counted
    assert np.isfinite(samples.features).all()
    again = collect_score_samples(template_estimator(), pictured, rounds=3, batch=4)
    np.testing.assert_array_equal(samples.features, again.features)


def test_rounds_may_be_parts(pictured: PicturedSet) -> None:
    persons = labelled_persons(pictured.annotations)
    n = len(persons)
    assert n > 2
    pictures = [persons[index].image_id for index in persons_in_turn(pictured.annotations, 2.5)]
    assert pictures == sorted(pictures)
    seen = np.bincount(persons_in_turn(pictured.annotations, 2.5), minlength=n)
    assert set(seen) == {2, 3}
    assert seen.sum() == 2 * n + round(n / 2)
    assert len(set(persons_in_turn(pictured.annotations, 2 / n))) == 2


@pytest.mark.parametrize(
    ("text", "rounds", "visibility"),
    [("a.json:b/", 10, True), ("a.json:b/:0.2", 0.2, True), ("a.json:b/:3:no-visibility", 3, False)],
)
def test_sets_are_named_with_their_rounds(text: str, rounds: float, visibility: bool) -> None:
    source = ScoreSource(annotations=Path("a.json"), images=Path("b"), rounds=rounds, visibility_labelled=visibility)
    assert parse_score_source(text, 10) == source


@pytest.mark.parametrize("text", ["a.json", ":b/", "a.json:", "a.json:b/:x", "a.json:b/:1:other", "a.json:b/:1::2"])
def test_other_words_for_a_set_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is written annotations.json:images/\[:rounds\[:no-visibility\]\], got '"):
        parse_score_source(text, 10)


@pytest.mark.parametrize("rounds", ["0", "-1", "nan", "inf"])
def test_rounds_must_be_above_0(rounds: str) -> None:
    with pytest.raises(InputError, match=r"Scores are learned in more than 0 rounds over a set, got "):
        parse_score_source(f"a.json:b/:{rounds}", 10)


def test_what_cannot_be_learned_from_is_refused(template_estimator: Make, pictured: PicturedSet) -> None:
    decoded = template_estimator(output_kind="decoded")
    with pytest.raises(InputError, match=r"Scores are made from maps, but this file .* decodes them inside"):
        collect_score_samples(decoded, pictured)
    for choice in ("learned", "ccnet"):
        with pytest.raises(InputError, match=r"Scores are made from maps, but this file .* decodes them inside"):
            with_scores(decoded.contract, choice)
    with pytest.raises(InputError, match=r"come from a head in the network, and that of this .* has none. Fit one on"):
        with_scores(template_estimator().contract, "ccnet")
    others = dataclasses.replace(pictured.annotations, keypoint_names=tuple("abcdefghijklmnopq"))
    with pytest.raises(AnnotationError, match=r"A model must have the keypoints of the set \(a, b, "):
        collect_score_samples(template_estimator(), PicturedSet(annotations=others, images_dir=pictured.images_dir))
    nobody = AnnotationSet(
        images=pictured.annotations.images, persons=(), keypoint_names=pictured.annotations.keypoint_names
    )
    with pytest.raises(InputError, match=r"Learning scores needs labelled persons, but the set has none"):
        collect_score_samples(template_estimator(), PicturedSet(annotations=nobody, images_dir=pictured.images_dir))
    with pytest.raises(InputError, match=r"must be one of closed-form, learned, ccnet, mean-quality, got 'best'"):
        with_scores(template_estimator().contract, "best")


def test_disturbed_crops_keep_their_form() -> None:
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)
    before = crop.copy()
    changed = [disturb_crop(crop, rng) for _ in range(50)]
    np.testing.assert_array_equal(crop, before)
    assert {(each.shape, each.dtype) for each in changed} == {(crop.shape, crop.dtype)}
    assert sum(not np.array_equal(each, crop) for each in changed) > 30
    boxes = np.stack([jitter_box(np.array([10.0, 20.0, 50.0, 100.0]), rng) for _ in range(200)])
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    np.testing.assert_allclose(boxes.mean(axis=0), [10, 20, 50, 100], atol=3)


def test_the_record_names_the_pictures_and_keeps_the_older_ones(template_estimator: Make) -> None:
    before = template_estimator(calibration={"picture_hashes": "b a", "persons": 3, "scores_data": "old"}).contract
    fit = fit_score_head(simulated(0))
    after = with_scores(before, "learned", fit, {"data": "train.json", "picture_hashes": "a c"})
    assert after.calibration["picture_hashes"] == "a b c"
    assert (after.calibration["persons"], after.calibration["scores_data"]) == (3, "train.json")
    assert after.calibration["scores_pearson_held_out"] == pytest.approx(fit.held_out.pearson, abs=1e-5)
    assert read_score_head(after.scores, 17) is not None
    back = with_scores(after, "mean-quality")
    assert back.scores == {}
    assert "scores_data" not in back.calibration
    assert with_scores(after, "closed-form").scores == {"kind": "closed-form"}
    in_network = with_scores(before, "ccnet", dataclasses.replace(fit, head=None), {"data": "train.json"})
    assert (in_network.confidence_head, in_network.scores) == (True, {"kind": "ccnet"})
    # The head stays in the file, so other scores keep its record and it can be chosen again.
    switched = with_scores(in_network, "closed-form")
    assert switched.calibration["scores_data"] == "train.json"
    assert with_scores(switched, "ccnet") == in_network


def test_such_scores_hold_at_any_threshold(template_estimator: Make, pictured: PicturedSet) -> None:
    closed, mean = template_estimator(scores={"kind": "closed-form"}), template_estimator()
    (observed, _), (plain, _) = observe_set([closed, mean], pictured.annotations, pictured.images_dir)
    np.testing.assert_array_equal(scores_at(observed, 0.99), observed.scores)
    assert not np.allclose(observed.scores, plain.scores)
    assert not scores_at(plain, 0.99).any()
