"""The features of a frozen network, float or quantized, as its SDK-side answers come with them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probpose_edge.runtimes.base import RawOutputs
from probpose_models.confidence_head import ConfidenceHead, add_confidence_head
from probpose_models.deploy import Deployable, deployed_outputs
from probpose_models.outputs import PoseOutputs
from probpose_models.probpose_m import ProbPoseM
from probpose_models.probpose_s import ProbPoseS


@dataclass(frozen=True, kw_only=True)
class OutputsWithParts(RawOutputs):
    """What a network gives; parts: (N, K, F) float32, what the layers of a confidence head would read."""

    parts: NDArray[np.float32]


class _PartsOnly(nn.Module):
    """A confidence head that gives what its layers would read, one after the other."""

    def __init__(self, head: ConfidenceHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor, logits: Tensor, scalars: tuple[Tensor, ...]) -> Tensor:
        return torch.cat(self.head.parts(features, logits, scalars), dim=-1)


class PartsNetwork(Deployable):
    """`Deployable` whose last output is what the layers of a confidence head would read, (N, K, F); the network is
    copied. It can be quantized like any other."""

    def __init__(self, model: ProbPoseM | ProbPoseS) -> None:
        network = copy.deepcopy(model).cpu().eval()
        head = add_confidence_head(network)
        network.confidence_head = _PartsOnly(head)  # type: ignore[assignment]
        super().__init__(network)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        out: PoseOutputs = self.model(self.normalise(image))
        assert out.confidence is not None
        return (*deployed_outputs(out._replace(confidence=None)).values(), out.confidence)


class PartsRuntime:
    """A `probpose_edge.runtimes.base.Runtime` over a `PartsNetwork` or a quantized graph of one.

    names: of the outputs that come before the parts.
    """

    provenance = "simulated"
    name = f"torch {torch.__version__}"

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        self._network, self._names = network, names

    @torch.no_grad()
    def run(self, crops: NDArray[np.uint8]) -> OutputsWithParts:
        """(N, H, W, 3) uint8 RGB → `OutputsWithParts`."""
        *outputs, parts = self._network(torch.from_numpy(np.ascontiguousarray(crops)))
        named = {name: value.numpy() for name, value in zip(self._names, outputs, strict=True)}
        return OutputsWithParts(**named, parts=parts.numpy())

    def close(self) -> None:
        """Nothing to release: the network belongs to the caller."""
