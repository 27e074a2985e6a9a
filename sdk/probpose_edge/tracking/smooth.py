"""Smooth keypoints over time: a Kalman filter per keypoint that believes a measurement as far as its map is narrow.

State ``[x, y, velocity_x, velocity_y]`` with constant velocity, disturbed by a random acceleration (Bar-Shalom, Li and
Kirubarajan 2001, "Estimation with Applications to Tracking and Navigation", section 6.2.3: piecewise constant white
acceleration). A keypoint with a wide map hardly moves the state, one with a narrow map moves it at once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def start(points: Array, covariances: Array, speed: float | Array) -> tuple[Array, Array]:
    """States of keypoints that are seen for the first time.

    points: (..., 2) px. covariances: (..., 2, 2) px² of the measurement. speed: how fast they may be, px/s.
    Returns means (..., 4) and covariances (..., 4, 4).
    """
    mean = np.concatenate([points, np.zeros_like(points)], axis=-1)
    covariance = np.zeros((*points.shape[:-1], 4, 4))
    covariance[..., :2, :2] = covariances
    covariance[..., 2, 2] = covariance[..., 3, 3] = np.square(speed)
    return mean, covariance


def predict(mean: Array, covariance: Array, seconds: float, acceleration: float | Array) -> tuple[Array, Array]:
    """States `seconds` later. acceleration: standard deviation of the random acceleration, px/s², a number or (...)."""
    step, noise = _motion(float(seconds))
    return mean @ step.T, step @ covariance @ step.T + np.square(acceleration)[..., None, None] * noise


@lru_cache(maxsize=16)
def _motion(seconds: float) -> tuple[Array, Array]:
    """Transition matrix, and the covariance that an acceleration of standard deviation 1 adds; not to be changed."""
    step = np.eye(4)
    step[0, 2] = step[1, 3] = seconds
    drive = np.array([[seconds**2 / 2, 0], [0, seconds**2 / 2], [seconds, 0], [0, seconds]])
    return step, drive @ drive.T


def update(mean: Array, covariance: Array, points: Array, covariances: Array) -> tuple[Array, Array]:
    """States after measurements: points (..., 2) px with covariances (..., 2, 2) px²."""
    gain_over = covariance[..., :2, :2] + covariances
    gain = covariance[..., :, :2] @ _inverse(gain_over)
    surprise = points - mean[..., :2]
    corrected = covariance - gain @ covariance[..., :2, :]
    return mean + (gain @ surprise[..., None])[..., 0], (corrected + np.swapaxes(corrected, -1, -2)) / 2


def _inverse(matrices: Array) -> Array:
    """Inverses of symmetric positive definite (..., 2, 2) matrices."""
    a, b, d = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 1]
    result = np.empty_like(matrices)
    result[..., 0, 0], result[..., 1, 1] = d, a
    result[..., 0, 1] = result[..., 1, 0] = -b
    return np.asarray(result / (a * d - b * b)[..., None, None])
