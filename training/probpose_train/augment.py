"""From a person in a picture to a training crop with its truth: geometry, crop augmentation, colour.

All geometry is composed into one affine map, so that every crop is interpolated once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.window import box_to_window
from probpose_train.config import AugmentConfig
from probpose_train.cut_crop import CropPlan, Paste, cut_crop, draw_paste
from probpose_train.distort import draw_distortion
from probpose_train.sources import TrainPerson

FloatArray = NDArray[np.float64]
SMALLEST_BOX_PX = 8
"""A cut that leaves less of the box than this, in width or height, is not made."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowFrame:
    """What the augmentation needs of a model: input and map size (width, height), padding, for every keypoint the index
    that takes its place in a mirrored picture, and the size of the activation window over that of the input window."""

    input_wh: tuple[int, int]
    heatmap_wh: tuple[int, int]
    padding: float
    flip_permutation: tuple[int, ...]
    window_ratio: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleTruth:
    """For K keypoints, the arrays of `probpose_train.losses.Targets`."""

    points_cell: NDArray[np.float32]
    map_mask: NDArray[np.bool_]
    presence: NDArray[np.float32]
    presence_mask: NDArray[np.bool_]
    visibility: NDArray[np.float32]
    visibility_mask: NDArray[np.bool_]
    area_cell: np.float32


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainSample(SampleTruth):
    """Crop (H, W, 3) uint8 RGB and its truth."""

    crop: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedSample(SampleTruth):
    """The same before its pixels are made, which another device may do."""

    plan: CropPlan


def augment(
    person: TrainPerson,
    rng: np.random.Generator,
    frame: WindowFrame,
    config: AugmentConfig,
    draw_other: Callable[[], TrainPerson] | None = None,
) -> TrainSample:
    """Draw one random crop of the person, as `plan_sample` says, and make its pixels."""
    planned = plan_sample(person, rng, frame, config, draw_other)
    truth = {field.name: getattr(planned, field.name) for field in dataclasses.fields(SampleTruth)}
    return TrainSample(crop=cut_crop(planned.plan, frame.input_wh), **truth)


def plan_sample(
    person: TrainPerson,
    rng: np.random.Generator,
    frame: WindowFrame,
    config: AugmentConfig,
    draw_other: Callable[[], TrainPerson] | None = None,
) -> PlannedSample:
    """Draw the geometry, the truth and the distortion of one random crop of the person. `draw_other` gives the picture
    of somebody else to paste from; without it nothing is pasted.

    Truth: a labelled keypoint inside the activation window trains the map and counts as present, also where the crop
    augmentation blacked it out, a pasted piece covers it, or it lies beyond the crop; a labelled keypoint outside the
    window counts as absent; an unlabelled one (v = 0) trains nothing; one marked v = 3 counts as absent while the
    window stays within the annotated window, because its true place is not known.
    """
    height, width = person.image.shape[:2]
    xy, v = person.keypoints[:, :2], person.keypoints[:, 2]
    located = (v == 1) | (v == 2)
    annotated_window = box_to_window(person.bbox_xyxy[None], frame.input_wh, frame.padding)[0]
    box = person.bbox_xyxy
    border = np.array([0.0, 0.0, width, height])
    if rng.random() < config.half_body:
        in_picture = ((xy >= border[:2]) & (xy < border[2:])).all(1)
        box = half_body_box(box, xy, located & in_picture, rng)
    if rng.random() < config.crop:
        border = random_border(box, border, rng, config.crop_keep)
    shrunk = np.concatenate((np.maximum(box[:2], border[:2]), np.minimum(box[2:], border[2:])))
    if (shrunk[2:] - shrunk[:2] >= SMALLEST_BOX_PX).all():
        box = shrunk
    window = box_to_window(box[None], frame.input_wh, frame.padding)[0]
    center, size = window[:2], window[2:] * np.exp(rng.uniform(*np.log(config.scale)))
    center = center + size * rng.uniform(-config.shift, config.shift, 2)
    angle = 0.0
    if rng.random() < config.rotate:
        # A triangle-shaped density: upright people stay the most frequent.
        angle = np.deg2rad(config.rotation_deg) * (rng.random() - rng.random())
    mirrored = rng.random() < config.flip
    matrix = crop_matrix(center, size, angle, frame.input_wh, mirrored=mirrored)
    crop_wh = np.array(frame.input_wh, dtype=np.float64)
    points_crop = xy @ matrix[:, :2].T + matrix[:, 2]
    covered = np.zeros(len(v), dtype=bool)
    paste: Paste | None = None
    if draw_other is not None and rng.random() < config.paste:
        paste = draw_paste(draw_other(), rng, frame.input_wh)
        x0, y0, x1, y1 = paste.rectangle_xyxy
        covered = ((points_crop >= (x0, y0)) & (points_crop < (x1, y1))).all(1)
    distortion = draw_distortion(rng, config)

    # The activation window in the pixels of a crop that would show all of it.
    points_window = points_crop / frame.window_ratio + (crop_wh - 1) / 2 * (1 - 1 / frame.window_ratio)
    inside = ((points_window >= 0) & (points_window <= crop_wh - 1)).all(1)
    in_crop = ((points_crop >= 0) & (points_crop <= crop_wh - 1)).all(1)
    hidden = covered | ~in_crop | ~((xy >= border[:2]) & (xy < border[2:])).all(1)
    stays_within = window_within(center, size * frame.window_ratio, angle, annotated_window)
    absent_known = (located & ~inside) | ((v == 3) & stays_within)
    map_mask = located & inside
    visible = (v == 2) & ~hidden
    visibility_mask = map_mask & (hidden | person.visibility_labelled)
    points_cell = points_window * (np.array(frame.heatmap_wh) - 1) / (crop_wh - 1)
    area_cell = person.area * np.prod((np.array(frame.heatmap_wh) - 1) / (size * frame.window_ratio))
    order = np.array(frame.flip_permutation) if mirrored else np.arange(len(v))
    return PlannedSample(
        plan=CropPlan(picture=person.image, matrix=matrix, border_xyxy=border, paste=paste, distortion=distortion),
        points_cell=points_cell[order].astype(np.float32),
        map_mask=map_mask[order],
        presence=map_mask[order].astype(np.float32),
        presence_mask=(map_mask | absent_known)[order],
        visibility=visible[order].astype(np.float32),
        visibility_mask=visibility_mask[order],
        area_cell=np.float32(area_cell),
    )


