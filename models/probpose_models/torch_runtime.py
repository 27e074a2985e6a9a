"""Run a torch network through the SDK, so that full precision is judged by the same code as every file."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from probpose_edge.runtimes.base import RawOutputs
from probpose_models.deploy import Deployable


class TorchRuntime:
    """A `probpose_edge.runtimes.base.Runtime` over a network of the family, in eval mode, on its own device."""

    provenance = "measured"

    def __init__(self, model: nn.Module, *, batch_size: int = 16) -> None:
        self._deployable = Deployable(model).to(next(model.parameters()).device)
        self._batch_size = batch_size

    @property
    def name(self) -> str:
        return f"torch {torch.__version__}"

    @torch.no_grad()
    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """(N, H, W, 3) uint8 RGB → `RawOutputs`; the mode of every part of the model is restored afterwards."""
        modes = [(module, module.training) for module in self._deployable.modules()]
        self._deployable.eval()
        device = self._deployable.scale.device
        try:
            chunks = [
                self._deployable(torch.from_numpy(np.ascontiguousarray(crops[i : i + self._batch_size])).to(device))
                for i in range(0, max(len(crops), 1), self._batch_size)
            ]
        finally:
            # Part by part: a network in training may hold frozen blocks in eval mode.
            for module, training in modes:
                module.training = training
        logits, presence, visibility, quality = (
            torch.cat(parts).float().cpu().numpy() for parts in zip(*chunks, strict=True)
        )
        return RawOutputs(logits=logits, presence=presence, visibility=visibility, quality=quality)

    def close(self) -> None:
        """Nothing to release: the network belongs to the caller."""
