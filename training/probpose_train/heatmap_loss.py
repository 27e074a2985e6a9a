"""Plain heatmap regression, as in ViTPose: what probability maps are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from probpose_models.outputs import PoseOutputs
from probpose_train.config import LossConfig
from probpose_train.losses import LossKernels, Targets, keypoint_oks, oks_maps


def heatmap_losses(
    outputs: PoseOutputs | tuple[Tensor, ...], targets: Targets, kernels: LossKernels, config: LossConfig
) -> dict[str, Tensor]:
    """Squared error of heatmaps towards a Gaussian of height 1 around each known place inside the window.

    The first output is the heatmaps, (N, K, H, W); others are not used. The error is summed over the cells of a map,
    so that the loss has the size of those of probability maps, and averaged over the maps that have a truth: a
    keypoint outside the window trains nothing, hence such a network never sees an empty heatmap (ProbPose, section 2).
    Returns ``"heatmap"``, the same as ``"total"``, and ``"mean_oks"`` of the largest cells, for the log only.
    """
    heatmaps = outputs[0].float()
    width = heatmaps.shape[3]
    variances = torch.full_like(kernels.variances, config.heatmap_sigma**2)
    goal = oks_maps(targets.points_cell, variances, (width, heatmaps.shape[2]))
    error = ((heatmaps - goal) ** 2).sum((2, 3))
    best = heatmaps.detach().flatten(2).argmax(-1)
    points = torch.stack((best % width, best // width), dim=-1).float()
    reached = keypoint_oks(points, targets.points_cell, kernels.sigmas, targets.area_cell)
    known = targets.map_mask.sum().clamp_min(1)
    total = (error * targets.map_mask).sum() / known
    return {"heatmap": total, "total": total, "mean_oks": (reached * targets.map_mask).sum() / known}
