"""Losses of ProbPose (CVPR 2025, section 3) on the sparsemax map and the scalar heads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from probpose_edge.exceptions import TrainingError
from probpose_models.outputs import PoseOutputs
from probpose_train.config import LossConfig


class Targets(NamedTuple):
    """Truth for N crops and K keypoints.

    Attributes
    ----------
    points_cell: (N, K, 2) float32, x and y in cells of the map over the activation window (the larger one, where there
        are two).
    map_mask: (N, K) bool, the place is known and inside the activation window.
    presence, presence_mask: (N, K) float32 and bool, inside that window or not, and whether that is known.
    visibility, visibility_mask: (N, K) float32 and bool.
    area_cell: (N,) float32, area of the person in square cells, for the true OKS.
    """

    points_cell: Tensor
    map_mask: Tensor
    presence: Tensor
    presence_mask: Tensor
    visibility: Tensor
    visibility_mask: Tensor
    area_cell: Tensor


def sparsemax(logits: Tensor) -> Tensor:
    """Euclidean projection of the last axis on the simplex (Martins and Astudillo, ICML 2016, algorithm 1).

    (…, C) any float → (…, C) float32, differentiable: the gradient is that of the projection.
    """
    z = logits.float()
    ordered, _ = torch.sort(z.detach(), dim=-1, descending=True)
    ordered = ordered.double()
    cumulated = ordered.cumsum(-1) - 1
    ranks = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=torch.float64)
    # At least one cell is in the support; NaN logits compare false everywhere and stay NaN.
    support = (ranks * ordered > cumulated).sum(-1, keepdim=True).clamp_min(1)
    threshold = (cumulated.gather(-1, support - 1) / support).float()
    inside = z.detach() > threshold
    # Differentiable form: on the support p = z - (sum of z over the support - 1) / size of the support.
    count = inside.sum(-1, keepdim=True).clamp_min(1)
    mean = (z * inside).sum(-1, keepdim=True) / count
    return (z - mean + 1 / count).clamp_min(0) * inside


def oks_maps(points_cell: Tensor, variances: Tensor, heatmap_wh: tuple[int, int]) -> Tensor:
    """OKS of every cell against the true place: ``exp(-d² / (2 s_k))``, d in cells.

    points_cell (N, K, 2), variances s (K,) in square cells → (N, K, H, W) float32 in (0, 1].
    """
    width, height = heatmap_wh
    xs = torch.arange(width, device=points_cell.device, dtype=torch.float32)
    ys = torch.arange(height, device=points_cell.device, dtype=torch.float32)
    double = (2 * variances).view(1, -1, 1)
    along_x = torch.exp(-((xs - points_cell[..., :1]) ** 2) / double)
    along_y = torch.exp(-((ys - points_cell[..., 1:]) ** 2) / double)
    return along_y[..., :, None] * along_x[..., None, :]


def dense_oks_loss(maps: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Expected risk per cell plus squared Sobel gradient (ProbPose, eq. 3 and 4).

    maps, target (N, K, H, W) → (N, K, H, W); `smoothing` is alpha.
    """
    n, k, height, width = maps.shape
    # Zeros beyond the border, as recorded from the published loss: mass piled up at the border is penalised too.
    flat = F.pad(maps.reshape(n * k, 1, height, width), (1, 1, 1, 1))
    # Sobel is separable: smoothing (1, 2, 1) one way, difference (-1, 0, 1) the other.
    smooth_y = flat[..., :-2, :] + 2 * flat[..., 1:-1, :] + flat[..., 2:, :]
    smooth_x = flat[..., :, :-2] + 2 * flat[..., :, 1:-1] + flat[..., :, 2:]
    gradient = (smooth_y[..., 2:] - smooth_y[..., :-2]) ** 2 + (smooth_x[..., 2:, :] - smooth_x[..., :-2, :]) ** 2
    return (1 - smoothing) * (1 - target) * maps + smoothing * gradient.view(n, k, height, width)


