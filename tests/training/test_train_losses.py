"""Losses against recorded values, closed forms and finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from probpose_edge.decode import published_spread
from probpose_edge.skeletons.skeleton import COCO_17
from probpose_train.config import LossConfig
from probpose_train.losses import (
    LossKernels,
    Targets,
    alignment_loss,
    balanced_bce,
    compute_losses,
    decode_points,
    dense_oks_loss,
    keypoint_oks,
    oks_maps,
    sparsemax,
)

VARIANCES = torch.tensor([published_spread(sigma, (48, 64)) for sigma in COCO_17.sigmas])


def sparsemax_by_bisection(z: np.ndarray) -> np.ndarray:
    low, high = z.min() - 1, z.max()
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(z - middle, 0).sum() > 1:
            low = middle
        else:
            high = middle
    return np.maximum(z - low, 0)


def test_sparsemax_is_the_projection_on_the_simplex() -> None:
    z = np.random.default_rng(0).normal(size=(5, 300)) * np.array([0.01, 0.1, 1, 10, 100])[:, None]
    p = sparsemax(torch.from_numpy(z)).numpy()
    for row, expected in zip(p, z, strict=True):
        np.testing.assert_allclose(row, sparsemax_by_bisection(expected), atol=2e-5)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)


def test_sparsemax_gradient_equals_finite_differences() -> None:
    torch.manual_seed(0)
    z = torch.randn(2, 7, requires_grad=True)
    weight = torch.randn(2, 7)
    (sparsemax(z) * weight).sum().backward()
    numeric = torch.zeros_like(z)
    for index in np.ndindex(2, 7):
        step = torch.zeros(2, 7)
        step[index] = 1e-2
        with torch.no_grad():
            numeric[index] = ((sparsemax(z + step) - sparsemax(z - step)) * weight).sum() / 2e-2
    torch.testing.assert_close(z.grad, numeric, atol=1e-3, rtol=1e-3)


@pytest.mark.shared
def test_dense_oks_loss_equals_the_recorded_values(shared: Path) -> None:
    # Bound 1e-6: the recorded values are float32.
    recorded = np.load(shared / "reference" / "oks_loss.npz")
    target = oks_maps(torch.from_numpy(recorded["keypoints_heatmap_xy"])[None], VARIANCES, (48, 64))
    np.testing.assert_allclose(target[0].numpy(), recorded["target_oks_maps"], atol=1e-6)
    maps = torch.from_numpy(recorded["probmaps"])[None].requires_grad_()
    loss = dense_oks_loss(maps, target, float(recorded["smoothing_weight"]))
    np.testing.assert_allclose(loss[0].detach().numpy(), recorded["loss_per_pixel"], atol=1e-6)
    loss.mean().backward()
    np.testing.assert_allclose(maps.grad[0].numpy(), recorded["grad"], atol=1e-6)


def test_alignment_gradient_is_map_minus_goal_even_outside_the_support() -> None:
    z = torch.tensor([[[5.0, 0.0, 0.0]]], requires_grad=True)
    goal = torch.tensor([[[0.0, 0.0, 1.0]]])
    p = sparsemax(z)
    loss = alignment_loss(z, p, goal)
    assert loss.item() > 0
    loss.sum().backward()
    torch.testing.assert_close(z.grad, p.detach() - goal)
    perfect = torch.tensor([[[0.0, 0.0, 5.0]]])
    torch.testing.assert_close(alignment_loss(perfect, sparsemax(perfect), goal), torch.zeros(1, 1))


def test_balanced_bce_weighs_both_classes_alike() -> None:
    logits = torch.zeros(1, 4)
    logits[0, 3] = 2.0
    truth = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    expected = (np.log(2) + np.log(1 + np.exp(2.0))) / 2
    assert balanced_bce(logits, truth, torch.ones(1, 4, dtype=torch.bool)).item() == pytest.approx(expected, rel=1e-5)
    assert balanced_bce(logits, truth, torch.zeros(1, 4, dtype=torch.bool)).item() == 0


def test_keypoint_oks_is_the_coco_formula() -> None:
    value = keypoint_oks(torch.tensor([[[3.0, 4.0]]]), torch.zeros(1, 1, 2), torch.tensor([0.1]), torch.tensor([100.0]))
    assert value.item() == pytest.approx(np.exp(-25 / (2 * 0.2**2 * 100)))


def _kernels() -> LossKernels:
    def gaussian(size: int) -> torch.Tensor:
        distance = torch.arange(size)[:, None] - torch.arange(size)[None]
        return torch.exp(-(distance[None] ** 2) / (2 * VARIANCES.view(-1, 1, 1)))

    return LossKernels(torch.tensor(COCO_17.sigmas), VARIANCES, gaussian(48), gaussian(64))


def _targets(mask: bool) -> Targets:
    known = torch.full((2, 17), mask)
    points = torch.rand(2, 17, 2) * torch.tensor([47.0, 63.0])
    ones = torch.ones(2, 17)
    return Targets(points, known, ones, known, ones, known, torch.full((2,), 400.0))


def test_masked_keypoints_train_nothing() -> None:
    outputs = tuple(torch.randn(2, 17, *shape, requires_grad=True) for shape in ((64, 48), (), (), ()))
    terms = compute_losses(outputs, _targets(False), _kernels(), 0.5, LossConfig())
    terms["total"].backward()
    assert terms["total"].item() == 0
    assert all(value.grad is None or not value.grad.any() for value in outputs)


def test_a_few_steps_on_the_logits_find_the_keypoints() -> None:
    torch.manual_seed(0)
    targets, kernels = _targets(True), _kernels()
    outputs = tuple(torch.zeros(2, 17, *shape, requires_grad=True) for shape in ((64, 48), (), (), ()))
    optimizer = torch.optim.Adam(outputs, lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        terms = compute_losses(outputs, targets, kernels, 0.5, LossConfig())
        terms["total"].backward()
        optimizer.step()
    maps = sparsemax(outputs[0].detach().flatten(2) / 0.5).view(2, 17, 64, 48)
    found = decode_points(maps, kernels.kernel_x, kernels.kernel_y)
    assert (found - targets.points_cell).abs().max() < 1.0
    assert terms["mean_oks"].item() > 0.9
    assert outputs[3].detach().sigmoid().mean() > 0.7
