"""Draw a picture of people with full truth: where all 17 keypoints are, and which can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from probpose_edge.exceptions import InputError

from probpose_eval.synth_backdrop import backdrop, camera_faults, occluder, shadow
from probpose_eval.synth_body import sample_body, sample_skeleton
from probpose_eval.synth_canvas import Canvas
from probpose_eval.synth_figure import OWN_PARTS, PARTS_PER_PERSON, Figure, draw_figure, make_figure
from probpose_eval.synth_looks import sample_looks

MAX_PERSONS = 12
_OCCLUDER_ID = 255
_LEAST_AREA_PX = 48
_LEAST_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class DrawnPerson:
    """Truth about one person.

    keypoints: (17, 3) float64, COCO order, x and y in image pixels (true even beyond the border), and v: 2 what is
        on top at that pixel is the part the keypoint belongs to; 1 it is hidden by the person's own body or hair,
        another person or a thing, or lies beyond the border.
    bbox_xyxy: (4,) float64, the pixels where the person is on top: left and top edge, right and bottom edge.
    area: number of those pixels.
    """

    keypoints: NDArray[np.float64]
    bbox_xyxy: NDArray[np.float64]
    area: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """image: (H, W, 3) uint8 BGR; persons: farthest first; ids: (H, W) uint8, what is on top at each pixel:
    0 the backdrop, 255 a thing in front, else 1 + 16 * (index in `persons`) + part (`synth_figure.PART_NAMES`),
    and 254 a person left out of `persons` because almost nothing of them is in view."""

    image: NDArray[np.uint8]
    persons: tuple[DrawnPerson, ...]
    ids: NDArray[np.uint8]


def draw_scene(
    rng: np.random.Generator,
    *,
    width: int = 640,
    height: int = 480,
    persons: tuple[int, int] = (1, 3),
    cut_share: float = 0.3,
    occluder_share: float = 0.35,
    yaw: float | None = None,
) -> Scene:
    """Draw one picture.

    Parameters
    ----------
    rng: the only source of chance; the same state draws the same picture.
    width, height: size in pixels, at least 64 each.
    persons: fewest and most people to draw, 1 to 12. Somebody of whom almost nothing stays in view is not listed.
    cut_share: share of people placed across the border of the picture.
    occluder_share: share of pictures with things in front of people.
    yaw: radians everybody turns to their own left, 0 facing the viewer; sampled per person if None.

    Raises
    ------
    InputError: a value outside these ranges.
    """
    _check(width, height, persons, cut_share, occluder_share)
    count = int(rng.integers(persons[0], persons[1] + 1))
    light = np.array([rng.normal(0, 0.7), rng.normal(-0.6, 0.4), -1.0])
    canvas = Canvas(
        image=backdrop(rng, width, height),
        ids=np.zeros((height, width), np.uint8),
        light=light / np.linalg.norm(light),
        ambient=float(rng.uniform(0.35, 0.75)),
        tint=np.clip(rng.normal(1.0, 0.05, 3) * rng.uniform(0.75, 1.15), 0.5, 1.3),
    )
    figures = sorted((_place(rng, width, height, count, cut_share, yaw) for _ in range(count)), key=lambda f: f.scale)
    for index, figure in enumerate(figures):
        if figure.skeleton.grounded and rng.random() < 0.8:
            feet = np.stack([figure.place[f"{side}_{end}"] for side in ("left", "right") for end in ("heel", "toe")])
            half_w = 0.5 * float(np.ptp(feet[:, 0])) + 0.08 * figure.scale
            shadow(canvas, np.array([feet[:, 0].mean(), feet[:, 1].max()]), (half_w, 0.05 * figure.scale))
        draw_figure(canvas, figure, 1 + PARTS_PER_PERSON * index)
    if rng.random() < occluder_share:
        _put_things_in_front(rng, canvas, figures)
    truths, ids = _truth(canvas, figures)
    return Scene(image=camera_faults(rng, canvas.image), persons=truths, ids=ids)


def _check(width: int, height: int, persons: tuple[int, int], cut_share: float, occluder_share: float) -> None:
    for name, size in (("width", width), ("height", height)):
        if not isinstance(size, (int, np.integer)) or not 64 <= size <= 8192:
            raise InputError(f"{name} must be a whole number of pixels from 64 to 8192, got {size!r}. Choose one in it.")
    if len(persons) != 2 or not all(isinstance(n, (int, np.integer)) for n in persons) or not (
        1 <= persons[0] <= persons[1] <= MAX_PERSONS
    ):
        raise InputError(
            f"persons must be (fewest, most) with 1 <= fewest <= most <= {MAX_PERSONS}, got {persons!r}. "
            "Give for example persons=(1, 3)."
        )
    for name, share in (("cut_share", cut_share), ("occluder_share", occluder_share)):
        if not 0 <= share <= 1:
            raise InputError(f"{name} must lie in [0, 1], got {share!r}. It is a probability.")


def _place(
    rng: np.random.Generator, width: int, height: int, count: int, cut_share: float, yaw: float | None
) -> Figure:
    """Sample a person and choose size and place: inside the picture, or across its border."""
    body = sample_body(rng)
    looks = sample_looks(rng)
    skeleton = sample_skeleton(rng, body, yaw=yaw)
    points = np.stack(list(skeleton.joints.values()))[:, :2]
    low, high = points.min(0) - 0.05, points.max(0) + 0.05
    extent = np.maximum(high - low, 0.3)
    fit = float(min(width / extent[0], height / extent[1]))
    cut = rng.random() < cut_share
    smallest = 0.4 if count == 1 else 0.25
    share = rng.uniform(0.7, 2.2) if cut else rng.uniform(smallest, 0.97)
    # Nobody is so large that a hand fills the picture: a standing height is at most three picture heights.
    scale = float(np.clip(share * fit, 24.0, 3.0 * height))
    size = np.array([width, height])
    if cut:
        # Some keypoint, chosen by chance, lies well inside the picture; the rest falls where it falls.
        anchor = points[int(rng.integers(len(points)))]
        origin = rng.uniform(0.12, 0.88, 2) * size - scale * anchor
    else:
        room = size - scale * extent
        origin = rng.uniform(0, 1, 2) * np.maximum(room, 0) - scale * low
        if rng.random() < 0.5:  # feet on the lower half, as in most photographs
            origin[1] = room[1] * rng.uniform(0.6, 1.0) - scale * low[1]
    return make_figure(body, looks, skeleton, origin_px=origin, scale=scale, distance=float(rng.uniform(3.0, 14.0)))


def _put_things_in_front(rng: np.random.Generator, canvas: Canvas, figures: list[Figure]) -> None:
    height, width = canvas.ids.shape
    for _ in range(int(rng.integers(1, 4))):
        index = int(rng.integers(len(figures)))
        own = _owned(canvas.ids, index)
        ys, xs = np.nonzero(own.any(1))[0], np.nonzero(own.any(0))[0]
        if not len(ys):
            continue
        mask, picture = occluder(rng, width, height, np.array([xs[0], ys[0], xs[-1], ys[-1]]))
        covered = mask > 0
        hides = [
            np.count_nonzero(_owned(canvas.ids, other) & covered) / max(np.count_nonzero(_owned(canvas.ids, other)), 1)
            for other in range(len(figures))
        ]
        if max(hides) > 0.6:  # nobody is hidden almost wholly
            continue
        canvas.image[covered] = picture[covered]
        canvas.ids[covered] = _OCCLUDER_ID


def _owned(ids: NDArray[np.uint8], index: int) -> NDArray[np.bool_]:
    first = 1 + PARTS_PER_PERSON * index
    # Wraps below zero to large values: one comparison instead of two.
    return np.asarray((ids - np.uint8(first)) < PARTS_PER_PERSON)


def _truth(canvas: Canvas, figures: list[Figure]) -> tuple[tuple[DrawnPerson, ...], NDArray[np.uint8]]:
    height, width = canvas.ids.shape
    ids = canvas.ids.copy()
    persons: list[DrawnPerson] = []
    for index, figure in enumerate(figures):
        own = _owned(canvas.ids, index)
        area = int(np.count_nonzero(own))
        box = np.zeros(4)
        if area:
            ys, xs = np.nonzero(own.any(1))[0], np.nonzero(own.any(0))[0]
            box = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float64)
        seen = 0
        keypoints = np.concatenate([figure.keypoints_px, np.ones((17, 1))], axis=1)
        for k, (x, y) in enumerate(np.floor(figure.keypoints_px + 0.5).astype(int)):
            if 0 <= x < width and 0 <= y < height:
                seen += 1
                part = int(canvas.ids[y, x]) - 1 - PARTS_PER_PERSON * index
                if figure.facing[k] and part in OWN_PARTS[k]:
                    keypoints[k, 2] = 2
        ids[own] = 254
        if area >= max(_LEAST_AREA_PX, 0.0008 * figure.scale**2) and (keypoints[:, 2] == 2).any() and seen >= 2:
            ids[own] = canvas.ids[own] - np.uint8(PARTS_PER_PERSON * (index - len(persons)))
            persons.append(DrawnPerson(keypoints=keypoints, bbox_xyxy=box, area=float(area)))
    return tuple(persons), ids
