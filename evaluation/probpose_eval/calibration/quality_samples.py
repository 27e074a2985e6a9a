"""Keypoints with the OKS that the network expected of them and the OKS that they have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class QualitySamples:
    """M present keypoints.

    Attributes
    ----------
    said: (M,) float64, the quality the network gives, before calibration. oks: (M,) float64, of the keypoint alone,
        with the area of its person.
    keypoint: (M,) which of the K keypoints. pictures: (M,) which picture each is from.
    """

    said: NDArray[np.float64]
    oks: NDArray[np.float64]
    keypoint: NDArray[np.intp]
    pictures: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.oks)

    def select(self, chosen: NDArray[np.bool_]) -> QualitySamples:
        """Some of the samples, by an (M,) mask."""
        return QualitySamples(
            said=self.said[chosen],
            oks=self.oks[chosen],
            keypoint=self.keypoint[chosen],
            pictures=self.pictures[chosen],
        )
