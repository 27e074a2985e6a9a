"""Limits of a report: how they are written, and when they are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from probpose_edge.exceptions import InputError
from probpose_eval.metrics.model_scores import (
    BinaryScores,
    ConfidenceScores,
    ModelScores,
    PckRule,
    PrecisionScores,
    ScoreGap,
    SubsetScores,
)
from probpose_eval.report.figures_by_name import NAMED_FIGURES
from probpose_eval.report.limits import FAIL_UNDER, MAX_DROP, Limit, judge_limits, parse_limits, signed


@pytest.fixture
def scores() -> Callable[..., ModelScores]:
    """Factory of scores in which only Ex-AP and the ECE of presence matter."""

    def make(ex_ap: float | None, ece: float | None) -> ModelScores:
        binary = BinaryScores(
            positives=9, negatives=1, threshold=0.5, accuracy=0.9, balanced_accuracy=0.8, auroc=0.7, ece=ece, brier=0.1,
            curve=(),
        )  # fmt: skip
        confidence = ConfidenceScores(
            count=1, mean_said=0.5, mean_true=0.5, pearson=None, ause=0.1, ause_constant=0.2, ece=0.1,
            squared_error=0.1, curve=(),
        )  # fmt: skip
        whole = SubsetScores(
            labelled=10, precision=PrecisionScores(ap=0.5, ar=0.5, ex_ap=ex_ap, ex_ar=0.5), oks=0.5, ex_oks=0.5, pck={},
            presence=binary, visibility=binary, quality=confidence, expected_oks=confidence, coverage=None,
        )  # fmt: skip
        gap = ScoreGap(as_said=0.5, constant=0.4, true_oks=0.6)
        return ModelScores(
            persons=1, images=1, presence_threshold=0.5, metrics={"Ex-AP": ex_ap}, mean_oks=0.5, mean_ex_oks=0.5,
            share_above_half=0.5, whole=whole, keypoints={}, areas={}, instances=confidence, score_gap=gap,
            ex_score_gap=gap, pck=PckRule(normalised_by="box", persons=1, thresholds=(0.1,)),
        )  # fmt: skip

    return make


def test_limits_as_people_write_them() -> None:
    assert parse_limits(MAX_DROP, ["0.5"], plain_number="Ex-AP") == (Limit(kind=MAX_DROP, figure="Ex-AP", amount=0.5),)
    assert parse_limits(MAX_DROP, ["Ex-AP=0.5, presence-ece=0.01", "cropped:AP=1"]) == (
        Limit(kind=MAX_DROP, figure="Ex-AP", amount=0.5),
        Limit(kind=MAX_DROP, figure="presence-ece", amount=0.01),
        Limit(kind=MAX_DROP, figure="AP", amount=1, only_set="cropped"),
    )
    assert parse_limits(FAIL_UNDER, []) == ()
    words = [str(limit) for limit in parse_limits(MAX_DROP, ["Ex-AP=0.5,presence-ece=0.01"])]
    assert words == ["Ex-AP falls by at most 0.5 points", "presence-ece rises by at most 0.01"]
    assert str(parse_limits(FAIL_UNDER, ["plain:Ex-AP=60"])[0]) == "plain:Ex-AP ≥ 60"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (MAX_DROP, "ExAP=2", r"must name a figure of the report, got 'ExAP'\. Did you mean Ex-AP"),
        (MAX_DROP, "zzz=2", r"got 'zzz'\. Use one of AP, .*presence-ece"),
        (MAX_DROP, "Ex-AP", r"--max-drop takes name=number .* got 'Ex-AP'\. Use Ex-AP=0\.5"),
        (MAX_DROP, "0.5", r"got '0\.5'"),
        (MAX_DROP, "", "takes name=number with commas between, got ''"),
        (MAX_DROP, "Ex-AP=nan", "got 'Ex-AP=nan'"),
        (FAIL_UNDER, "=3", r"got '=3'\. Use Ex-AP=60"),
        (MAX_DROP, "Ex-AP=-1", r"Ex-AP is given in points, .* at most 100, got -1\. Use for example Ex-AP=0\.5"),
        (MAX_DROP, "presence-ece=2", r"presence-ece is given as a share of 1 and at most 1, got 2\."),
        (MAX_DROP, "other:Ex-AP=1", r"plain or cropped, got 'other'\. Leave it out"),
        (MAX_DROP, "AP=1,AP=2", r"names AP twice for the same set\. Give one limit"),
        (FAIL_UNDER, "presence-ece=0.1", r"--fail-under cannot limit it\. .* --max-drop presence-ece=0\.01"),
    ],
)
def test_bad_limits_are_named(kind: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_limits(kind, [text])
    with pytest.raises(InputError, match="A limit is fail-under or max-drop"):
        Limit(kind="x", figure="AP", amount=1)


def test_a_drop_is_a_fall_of_ap_and_a_rise_of_an_error(scores: Callable[..., ModelScores]) -> None:
    reference = scores(0.60, 0.02)

    def kept(text: str, file: ModelScores) -> list[bool | None]:
        limits = parse_limits(MAX_DROP, [text])
        return [result.kept for result in judge_limits(limits, {"plain": file}, {"plain": reference})]

    assert kept("Ex-AP=0.5,presence-ece=0.01", scores(0.595, 0.03)) == [True, True]
    assert kept("Ex-AP=0.5,presence-ece=0.01", scores(0.594, 0.0301)) == [False, False]
    assert kept("Ex-AP=0,presence-ece=0", scores(0.9, 0.0)) == [True, True]
    (result,) = judge_limits(
        parse_limits(MAX_DROP, ["presence-ece=0.01"]), {"plain": scores(0.6, 0.14)}, {"plain": reference}
    )
    assert str(result) == "presence-ece on the plain set 0.020 → 0.140 (+0.120, allowed +0.01)"


def test_a_floor_holds_on_every_set_or_on_one(scores: Callable[..., ModelScores]) -> None:
    sets = {"plain": scores(0.7, 0.1), "cropped": scores(0.5, 0.1)}
    every = judge_limits(parse_limits(FAIL_UNDER, ["Ex-AP=60"]), sets, sets)
    assert [(result.set_name, result.kept) for result in every] == [("plain", True), ("cropped", False)]
    assert str(every[1]) == "Ex-AP on the cropped set is 50.0, must be 60"
    one = judge_limits(parse_limits(FAIL_UNDER, ["plain:Ex-AP=60"]), sets, sets)
    assert [(result.set_name, result.kept) for result in one] == [("plain", True)]


def test_what_is_not_measured_does_not_pass(scores: Callable[..., ModelScores]) -> None:
    limits = parse_limits(MAX_DROP, ["Ex-AP=1"])
    some, none = scores(0.5, 0.1), scores(None, 0.1)
    # No cases for either model on one set: the other set decides.
    judged = judge_limits(limits, {"plain": some, "cropped": none}, {"plain": some, "cropped": none})
    assert [result.kept for result in judged] == [True, None]
    # On no set at all, or only for the file: the limit is broken.
    assert [result.kept for result in judge_limits(limits, {"plain": none}, {"plain": none})] == [False]
    (result,) = judge_limits(limits, {"plain": none}, {"plain": some})
    assert result.kept is False
    assert "is not defined, so that its limit cannot be judged" in str(result)


def test_every_figure_reads_from_scores(scores: Callable[..., ModelScores]) -> None:
    made = scores(0.5, 0.25)
    read = {name: figure.read(made) for name, figure in NAMED_FIGURES.items()}
    assert read["Ex-AP"] == 0.5
    assert read["presence-ece"] == read["visibility-ece"] == 0.25
    assert read["presence-balanced-accuracy"] == 0.8
    assert read["AP-v1"] is None
    assert read["coverage-error"] is None
    assert NAMED_FIGURES["AR-v2"].points
    assert NAMED_FIGURES["quality-ause"].smaller_is_better
    better = dataclasses.replace(made, mean_oks=0.75)
    assert NAMED_FIGURES["mean-OKS"].read(better) == 0.75


def test_signs() -> None:
    assert [signed(value, 1) for value in (0.26, -0.26, -0.04, 0.0)] == ["+0.3", "−0.3", "0.0", "0.0"]
