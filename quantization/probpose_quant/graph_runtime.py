"""Run a quantized graph through the SDK, so that it is judged by the same code as every file."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule

from probpose_edge.runtimes.base import RawOutputs
from probpose_models.deploy import Deployable, deployed_outputs
from probpose_models.outputs import PoseOutputs


class TrainedOutputs(Deployable):
    """`Deployable` that gives what losses want: logits of the scalars too, in the order of `PoseOutputs`.

    A confidence head is left out: it is fitted on the finished network.
    """

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs: PoseOutputs = self.model(self.normalise(image))
        return tuple(value for value in outputs._replace(confidence=None) if value is not None)


class GraphRuntime:
    """A `probpose_edge.runtimes.base.Runtime` over a graph of `TrainedOutputs`."""

    provenance = "simulated"
    name = f"torch {torch.__version__}, int8 values as floats"

    def __init__(self, graph: GraphModule | nn.Module, *, batch_size: int = 16) -> None:
        self._graph, self._batch_size = graph, batch_size
        self._device = next((value.device for value in graph.parameters()), torch.device("cpu"))

    @torch.no_grad()
    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """(N, H, W, 3) uint8 RGB → `RawOutputs`."""
        chunks = []
        for first in range(0, max(len(crops), 1), self._batch_size):
            chunk = torch.from_numpy(np.ascontiguousarray(crops[first : first + self._batch_size])).to(self._device)
            chunks.append(deployed_outputs(PoseOutputs(*self._graph(chunk))))
        return RawOutputs(
            **{name: torch.cat([chunk[name] for chunk in chunks]).float().cpu().numpy() for name in chunks[0]}
        )

    def close(self) -> None:
        """Nothing to release: the graph belongs to the caller."""
