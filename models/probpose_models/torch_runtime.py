"""Run a torch network through the SDK, so that full precision is judged by the same code as every file."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from probpose_edge.runtimes.base import RawOutputs
from probpose_models.deploy import Deployable, deployed_outputs


class TorchRuntime:
    """A `probpose_edge.runtimes.base.Runtime` over a network of the family, in eval mode, on its own device."""

    provenance = "measured"

    def __init__(self, model: nn.Module, *, batch_size: int = 16) -> None:
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self._deployable = Deployable(model).to(device)
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
            chunks = []
            for first in range(0, max(len(crops), 1), self._batch_size):
                chunk = torch.from_numpy(np.ascontiguousarray(crops[first : first + self._batch_size])).to(device)
                chunks.append(deployed_outputs(self._deployable.model(self._deployable.normalise(chunk))))
        finally:
            # Part by part: a network in training may hold frozen blocks in eval mode.
            for module, training in modes:
                module.training = training
        return RawOutputs(
            **{name: torch.cat([chunk[name] for chunk in chunks]).float().cpu().numpy() for name in chunks[0]}
        )

    def close(self) -> None:
        """Nothing to release: the network belongs to the caller."""
