"""Draw a picture of people with full truth: where all keypoints are, and which can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.skeletons.skeleton import COCO_17
from probpose_eval.synth.backdrop import backdrop, camera_faults
from probpose_eval.synth.body import sample_body, sample_skeleton
from probpose_eval.synth.canvas import Canvas
from probpose_eval.synth.figure import draw_figure
from probpose_eval.synth.looks import sample_looks
from probpose_eval.synth.person import PARTS_PER_PERSON, Figure, make_figure
from probpose_eval.synth.things import THING_ID, held, occluder, seat, shadow

MAX_PERSONS = 12
UNLISTED_ID = 254
_LEAST_AREA_PX = 48
_MOST_HIDDEN = 0.6
_ATTEMPTS = 20
_PLACEMENTS = 5
_SMALLEST_PX = 24.0  # standing height


@dataclass(frozen=True, kw_only=True)
class DrawnPerson:
    """Truth about one person.

    keypoints: (K, 3) float64: x and y in image pixels, true even beyond the border, and v. v = 2: what is
        on top at that pixel is the part of the person that the keypoint belongs to. v = 1: it is hidden by the
        person's own body, hair or loose skirt, by another person or a thing, or lies beyond the border.
    bbox_xyxy: (4,) float64, edges of the pixels where the person is on top: left, top, right, bottom.
    area: number of those pixels.
    """

    keypoints: NDArray[np.float64]
    bbox_xyxy: NDArray[np.float64]
    area: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture and its truth.

    image: (H, W, 3) uint8 BGR.
    persons: farthest first.
    ids: (H, W) uint8, what is on top at each pixel: 0 the backdrop, 255 a thing, 254 a person who is not in `persons`
        because almost nothing of them can be seen, else ``1 + 17 * (index in persons) + part``, the part an index
        into `person.PART_NAMES`.
    """

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
    keypoint_names: Sequence[str] = COCO_17.keypoint_names,
) -> Scene:
    """Draw one picture of people; at least one of them is in `Scene.persons`.

    Parameters
    ----------
    rng: the only source of chance; the same state draws the same picture.
    width, height: size in pixels, 64 to 8192.
    persons: fewest and most people to draw, 1 to 12. Those of whom almost nothing can be seen are not listed.
    cut_share: share of people placed across the border of the picture.
    occluder_share: share of pictures with things in front of people; a share as large holds something.
    yaw: radians everybody turns to their own left, 0 facing the viewer; sampled per person if None.
    keypoint_names: K names among those of COCO, MPII, CrowdPose and COCO-WholeBody (see `keypoints`).

    Raises
    ------
    InputError: a value outside these ranges, or a keypoint that drawn people do not have.
    """
    _check(rng, width, height, persons, cut_share, occluder_share, yaw)
    for _ in range(_ATTEMPTS):
        scene = _draw(rng, width, height, persons, cut_share, occluder_share, yaw, keypoint_names)
        if scene.persons:
            break
        cut_share = cut_share / 2
    else:
        scene = _draw(rng, width, height, (1, 1), 0.0, 0.0, yaw, keypoint_names)
    return scene


def _draw(
    rng: np.random.Generator,
    width: int,
    height: int,
    persons: tuple[int, int],
    cut_share: float,
    occluder_share: float,
    yaw: float | None,
    keypoint_names: Sequence[str],
) -> Scene:
    count = int(rng.integers(persons[0], persons[1] + 1))
    light = np.array([rng.normal(0, 0.7), rng.normal(-0.6, 0.4), -1.0])
    canvas = Canvas(
        image=np.ascontiguousarray(backdrop(rng, width, height)),
        ids=np.zeros((height, width), np.uint8),
        light=light / np.linalg.norm(light),
        ambient=float(rng.uniform(0.35, 0.75)),
        tint=np.clip(rng.normal(1.0, 0.05, 3) * rng.uniform(0.75, 1.15), 0.5, 1.3).astype(np.float32),
    )
    figures = [_place(rng, width, height, count, cut_share, yaw, keypoint_names) for _ in range(count)]
    figures.sort(key=lambda figure: figure.scale)  # the larger, the nearer
    for index, figure in enumerate(figures):
        if figure.skeleton.activity not in ("jump", "wild") and rng.random() < 0.8:
            shadow(canvas, figure)
        if figure.skeleton.activity == "sit" and rng.random() < 0.75:
            seat(rng, canvas, figure)
        draw_figure(canvas, figure, 1 + PARTS_PER_PERSON * index)
        if rng.random() < 0.6 * occluder_share:
            held(rng, canvas, figure)
    if rng.random() < occluder_share:
        _put_things_in_front(rng, canvas, count)
    truths, ids = _truth(canvas, figures)
    return Scene(image=camera_faults(rng, canvas.image), persons=truths, ids=ids)