def alignment_loss(scaled_logits: Tensor, maps: Tensor, target: Tensor) -> Tensor:
    """Sparsemax loss (Martins and Astudillo 2016, eq. 15, for soft targets: Blondel et al. 2020) per map.

    Its gradient with respect to the scaled logits is ``maps - target``: it pulls probability to the true place also
    where sparsemax is exactly zero and the expected risk has no gradient. Arguments (N, K, C) flattened → (N, K).
    """
    p, y = maps.detach(), target
    linear = ((p - y) * scaled_logits).sum(-1)
    return linear - 0.5 * (p * p).sum(-1) + 0.5 * (y * y).sum(-1)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1)


def balanced_bce(logits: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy in which both classes weigh the same within the batch; the mean of a class that occurs
    alone is used as it is."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    terms, classes = logits.new_zeros((), dtype=torch.float32), 0
    for value in (0.0, 1.0):
        members = mask & (truth == value)
        if bool(members.any()):
            terms, classes = terms + _masked_mean(loss, members), classes + 1
    return terms / max(classes, 1)


def decode_points(maps: Tensor, kernel_x: Tensor, kernel_y: Tensor) -> Tensor:
    """Cell of the largest expected OKS, (N, K, H, W) → (N, K, 2), without refinement.

    kernel_x (K, W, W) and kernel_y (K, H, H) are the separable factors of the expected-OKS convolution.
    """
    expected = kernel_y @ maps @ kernel_x.transpose(1, 2)
    best = expected.flatten(2).argmax(-1)
    width = maps.shape[-1]
    return torch.stack((best % width, best // width), dim=-1).float()


def keypoint_oks(points: Tensor, truth: Tensor, sigmas: Tensor, area: Tensor) -> Tensor:
    """OKS of single keypoints (COCO): ``exp(-d² / (2 (2σ)² area))``; (N, K, 2), (N, K, 2), (K,), (N,) → (N, K)."""
    distance2 = ((points - truth) ** 2).sum(-1)
    return torch.exp(-distance2 / (2 * (2 * sigmas) ** 2 * area[:, None].clamp_min(1.0)))


class LossKernels(NamedTuple):
    """Constants of the losses for one model: sigmas (K,), variances (K,) in square cells, decode kernels, and how much
    larger than the input window the window of the map is (1 for a network with one map)."""

    sigmas: Tensor
    variances: Tensor
    kernel_x: Tensor
    kernel_y: Tensor
    window_ratio: float = 1.0


class MapLosses(NamedTuple):
    """One map (N, K, H, W) as probabilities, and its two losses per keypoint (N, K)."""

    maps: Tensor
    risk: Tensor
    alignment: Tensor


def map_losses(
    logits: Tensor, points_cell: Tensor, kernels: LossKernels, temperature: float, config: LossConfig
) -> MapLosses:
    """Dense OKS loss and alignment of map logits (N, K, H, W) against places (N, K, 2) in cells of that map."""
    n, k, height, width = logits.shape
    scaled = logits.float().flatten(2) / temperature
    flat = sparsemax(scaled)
    maps = flat.view(n, k, height, width)
    target = oks_maps(points_cell, kernels.variances, (width, height))
    risk = dense_oks_loss(maps, target, config.smoothing).sum((2, 3))
    goal = oks_maps(points_cell, kernels.variances.clamp_min(config.alignment_variance), (width, height)).flatten(2)
    goal = goal / goal.sum(-1, keepdim=True).clamp_min(1e-6)
    return MapLosses(maps, risk, alignment_loss(scaled, flat, goal))


def change_window(points_cell: Tensor, factor: float, heatmap_wh: tuple[int, int]) -> Tensor:
    """Cells (…, 2) of a window to cells of one with the same center and the same number of cells, `factor` times as
    small: distances from the center grow by the factor."""
    center = points_cell.new_tensor([(heatmap_wh[0] - 1) / 2, (heatmap_wh[1] - 1) / 2])
    return (points_cell - center) * factor + center


def inside_map(points_cell: Tensor, heatmap_wh: tuple[int, int]) -> Tensor:
    """(…, 2) cells → (…) bool, whether the place is on the map."""
    last = points_cell.new_tensor([heatmap_wh[0] - 1, heatmap_wh[1] - 1])
    return ((points_cell >= 0) & (points_cell <= last)).all(-1)


def compute_losses(
    outputs: PoseOutputs | tuple[Tensor, ...],
    targets: Targets,
    kernels: LossKernels,
    temperature: float,
    config: LossConfig,
) -> dict[str, Tensor]:
    """All terms by name, already weighted; their sum is ``"total"``, and ``"mean_oks"`` is for the log only.

    A network with two maps has the terms of its map over the input window as ``"expert_oks"`` and
    ``"expert_alignment"``: each map learns from the keypoints in its own window (ProbPose, section 3.5).

    Raises `TrainingError` for a network without presence, visibility and quality, or with two maps of equal windows.
    """
    logits, presence, visibility, quality, expert_logits = _checked(PoseOutputs(*outputs), kernels)
    heatmap_wh = (logits.shape[3], logits.shape[2])
    wide = map_losses(logits, targets.points_cell, kernels, temperature, config)
    terms = {
        "oks": config.oks * _masked_mean(wide.risk, targets.map_mask),
        "alignment": config.alignment * _masked_mean(wide.alignment, targets.map_mask),
    }
    with torch.no_grad():
        points = decode_points(wide.maps, kernels.kernel_x, kernels.kernel_y)
    if expert_logits is not None:
        expert_points = change_window(targets.points_cell, kernels.window_ratio, heatmap_wh)
        expert_mask = targets.map_mask & inside_map(expert_points, heatmap_wh)
        expert = map_losses(expert_logits, expert_points, kernels, temperature, config)
        terms["expert_oks"] = config.oks * _masked_mean(expert.risk, expert_mask)
        terms["expert_alignment"] = config.alignment * _masked_mean(expert.alignment, expert_mask)
        with torch.no_grad():
            refined = decode_points(expert.maps, kernels.kernel_x, kernels.kernel_y)
            defers = inside_map(change_window(points, kernels.window_ratio, heatmap_wh), heatmap_wh)
            refined = change_window(refined, 1 / kernels.window_ratio, heatmap_wh)
            points = torch.where(defers[..., None], refined, points)
    reached = keypoint_oks(points, targets.points_cell, kernels.sigmas, targets.area_cell)
    presence_bce = F.binary_cross_entropy_with_logits(presence.float(), targets.presence, reduction="none")
    quality_bce = F.binary_cross_entropy_with_logits(quality.float(), reached, reduction="none")
    terms |= {
        "presence": config.presence * _masked_mean(presence_bce, targets.presence_mask),
        "visibility": config.visibility * balanced_bce(visibility, targets.visibility, targets.visibility_mask),
        "quality": config.quality * _masked_mean(quality_bce, targets.map_mask),
    }
    total = torch.stack(list(terms.values())).sum()
    return {**terms, "total": total, "mean_oks": _masked_mean(reached, targets.map_mask)}


def _checked(outputs: PoseOutputs, kernels: LossKernels) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    logits, presence, visibility, quality, expert_logits, _ = outputs
    if presence is None or visibility is None or quality is None:
        raise TrainingError(
            "The losses of ProbPose need a network with presence, visibility and quality, and this one gives a plain "
            "heatmap. Train a model of the probpose family."
        )
    if (expert_logits is not None) != (kernels.window_ratio > 1):
        maps = "one map" if expert_logits is None else "two maps"
        raise TrainingError(
            f"A window_ratio above 1 belongs to a network with two maps, and 1 to one map; this network gives {maps} "
            f"and window_ratio is {kernels.window_ratio}. Take the ratio from the model's contract."
        )
    return logits, presence, visibility, quality, expert_logits
