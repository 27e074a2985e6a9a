"""More computation with one network: the mean of what it says of a crop and of its mirror image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_edge.runtimes.base import RawOutputs, Runtime, outputs_from


def flip_test(estimator: PoseEstimator) -> PoseEstimator:
    """The estimator with a flip test: each crop runs twice, for twice the time; it shares the model that is open.

    Logits of the mirrored crop are mirrored back, left and right keypoints swapped by the flip pairs of the contract;
    the means of both are decoded as usual. UDP alignment makes the mirrored maps fit without a shift (Huang et al.
    2020). Presence, visibility and quality are means, too.

    Raises `InputError` for a file that decodes its maps inside, which gives no logits.
    """
    contract = estimator.contract
    if contract.output_kind == "decoded":
        raise InputError(
            f"A flip test needs maps, but this file of {contract.model} decodes them inside. Open the file of the same "
            "model that was converted without --decoded."
        )
    swapped = np.arange(len(contract.keypoint_names))
    for left, right in contract.flip_pairs:
        swapped[[left, right]] = right, left
    runtime = FlippedRuntime(estimator.runtime, swapped)
    return PoseEstimator(runtime, contract, presence_threshold=estimator.presence_threshold)


class FlippedRuntime:
    """A `Runtime` that gives the mean outputs of crops and of their mirror images.

    swapped: (K,) the keypoint that each one is in a mirrored picture.
    """

    def __init__(self, runtime: Runtime, swapped: NDArray[np.intp]) -> None:
        self._runtime, self._swapped = runtime, swapped
        self.name = f"{runtime.name}, flip test"
        self.provenance = runtime.provenance

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """Run (N, H, W, 3) uint8 RGB crops; N may be any number, zero included."""
        raw = self._runtime.run(np.concatenate([crops, crops[:, :, ::-1]]))
        return outputs_from({name: self._mean(values, len(crops)) for name, values in raw.named().items()})

    def _mean(self, values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
        mirrored = values[n:][:, self._swapped]
        return np.asarray((values[:n] + (mirrored[..., ::-1] if values.ndim == 4 else mirrored)) / np.float32(2))

    def close(self) -> None:
        """Release the model; further calls to `run` are errors."""
        self._runtime.close()
