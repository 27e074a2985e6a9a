"""Colour, low resolution and blur of a training crop: drawn as numbers first, so that any device can apply them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_train.config import AugmentConfig


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """What happens to the pixels of one crop, in this order; the defaults change nothing.

    Attributes
    ----------
    shrink: the crop loses its detail by this factor (1: none). blur_sigma: Gaussian blur, px (0: none).
    grey: without colour. hue_steps: shift of the hue in steps of two degrees. saturation: its factor.
    gain_bgr, offset: factors per channel and an addition to every value above 0; black stays black, because it marks
        what lies outside the picture.
    """

    shrink: float = 1.0
    blur_sigma: float = 0.0
    grey: bool = False
    hue_steps: int = 0
    saturation: float = 1.0
    gain_bgr: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: float = 0.0

    @property
    def recolours(self) -> bool:
        """Whether hue or saturation change."""
        return self.hue_steps != 0 or self.saturation != 1.0

    @property
    def relights(self) -> bool:
        """Whether gains or the offset change a value."""
        return self.gain_bgr != (1.0, 1.0, 1.0) or self.offset != 0.0


def draw_distortion(rng: np.random.Generator, config: AugmentConfig) -> Distortion:
    """Random distortion; small persons in photographs arrive enlarged, which `shrink` imitates."""
    shrink, blur_sigma, grey, hue_steps, saturation = 1.0, 0.0, False, 0, 1.0
    gain, offset = np.ones(3), 0.0
    if rng.random() < config.blur:
        if rng.random() < 0.6:
            shrink = rng.uniform(1.5, 4.0)
        else:
            blur_sigma = rng.uniform(0.5, 2.0)
    if rng.random() < config.colour:
        if rng.random() < 0.1:
            grey = True
        elif rng.random() < 0.7:
            hue_steps, saturation = int(rng.integers(-10, 11)), rng.uniform(0.5, 1.5)
        gain = rng.uniform(0.6, 1.4) * rng.uniform(0.9, 1.1, 3)
        offset = rng.uniform(-30, 30)
    return Distortion(
        shrink=shrink,
        blur_sigma=blur_sigma,
        grey=grey,
        hue_steps=hue_steps,
        saturation=saturation,
        gain_bgr=(float(gain[0]), float(gain[1]), float(gain[2])),
        offset=offset,
    )


def distort(crop: NDArray[np.uint8], distortion: Distortion) -> NDArray[np.uint8]:
    """Apply a distortion to a crop (H, W, 3) uint8 BGR; the crop given is not changed."""
    d = distortion
    if d.shrink > 1:
        h, w = crop.shape[:2]
        small = cv2.resize(crop, reduced_wh((w, h), d.shrink), interpolation=cv2.INTER_AREA)
        crop = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    if d.blur_sigma > 0:
        crop = cv2.GaussianBlur(crop, (0, 0), d.blur_sigma).astype(np.uint8, copy=False)
    if d.grey:
        grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
        crop = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
    if d.recolours:
        hsv = cv2.cvtColor(crop, cv2.COLOR_BGR2HSV)
        hue = (np.arange(256) + d.hue_steps) % 180
        saturation = np.clip(np.arange(256) * d.saturation, 0, 255)
        table = np.stack((hue, saturation, np.arange(256)), axis=-1).astype(np.uint8)[None]
        crop = cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2BGR).astype(np.uint8, copy=False)
    if d.relights:
        ramp = np.arange(256)[:, None] * np.array(d.gain_bgr) + d.offset
        ramp[0] = 0
        crop = cv2.LUT(crop, np.clip(ramp, 0, 255).astype(np.uint8)[None]).astype(np.uint8, copy=False)
    return crop


def reduced_wh(crop_wh: tuple[int, int], shrink: float) -> tuple[int, int]:
    """Size (width, height) of a crop that has lost its detail."""
    return max(2, int(crop_wh[0] / shrink)), max(2, int(crop_wh[1] / shrink))
