"""What a runtime is: crops in, raw network outputs out. It knows nothing of poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class RawOutputs:
    """Outputs of the network for N crops, K keypoints, maps of H rows and W columns.

    Attributes
    ----------
    logits: (N, K, H, W) float32, before temperature and sparsemax.
    presence, visibility, quality: (N, K) float32 probabilities in [0, 1], not yet calibrated.
    """

    logits: NDArray[np.float32]
    presence: NDArray[np.float32]
    visibility: NDArray[np.float32]
    quality: NDArray[np.float32]


class Runtime(Protocol):
    """Runs one model file.

    Attributes
    ----------
    name: what runs the file, for reports, e.g. ``"onnxruntime 1.31 (CPUExecutionProvider)"``.
    provenance: ``"measured"`` if the file runs on the runtime it was made for, ``"simulated"`` otherwise.
    """

    @property
    def name(self) -> str: ...

    @property
    def provenance(self) -> str: ...

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """Run (N, H, W, 3) uint8 RGB crops; N may be any number, zero included."""
        ...

    def close(self) -> None:
        """Release the model; further calls to `run` are errors."""
        ...