def half_body_box(
    box_xyxy: FloatArray, xy: FloatArray, located: NDArray[np.bool_], rng: np.random.Generator
) -> FloatArray:
    """Box (4,) around the upper or the lower half of the located keypoints; the given box where too few are known.

    Halves are split at the median height, which needs no skeleton names and suits lying people as well.
    """
    points = xy[located]
    if len(points) < 6:
        return box_xyxy
    axis = int(np.argmax(np.ptp(points, axis=0)))
    low = points[:, axis] <= np.median(points[:, axis])
    half = points[low if rng.random() < 0.5 else ~low]
    if len(half) < 3:
        return box_xyxy
    top_left, bottom_right = half.min(0), half.max(0)
    margin = 0.2 * float((bottom_right - top_left).max()) + 2
    return np.concatenate((top_left - margin, bottom_right + margin))


def random_border(
    box_xyxy: FloatArray, border_xyxy: FloatArray, rng: np.random.Generator, keep: tuple[float, float]
) -> FloatArray:
    """Rectangle (4,) px that becomes the image border: it cuts the box on one or two sides (ProbPose, section 3.4)."""
    new = border_xyxy.copy()
    sides = rng.permutation(4)[: 1 + int(rng.random() < 0.5)]
    for side in sides:
        axis, length = side % 2, box_xyxy[2 + side % 2] - box_xyxy[side % 2]
        cut = (1 - rng.uniform(*keep)) * length
        if side < 2:
            new[axis] = max(new[axis], box_xyxy[axis] + cut)
        else:
            new[2 + axis] = min(new[2 + axis], box_xyxy[2 + axis] - cut)
    new = np.round(new)
    kept = np.minimum(new[2:], box_xyxy[2:]) - np.maximum(new[:2], box_xyxy[:2])
    # Opposite cuts can leave nothing: keep the whole picture then.
    return new if (kept >= SMALLEST_BOX_PX).all() else border_xyxy


def crop_matrix(
    center_px: FloatArray, size_px: FloatArray, angle: float, input_wh: tuple[int, int], *, mirrored: bool
) -> FloatArray:
    """(2, 3) affine map from image px to crop px, UDP-aligned: the window's edges fall on the first and last pixel
    centers. `angle` in radians turns the picture counter-clockwise on screen."""
    scale = (np.array(input_wh, dtype=np.float64) - 1) / size_px
    cosine, sine = np.cos(angle), np.sin(angle)
    linear = np.diag(scale) @ np.array([[cosine, sine], [-sine, cosine]])
    offset = (np.array(input_wh, dtype=np.float64) - 1) / 2 - linear @ center_px
    matrix = np.concatenate((linear, offset[:, None]), axis=1)
    if mirrored:
        matrix[0] = -matrix[0]
        matrix[0, 2] += input_wh[0] - 1
    return matrix


def window_within(center_px: FloatArray, size_px: FloatArray, angle: float, outer: FloatArray) -> bool:
    """Whether the turned window lies inside an upright window (center_x, center_y, width, height)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size_px / 2
    corners = corners @ np.array([[cosine, sine], [-sine, cosine]]) + center_px
    return bool((np.abs(corners - outer[:2]) <= outer[2:] / 2 + 1e-6).all())
