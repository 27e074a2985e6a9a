"""OKD, and the target of a router made of it."""

from __future__ import annotations

import numpy as np
import pytest

from probpose_edge.exceptions import InputError
from probpose_eval.metrics.okd import okd, relative_gain
from probpose_eval.metrics.oks import oks

SIGMAS = (0.1, 0.05, 0.2)


def persons(rng: np.random.Generator, n: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth = np.concatenate([rng.uniform(0, 100, (n, 3, 2)), rng.integers(0, 4, (n, 3, 1))], axis=2).astype(float)
    truth[:, 0, 2] = 2
    found = np.concatenate([truth[..., :2] + rng.normal(0, 5, (n, 3, 2)), np.ones((n, 3, 1))], axis=2)
    return truth, rng.uniform(500, 2000, n), found


def test_the_formula_term_by_term() -> None:
    truth, areas, found = persons(np.random.default_rng(1))
    expected = []
    for person in range(len(truth)):
        above = below = 0.0
        for k, sigma in enumerate(SIGMAS):
            v = truth[person, k, 2] if truth[person, k, 2] in (1, 2) else 0
            d = np.hypot(*(found[person, k, :2] - truth[person, k, :2]))
            above += d / (2 * sigma * areas[person] ** 0.5) * v
            below += v
        expected.append(above / below)
    np.testing.assert_allclose(okd(truth, areas, found, SIGMAS), expected, rtol=1e-12)


def test_one_keypoint_agrees_with_oks() -> None:
    truth, areas, found = persons(np.random.default_rng(2))
    truth[:, 1:, 2] = 0
    distance = okd(truth, areas, found, SIGMAS)
    np.testing.assert_allclose(np.exp(-(distance**2) / 2), oks(truth, np.zeros((6, 4)), areas, found, SIGMAS))


def test_uncounted_keypoints_may_be_anything_and_nobody_counted_is_nan() -> None:
    truth, areas, found = persons(np.random.default_rng(3), 2)
    truth[0, :, 2] = (2, 0, 3)
    truth[1, :, 2] = (0, 3, 0)
    found[:, 1:] = np.nan
    truth[:, 1:, :2] = np.inf
    values = okd(truth, areas, found, SIGMAS)
    assert np.isfinite(values[0])
    assert np.isnan(values[1])


def test_gain_is_the_share_removed_within_the_range_of_a_sigmoid() -> None:
    small, large = np.array([2.0, 2.0, 1.0, 0.0, 0.0, np.nan]), np.array([0.5, 2.0, 3.0, 0.0, 1.0, 1.0])
    np.testing.assert_array_equal(relative_gain(small, large), [0.75, 0, 0, 0, 0, np.nan])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"areas": np.array([0.0, 1.0])}, "all of them must be above 0. Leave such persons out"),
        ({"areas": np.ones(3)}, "one area per person and one sigma per keypoint"),
        ({"found": np.zeros((3, 3, 2))}, r"got \(3, 3, 2\) and \(2, 3, 3\). Pass one result per person"),
        ({"found": np.full((2, 3, 2), np.nan)}, "a result has NaN or infinity. Check the model file"),
    ],
)
def test_bad_input(change: dict[str, np.ndarray], text: str) -> None:
    truth, areas, found = persons(np.random.default_rng(4), 2)
    given = {"areas": areas, "found": found, **change}
    with pytest.raises(InputError, match=text):
        okd(truth, given["areas"], given["found"], SIGMAS)
