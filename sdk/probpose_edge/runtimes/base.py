"""What a runtime is: crops in, raw network outputs out. It knows nothing of poses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import DECODED_NAMES, ROUTER_NAMES
from probpose_edge.exceptions import InputError

OUTPUT_NAMES = ("logits", "presence", "visibility", "quality", "expert_logits", "confidence")
"""Names of the outputs of deployable files, in their documented order."""
_WITHOUT_HEAD = (OUTPUT_NAMES[:5], OUTPUT_NAMES[:4], OUTPUT_NAMES[:1])
_WITH_HEAD = tuple((*names, "confidence") for names in _WITHOUT_HEAD)
OUTPUT_SETS = (*_WITHOUT_HEAD, DECODED_NAMES, ROUTER_NAMES, *_WITH_HEAD)
"""What a file has: two maps and the scalars, one map and the scalars, a plain heatmap, keypoints decoded inside, or, of
a router, one score; the first three also with what a confidence head says."""
EXPECTED_OUTPUTS = (
    "the float outputs logits, presence, visibility and quality, may have expert_logits besides, has keypoints and "
    "expected_oks in place of logits, has score alone (a router), or has logits alone; all with logits may have "
    "confidence besides"
)
"""`OUTPUT_SETS` in words, for errors."""


@dataclass(frozen=True, kw_only=True)
class RawOutputs:
    """Outputs of the network for N crops, K keypoints, maps of H rows and W columns.

    Attributes
    ----------
    logits: (N, K, H, W) float32, before temperature and sparsemax; the values of a plain heatmap.
    presence, visibility, quality: (N, K) float32 probabilities in [0, 1], not yet calibrated; None from a plain heatmap
        network.
    expert_logits: (N, K, H, W) float32 logits of the second map, over the input window, from a network with two maps
        (then `logits` is over the larger activation window); else None.
    confidence: (N, K, 2) float32 in [0, 1] from a network with a confidence head, else None: the OKS it expects of each
        keypoint, and the probability that the keypoint counts in the OKS of the person.
    """

    logits: NDArray[np.float32]
    presence: NDArray[np.float32] | None = None
    visibility: NDArray[np.float32] | None = None
    quality: NDArray[np.float32] | None = None
    expert_logits: NDArray[np.float32] | None = None
    confidence: NDArray[np.float32] | None = None

    @property
    def crops(self) -> int:
        """How many crops the outputs are of."""
        return len(next(iter(self.named().values())))

    def named(self) -> dict[str, NDArray[np.float32]]:
        """The outputs there are, by name, in their documented order."""
        return {name: values for name in OUTPUT_NAMES if (values := getattr(self, name)) is not None}


class DecodedOutputs(RawOutputs):
    """Outputs for N crops of a file that decodes its maps itself; it has no logits to give.

    Attributes
    ----------
    keypoints: (N, K, 2) float32, x before y, in pixels of the crop (the center of its first pixel is 0).
    presence, visibility, quality: (N, K) float32 probabilities in [0, 1], calibrated.
    expected_oks: (N, K) float32, see `probpose_edge.decode.decode_maps`.
    """

    def __init__(
        self,
        *,
        keypoints: NDArray[np.float32],
        presence: NDArray[np.float32],
        visibility: NDArray[np.float32],
        quality: NDArray[np.float32],
        expected_oks: NDArray[np.float32],
    ) -> None:
        values = (keypoints, presence, visibility, quality, expected_oks)
        for name, value in zip(DECODED_NAMES, values, strict=True):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> NDArray[np.float32]:
        if name == "logits":
            raise no_maps_error()
        raise AttributeError(name)

    def named(self) -> dict[str, NDArray[np.float32]]:
        """The five outputs by name, in their documented order."""
        return {name: getattr(self, name) for name in DECODED_NAMES}


class ScoreOutputs(RawOutputs):
    """Outputs for N crops of a router (see `probpose_edge.routing.router_contract`); it has no poses to give.

    Attributes
    ----------
    score: (N, 1) float32.
    """

    def __init__(self, *, score: NDArray[np.float32]) -> None:
        object.__setattr__(self, "score", score)

    def named(self) -> dict[str, NDArray[np.float32]]:
        """The one output, by name."""
        return {name: getattr(self, name) for name in ROUTER_NAMES}


def outputs_from(values: Mapping[str, NDArray[np.float32]]) -> RawOutputs:
    """The outputs of one of `OUTPUT_SETS`, by name, as the class that they make."""
    if set(values) == set(ROUTER_NAMES):
        return ScoreOutputs(**values)
    return (DecodedOutputs if "keypoints" in values else RawOutputs)(**values)


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


def check_crops(crops: NDArray[np.uint8], input_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Crops as a contiguous (N, H, W, 3) uint8 array; raises `InputError` for another shape or type."""
    expected = (input_wh[1], input_wh[0], 3)
    if not isinstance(crops, np.ndarray) or crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != expected:
        what = f"{crops.shape} {crops.dtype}" if isinstance(crops, np.ndarray) else type(crops).__name__
        raise InputError(
            f"Crops must be a uint8 RGB array of shape (N, {', '.join(map(str, expected))}), got {what}. Make them "
            "with crop_windows."
        )
    return np.ascontiguousarray(crops)


def outputs_of(names: Collection[str]) -> tuple[str, ...] | None:
    """Which of `OUTPUT_SETS` a file with outputs of these names has; None if it has only part of one."""
    known = set(OUTPUT_NAMES + DECODED_NAMES + ROUTER_NAMES) & set(names)
    return next((wanted for wanted in OUTPUT_SETS if set(wanted) == known), None)


def closed_error() -> InputError:
    """The error of a runtime that is used after `close`."""
    return InputError("This model was closed. Open it again with PoseEstimator.open.")


def no_maps_error() -> InputError:
    """The error of asking a file that decodes inside for maps or logits."""
    return InputError(
        "Maps were asked for, but this model file decodes them inside and gives keypoints only. Open the file of the "
        "same model that was converted without --decoded."
    )


def run_in_parts(crops: NDArray[np.uint8], largest: int, run: Callable[[NDArray[np.uint8]], RawOutputs]) -> RawOutputs:
    """Run (N, H, W, 3) crops at most `largest` at a time and join the outputs.

    No crops give outputs of length 0, whose other sizes are learnt by running one black crop.
    """
    if len(crops) == 0:
        one = run(np.zeros((1, *crops.shape[1:]), dtype=np.uint8))
        return outputs_from({name: values[:0] for name, values in one.named().items()})
    parts = [run(crops[start : start + largest]) for start in range(0, len(crops), largest)]
    if len(parts) == 1:
        return parts[0]
    columns = {name: [part.named()[name] for part in parts] for name in parts[0].named()}
    return outputs_from({name: np.concatenate(values) for name, values in columns.items()})
