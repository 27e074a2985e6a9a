"""OKS and Ex-OKS against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_eval import OksRule, oks

SIGMA = 0.1
AREA = 2500.0
BOX = np.array([[0.0, 0.0, 60.0, 80.0]])
"""Has the aspect of the input, so its window is it times 1.25: x from -7.5 to 67.5, y from -10 to 90."""
EXTENDED = OksRule(extended=True)
OTHER = OksRule(extended=True, definition="exococotools")


def similarity(distance: float) -> float:
    return math.exp(-(distance**2) / (2 * (2 * SIGMA) ** 2 * AREA))


def score(truth: list[list[float]], result: list[list[float]], rule: OksRule | None = None) -> float:
    values: NDArray[np.float64] = oks(
        np.array([truth], dtype=np.float64),
        BOX,
        np.array([AREA]),
        np.array([result], dtype=np.float64),
        [SIGMA] * len(truth),
        rule=rule,
    )
    assert values.shape == (1,)
    return float(values[0])


def test_plain_oks_is_the_mean_over_labelled_keypoints() -> None:
    truth = [[10, 10, 2], [20, 20, 1], [0, 0, 0], [0, 0, 3]]
    result = [[13, 14, 0.9], [20, 20, 0.0], [500, 500, 1], [500, 500, 1]]
    assert score(truth, result) == pytest.approx((similarity(5) + 1) / 2, abs=1e-12)


def test_a_person_without_labels_is_compared_with_the_enlarged_box() -> None:
    truth = [[0, 0, 0], [0, 0, 3]]
    assert score(truth, [[-60, -80, 1], [120, 160, 1]]) == 1
    assert score(truth, [[123, 164, 1], [-63, -84, 1]]) == pytest.approx(similarity(5), abs=1e-12)


def test_agreement_costs_what_oks_costs() -> None:
    truth, result = [[10, 10, 2], [0, 0, 3]], [[13, 14, 0.5], [30, 40, 0.49]]
    for rule in (EXTENDED, OTHER):
        assert score(truth, result, rule) == pytest.approx((similarity(5) + 1) / 2, abs=1e-12)


@pytest.mark.parametrize(
    ("point", "to_border", "to_lines"),
    [
        ((30, 40), 37.5, math.hypot(37.5, 50)),
        ((0, 40), 7.5, math.hypot(7.5, 50)),
        ((30, 88), 2, math.hypot(37.5, 2)),
        ((70.5, 94), 5, 5),  # outside, past the corner
        ((70.5, 40), 3, math.hypot(3, 50)),  # outside, beside an edge
    ],
)
def test_an_invented_keypoint_costs_its_distance_to_the_window(
    point: tuple[float, float], to_border: float, to_lines: float
) -> None:
    truth, result = [[0, 0, 3]], [[*point, 0.5]]
    assert score(truth, result, EXTENDED) == pytest.approx(similarity(to_border), abs=1e-12)
    assert score(truth, result, OTHER) == pytest.approx(similarity(to_lines), abs=1e-12)


def test_a_missed_keypoint_costs_the_distance_of_the_truth() -> None:
    truth, result = [[0, 40, 1]], [[500, 500, 0.2]]
    assert score(truth, result, EXTENDED) == pytest.approx(similarity(7.5), abs=1e-12)
    assert score(truth, result, OTHER) == pytest.approx(similarity(math.hypot(7.5, 50)), abs=1e-12)


def test_a_label_outside_the_window_is_absent_in_the_paper_only() -> None:
    truth = [[70.5, 94, 2]]
    assert score(truth, [[0, 0, 0.1]], EXTENDED) == 1
    assert score(truth, [[0, 40, 0.9]], EXTENDED) == pytest.approx(similarity(7.5), abs=1e-12)
    assert score(truth, [[0, 40, 0.1]], OTHER) == pytest.approx(similarity(5), abs=1e-12)
    assert score(truth, [[70.5, 94, 0.9]], OTHER) == 1


def test_threshold_and_padding_are_used() -> None:
    truth, result = [[0, 0, 3]], [[0, 40, 0.6]]
    assert score(truth, result, OksRule(extended=True, presence_threshold=0.61)) == 1
    assert score(truth, result, OksRule(extended=True, padding=1.5)) == pytest.approx(similarity(15), abs=1e-12)


def test_the_window_has_the_aspect_of_the_input() -> None:
    wide = np.array([[0.0, 0.0, 90.0, 40.0]])  # window: 112.5 wide, 150 high, so y from -55 to 95
    values = oks(
        np.array([[[0.0, 0.0, 3.0]]]), wide, np.array([AREA]), np.array([[[45.0, 93.0, 1.0]]]), [SIGMA], rule=EXTENDED
    )
    assert values[0] == pytest.approx(similarity(2), abs=1e-12)


def test_unlabelled_keypoints_never_count() -> None:
    truth, result = [[10, 10, 2], [0, 0, 0]], [[10, 10, 1], [40, 40, 1]]
    assert score(truth, result, EXTENDED) == 1
    assert score(truth, result, OTHER) == 1


def test_no_area_is_no_division_by_zero() -> None:
    values = oks(np.array([[[1.0, 1, 2]]]), BOX, np.zeros(1), np.array([[[1.0, 1, 1]]]), [SIGMA])
    assert values.tolist() == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"definition": "mine"}, r"must be one of paper, exococotools, got 'mine'\. Use"),
        ({"presence_threshold": 1.5}, r"must lie in \[0, 1\], got 1\.5\. Use for example 0\.5"),
        ({"padding": 0}, r"must be positive, got 0 and \(192, 256\)"),
    ],
)
def test_bad_rules_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OksRule(**settings)  # type: ignore[arg-type]
