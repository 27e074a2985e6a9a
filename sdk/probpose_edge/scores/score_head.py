"""Instance scores that foretell accuracy: a mean of what each keypoint's OKS should be, weighted by its visibility.

After Gu et al. 2024, "On the calibration of human pose estimation" (CCNet): a light head beside a frozen network gives
the OKS of every keypoint, and how likely it counts in the OKS of the person; the score of a person is the mean of the
first, weighted by the second. Their head reads the penultimate features and is a part of the network ("ccnet"): the
file has one more output for it. `ScoreHead` ("learned") reads numbers that every deployable file gives (see
`probpose_edge.scores.score_features`): no file changes but for its metadata, and an INT8 file gets its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import MetadataError
from probpose_edge.scores.score_features import FEATURES

SCORE_KINDS = ("closed-form", "learned", "ccnet")
_LARGEST = 5.0
"""Standardised features are cut here: beyond it nothing was learned."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreHead:
    """Two layers over F features of each of K keypoints, H hidden units.

    Attributes
    ----------
    mean, std: (F,) what features are standardised with.
    hidden: (F, H). keypoint: (K, H) what is added for each keypoint. out: (H, 2) and bias: (2,), for the OKS and for
        counting; all float64. ``sigmoid(tanh(x @ hidden + keypoint) @ out + bias)`` is the answer.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    hidden: NDArray[np.float64]
    keypoint: NDArray[np.float64]
    out: NDArray[np.float64]
    bias: NDArray[np.float64]

    def standardised(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, K, F) features as the layers take them."""
        return np.asarray(np.clip((features - self.mean) / self.std, -_LARGEST, _LARGEST))

    def __call__(self, features: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N, K) OKS and (N, K) probability that the keypoint counts, in (0, 1), of (N, K, F) features."""
        weights = {"hidden": self.hidden, "keypoint": self.keypoint, "out": self.out, "bias": self.bias}
        _, answers = run_layers(weights, self.standardised(features))
        return answers[..., 0], answers[..., 1]

    def to_dict(self) -> dict[str, Any]:
        """What goes into the metadata, to six digits."""
        arrays = {name: getattr(self, name) for name in ("mean", "std", "hidden", "keypoint", "out", "bias")}
        return {
            "kind": "learned",
            "features": list(FEATURES),
            **{name: [_rounded(row) for row in array.tolist()] for name, array in arrays.items()},
        }


def run_layers(
    weights: Mapping[str, NDArray[np.float64]], standardised: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, K, H) hidden units and (N, K, 2) answers in (0, 1) of (N, K, F) standardised features; `weights` are the
    layers of a `ScoreHead` by name."""
    hidden = np.tanh(standardised @ weights["hidden"] + weights["keypoint"])
    return hidden, 1 / (1 + np.exp(-np.clip(hidden @ weights["out"] + weights["bias"], -30, 30)))


def read_score_head(scores: dict[str, Any], keypoints: int) -> ScoreHead | None:
    """The head that the metadata field `scores` holds; None for the closed form and for "ccnet", which have no numbers.

    Raises `MetadataError` for another kind, other features, or numbers that are missing, not finite or of other shapes.
    """
    if not isinstance(scores, dict) or scores.get("kind") not in SCORE_KINDS:
        kind = scores.get("kind") if isinstance(scores, dict) else scores
        raise MetadataError(
            f"Metadata field 'scores' must be of one of the kinds {', '.join(SCORE_KINDS)}, got {kind!r}. Run "
            "`probpose-edge calibrate --scores` on the file again, or install a newer probpose-edge."
        )
    if scores["kind"] != "learned":
        return None
    if scores.get("features") != list(FEATURES):
        raise MetadataError(
            f"The learned scores of this file must read the features {', '.join(FEATURES)}, got "
            f"{scores.get('features')!r}. Run `probpose-edge calibrate --scores` on the file again."
        )
    try:
        arrays = {
            name: np.array(scores[name], dtype=np.float64)
            for name in ("mean", "std", "hidden", "keypoint", "out", "bias")
        }
    except (KeyError, ValueError, TypeError) as error:
        raise _numbers_error(f"{type(error).__name__}: {error}") from error
    f, h = len(FEATURES), arrays["hidden"].shape[-1] if arrays["hidden"].ndim == 2 else 0
    shapes = {"mean": (f,), "std": (f,), "hidden": (f, h), "keypoint": (keypoints, h), "out": (h, 2), "bias": (2,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise _numbers_error(f"{name} of shape {arrays[name].shape} in place of {shape}, or not finite")
    if h == 0 or arrays["std"].min() <= 0:
        raise _numbers_error("no hidden unit, or a standard deviation that is not positive")
    return ScoreHead(**arrays)


def weighted_scores(oks: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N,) float32 mean of (N, K) keypoint scores with (N, K) weights; 0 where all weights are."""
    total = weights.sum(axis=1, dtype=np.float64)
    mean: NDArray[np.float64] = np.divide((weights * oks).sum(axis=1), total, out=np.zeros(len(total)), where=total > 0)
    return mean.astype(np.float32)


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if math.isfinite(value) else value


def _numbers_error(what: str) -> MetadataError:
    return MetadataError(
        f"The learned scores in the metadata must have finite numbers for every feature and keypoint, got {what}. Run "
        "`probpose-edge calibrate --scores` on the file again."
    )
