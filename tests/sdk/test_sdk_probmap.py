from __future__ import annotations

import numpy as np
import pytest

from probpose_edge import InputError, sparsemax_maps


def sorted_sparsemax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Algorithm 1 of Martins & Astudillo (2016), one map after another, in float64."""
    out = np.zeros(logits.shape)
    for index in np.ndindex(logits.shape[:2]):
        z = logits[index].astype(np.float64).ravel() / temperature
        descending = np.sort(z)[::-1]
        k = np.arange(1, len(z) + 1)
        support = k[1 + k * descending > descending.cumsum()][-1]
        tau = (descending[:support].sum() - 1) / support
        out[index] = np.maximum(z - tau, 0).reshape(logits.shape[2:])
    return out


@pytest.mark.parametrize("spread", [0, 1e-4, 1e-3, 0.02, 0.1, 1, 30])
@pytest.mark.parametrize("size", [(64, 48), (16, 12), (5, 3), (23, 29), (2, 2)])
def test_sparsemax_equals_the_sorting_algorithm(spread: float, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(3, 5, *size)) * spread).astype(np.float32)
    maps = sparsemax_maps(logits, 0.5)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, sorted_sparsemax(logits, 0.5), atol=2e-7)
    np.testing.assert_allclose(maps.sum((2, 3), dtype=np.float64), 1, atol=1e-5)
    assert (maps >= 0).all()


def test_support_is_exact_for_smooth_peaks() -> None:
    y, x = np.mgrid[:64, :48]
    centers = np.random.default_rng(1).uniform([0, 0], [47, 63], size=(6, 2))
    distance = (x - centers[:, 0, None, None]) ** 2 + (y - centers[:, 1, None, None]) ** 2
    logits = (-distance / 40).astype(np.float32)[None]
    expected = sorted_sparsemax(logits, 0.5)
    maps = sparsemax_maps(logits, 0.5)
    np.testing.assert_array_equal(maps[expected == 0], 0)
    np.testing.assert_allclose(maps, expected, atol=2e-7)


def test_mixed_flat_and_peaked_maps_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(7, 4, 16, 12)).astype(np.float32) * np.array([0, 1e-4, 1, 50], np.float32)[:, None, None]
    np.testing.assert_allclose(sparsemax_maps(logits, 2.0), sorted_sparsemax(logits, 2.0), atol=2e-7)


def test_an_offset_of_the_logits_changes_nothing() -> None:
    logits = np.random.default_rng(3).integers(-8, 8, size=(2, 3, 16, 12)).astype(np.float32) / 8
    np.testing.assert_array_equal(sparsemax_maps(logits + 1024, 0.5), sparsemax_maps(logits, 0.5))


def test_minus_infinity_is_a_cell_without_probability() -> None:
    logits = np.full((1, 1, 8, 8), -np.inf, dtype=np.float32)
    logits[0, 0, 2, 3], logits[0, 0, 5, 5] = 1.0, 1.0
    maps = sparsemax_maps(logits, 0.5)
    assert maps[0, 0, 2, 3] == maps[0, 0, 5, 5] == 0.5
    assert maps.sum() == 1


def test_input_is_left_alone_and_may_be_of_any_float_layout() -> None:
    logits = np.random.default_rng(4).normal(size=(2, 3, 12, 16)).astype(np.float16)
    before = logits.copy()
    turned = logits.transpose(0, 1, 3, 2)
    np.testing.assert_allclose(sparsemax_maps(turned, 0.5), sorted_sparsemax(turned, 0.5), atol=2e-7)
    np.testing.assert_array_equal(logits, before)


def test_no_persons() -> None:
    assert sparsemax_maps(np.zeros((0, 17, 64, 48), np.float32), 0.5).shape == (0, 17, 64, 48)


def test_batch_size_does_not_change_a_bit() -> None:
    logits = np.random.default_rng(5).normal(size=(9, 17, 64, 48)).astype(np.float32)
    together = sparsemax_maps(logits, 0.5)
    for person in range(9):
        np.testing.assert_array_equal(sparsemax_maps(logits[person : person + 1], 0.5)[0], together[person])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_unusable_logits_are_refused(bad: float) -> None:
    logits = np.zeros((1, 2, 8, 8), np.float32)
    logits[0, 1, 3, 3] = bad
    with pytest.raises(InputError, match="Logits must be finite, but a map has a NaN, an infinity"):
        sparsemax_maps(logits, 0.5)


def test_a_map_without_finite_cells_is_refused() -> None:
    with pytest.raises(InputError, match="no finite cell"):
        sparsemax_maps(np.full((1, 1, 4, 4), -np.inf, np.float32), 0.5)


def test_other_shapes_and_temperatures_are_refused() -> None:
    with pytest.raises(InputError, match=r"Logits must have shape \(N, K, H, W\), got \(17, 64, 48\)"):
        sparsemax_maps(np.zeros((17, 64, 48)), 0.5)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="temperature must be positive"):
            sparsemax_maps(np.zeros((1, 1, 4, 4)), temperature)
