"""Constants of the losses of one network."""

from __future__ import annotations

import torch

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.decode import published_spread
from probpose_train.losses import LossKernels


def make_kernels(contract: ModelContract, device: torch.device) -> LossKernels:
    """Sigmas, published kernel variances, Gaussian factors for the decode, and the ratio of the windows."""
    variances = torch.tensor([published_spread(sigma, contract.heatmap_wh) for sigma in contract.sigmas])

    def gaussian(size: int) -> torch.Tensor:
        distance = torch.arange(size)[:, None] - torch.arange(size)[None]
        return torch.exp(-(distance[None] ** 2) / (2 * variances.view(-1, 1, 1)))

    width, height = contract.heatmap_wh
    kernels = (torch.tensor(contract.sigmas), variances, gaussian(width), gaussian(height))
    return LossKernels(*(kernel.to(device) for kernel in kernels), window_ratio=contract.window_ratio)