def _check(
    rng: np.random.Generator,
    width: int,
    height: int,
    persons: tuple[int, int],
    cut_share: float,
    occluder_share: float,
    yaw: float | None,
) -> None:
    if not isinstance(rng, np.random.Generator):
        raise InputError(f"rng must be a numpy Generator, got {rng!r}. Pass for example np.random.default_rng(0).")
    for name, size in (("width", width), ("height", height)):
        if not isinstance(size, (int, np.integer)) or not 64 <= size <= 8192:
            raise InputError(f"{name} must be a whole number of pixels in [64, 8192], got {size!r}. Choose one there.")
    pair = isinstance(persons, (tuple, list)) and len(persons) == 2
    if not (
        pair and all(isinstance(n, (int, np.integer)) for n in persons) and 1 <= persons[0] <= persons[1] <= MAX_PERSONS
    ):
        raise InputError(
            f"persons must be (fewest, most) with 1 <= fewest <= most <= {MAX_PERSONS}, got {persons!r}. "
            "Give for example persons=(1, 3)."
        )
    for name, share in (("cut_share", cut_share), ("occluder_share", occluder_share)):
        if not 0 <= share <= 1:
            raise InputError(f"{name} must lie in [0, 1], got {share!r}. It is a probability.")
    if yaw is not None and not np.isfinite(yaw):
        raise InputError(f"yaw must be None or a finite angle in radians, got {yaw!r}. Use 0 for front views.")


def _place(
    rng: np.random.Generator,
    width: int,
    height: int,
    count: int,
    cut_share: float,
    yaw: float | None,
    keypoint_names: Sequence[str],
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
    size = np.array([width, height])
    if cut:
        for _ in range(_PLACEMENTS):
            # Some joint, chosen by chance, lies well inside the picture; the rest falls where it falls.
            scale = max(rng.uniform(0.7, 2.0) * fit, _SMALLEST_PX)
            anchor = points[int(rng.integers(len(points)))]
            origin = rng.uniform(0.12, 0.88, 2) * size - scale * anchor
            places = origin + scale * points
            if np.count_nonzero(((places > 0) & (places < size)).all(axis=1)) > len(points) // 4:
                break
    else:
        scale = max(rng.uniform(smallest, 0.97) * fit, _SMALLEST_PX)
        room = size - scale * extent
        origin = rng.uniform(0, 1, 2) * np.maximum(room, 0) - scale * low
        if rng.random() < 0.5:  # feet on the lower half, as in most photographs
            origin[1] = room[1] * rng.uniform(0.6, 1.0) - scale * low[1]
    return make_figure(
        body,
        looks,
        skeleton,
        origin_px=origin,
        scale=scale,
        distance=float(rng.uniform(3.0, 14.0)),
        keypoint_names=keypoint_names,
    )


def _put_things_in_front(rng: np.random.Generator, canvas: Canvas, count: int) -> None:
    height, width = canvas.ids.shape
    for _ in range(int(rng.integers(1, 4))):
        own = _owned(canvas.ids, int(rng.integers(count)))
        left, top, w, h = cv2.boundingRect(own)
        if not w:
            continue
        mask, picture = occluder(rng, width, height, np.array([left, top, left + w, top + h], np.float64))
        covered, all_of_it = _areas(canvas.ids, count, mask), _areas(canvas.ids, count)
        if (covered > _MOST_HIDDEN * all_of_it).any():  # nobody is hidden almost wholly
            continue
        cv2.copyTo(picture, mask, canvas.image)
        canvas.ids[mask > 0] = THING_ID


def _owned(ids: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    """(H, W) uint8: 255 where person `index` is on top."""
    first = 1 + PARTS_PER_PERSON * index
    return np.asarray(cv2.inRange(ids, (first,), (first + PARTS_PER_PERSON - 1,)), np.uint8)


def _areas(ids: NDArray[np.uint8], count: int, mask: NDArray[np.uint8] | None = None) -> NDArray[np.float64]:
    """Pixels per person, of those in `mask`."""
    histogram = cv2.calcHist([ids], [0], mask, [256], [0, 256]).reshape(-1)
    return np.asarray(histogram[1 : 1 + PARTS_PER_PERSON * count].reshape(count, -1).sum(1), np.float64)


def _truth(canvas: Canvas, figures: list[Figure]) -> tuple[tuple[DrawnPerson, ...], NDArray[np.uint8]]:
    height, width = canvas.ids.shape
    new_id = np.arange(256, dtype=np.uint8)
    persons: list[DrawnPerson] = []
    for index, figure in enumerate(figures):
        first = 1 + PARTS_PER_PERSON * index
        own = _owned(canvas.ids, index)
        area = cv2.countNonZero(own)
        left, top, w, h = cv2.boundingRect(own)
        keypoints = np.concatenate([figure.keypoints_px, np.ones((len(figure.keypoints_px), 1))], axis=1)
        for k, (x, y) in enumerate(np.floor(figure.keypoints_px + 0.5).astype(int).tolist()):
            if 0 <= x < width and 0 <= y < height:
                part = int(canvas.ids[y, x]) - first
                if figure.facing[k] and part in figure.own_parts[k]:
                    keypoints[k, 2] = 2
        ids_of_person = slice(first, first + PARTS_PER_PERSON)
        # One keypoint in view and a patch of a few hands' size: less cannot be called a person in the picture.
        if area >= max(_LEAST_AREA_PX, 0.002 * figure.scale**2) and (keypoints[:, 2] == 2).any():
            new_id[ids_of_person] = 1 + PARTS_PER_PERSON * len(persons) + np.arange(PARTS_PER_PERSON)
            box = np.array([left, top, left + w, top + h], np.float64)
            persons.append(DrawnPerson(keypoints=keypoints, bbox_xyxy=box, area=float(area)))
        else:
            new_id[ids_of_person] = UNLISTED_ID
    return tuple(persons), np.asarray(cv2.LUT(canvas.ids, new_id))
