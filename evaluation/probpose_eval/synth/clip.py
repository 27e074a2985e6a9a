"""Draw clips: people who move along paths, frame by frame, with full truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_eval.synth.backdrop import backdrop
from probpose_eval.synth.body import Body, Skeleton3D, sample_body, sample_skeleton
from probpose_eval.synth.canvas import Canvas
from probpose_eval.synth.figure import draw_figure
from probpose_eval.synth.looks import Looks, sample_looks
from probpose_eval.synth.person import PARTS_PER_PERSON, make_figure

_UPRIGHT = ("stand", "walk")


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnFrame:
    """One frame and its truth about the P persons of the clip, in the order of their paths.

    Attributes
    ----------
    image: (H, W, 3) uint8 BGR.
    keypoints: (P, 17, 2) float64, image pixels, true even beyond the border and where nothing can be seen.
    boxes: (P, 4) float64 xyxy, edges of the pixels where a person is on top; zeros where there are none.
    areas: (P,) number of those pixels.
    """

    image: NDArray[np.uint8]
    keypoints: NDArray[np.float64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]


def draw_clip(
    rng: np.random.Generator,
    paths: Sequence[NDArray[np.floating]],
    heights_px: Sequence[float],
    *,
    width: int = 640,
    height: int = 480,
    noise: float = 4.0,
) -> Iterator[DrawnFrame]:
    """Frames of people who glide along paths in a fixed, upright pose in front of a fixed backdrop.

    rng: the only source of chance. paths: P arrays (T, 2), the pelvis in image pixels at each of T frames; beyond the
    border the person is out of the picture. heights_px: P standing heights; the last person is in front. noise:
    standard deviation of the noise of the camera, grey levels.

    Raises `InputError` for paths of different lengths, or other numbers of paths and heights.
    """
    if len(paths) != len(heights_px) or len({len(path) for path in paths}) > 1 or len(paths) > 12:
        raise InputError(
            f"A clip needs up to 12 paths of one length and a height each, got {len(paths)} paths of "
            f"{sorted({len(path) for path in paths})} frames and {len(heights_px)} heights."
        )
    behind = np.ascontiguousarray(backdrop(rng, width, height))
    light = np.array([0.3, -0.6, -1.0])
    people = [_person(rng) for _ in paths]
    for places in zip(*paths, strict=True) if paths else ():
        canvas = Canvas(
            image=behind.copy(),
            ids=np.zeros((height, width), np.uint8),
            light=light / np.linalg.norm(light),
            ambient=0.55,
            tint=np.ones(3, np.float32),
        )
        keypoints = []
        for index, ((body, looks, skeleton), place, size) in enumerate(zip(people, places, heights_px, strict=True)):
            figure = make_figure(
                body, looks, skeleton, origin_px=np.asarray(place, np.float64), scale=size, distance=8.0
            )
            draw_figure(canvas, figure, 1 + PARTS_PER_PERSON * index)
            keypoints.append(figure.keypoints_px)
        seen = [_box_and_area(canvas.ids, index) for index in range(len(people))]
        grain = rng.normal(0, noise, (height, width, 1))
        yield DrawnFrame(
            image=np.clip(canvas.image + grain, 0, 255).astype(np.uint8),
            keypoints=np.array(keypoints),
            boxes=np.array([box for box, _ in seen]),
            areas=np.array([area for _, area in seen]),
        )


def _person(rng: np.random.Generator) -> tuple[Body, Looks, Skeleton3D]:
    body = sample_body(rng)
    while True:
        skeleton = sample_skeleton(rng, body, yaw=float(rng.normal(0, 0.4)))
        if skeleton.activity in _UPRIGHT:
            return body, sample_looks(rng), skeleton


def _box_and_area(ids: NDArray[np.uint8], index: int) -> tuple[list[float], float]:
    first = 1 + PARTS_PER_PERSON * index
    own = cv2.inRange(ids, (first,), (first + PARTS_PER_PERSON - 1,))
    left, top, width, height = cv2.boundingRect(own)
    return [float(left), float(top), float(left + width), float(top + height)], float(cv2.countNonZero(own))
