"""From a person in a picture to a training crop with its truth: geometry, crop augmentation, colour.

All geometry is composed into one affine map, so that every crop is interpolated once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.window import box_to_window
from probpose_train.config import AugmentConfig
from probpose_train.sources import TrainPerson

FloatArray = NDArray[np.float64]
SMALLEST_BOX_PX = 8
"""A cut that leaves less of the box than this, in width or height, is not made."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowFrame:
    """What the augmentation needs of a model: input and map size (width, height), padding, and for every keypoint the
    index that takes its place in a mirrored picture."""

    input_wh: tuple[int, int]
    heatmap_wh: tuple[int, int]
    padding: float
    flip_permutation: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainSample:
    """Crop (H, W, 3) uint8 RGB and, for K keypoints, the arrays of `probpose_train.losses.Targets`."""

    crop: NDArray[np.uint8]
    points_cell: NDArray[np.float32]
    map_mask: NDArray[np.bool_]
    presence: NDArray[np.float32]
    presence_mask: NDArray[np.bool_]
    visibility: NDArray[np.float32]
    visibility_mask: NDArray[np.bool_]
    area_cell: np.float32


def augment(
    person: TrainPerson,
    rng: np.random.Generator,
    frame: WindowFrame,
    config: AugmentConfig,
    draw_other: Callable[[], TrainPerson] | None = None,
) -> TrainSample:
    """Draw one random crop of the person. `draw_other` gives the picture of somebody else to paste from; without it
    nothing is pasted.

    Truth: a labelled keypoint inside the window trains the map and counts as present, also where the crop
    augmentation blacked it out or a pasted piece covers it; a labelled keypoint outside the window counts as absent; an unlabelled one (v = 0)
    trains nothing; one marked v = 3 counts as absent while the window stays within the annotated window, because its
    true place is not known.
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
    crop = warp_inside(person.image, matrix, border, frame.input_wh)
    crop_wh = np.array(frame.input_wh, dtype=np.float64)
    points_crop = xy @ matrix[:, :2].T + matrix[:, 2]
    covered = np.zeros(len(v), dtype=bool)
    if draw_other is not None and rng.random() < config.paste:
        inside_border = warp_inside(np.full((height, width), 255, np.uint8), matrix, border, frame.input_wh) > 127
        x0, y0, x1, y1 = paste_other(crop, inside_border, draw_other(), rng)
        covered = ((points_crop >= (x0, y0)) & (points_crop < (x1, y1))).all(1)
    crop = distort(crop, rng, config)

    inside = ((points_crop >= 0) & (points_crop <= crop_wh - 1)).all(1)
    hidden = covered | ~((xy >= border[:2]) & (xy < border[2:])).all(1)
    stays_within = window_within(center, size, angle, annotated_window)
    absent_known = (located & ~inside) | ((v == 3) & stays_within)
    map_mask = located & inside
    visible = (v == 2) & ~hidden
    visibility_mask = map_mask & (hidden | person.visibility_labelled)
    points_cell = points_crop * (np.array(frame.heatmap_wh) - 1) / (crop_wh - 1)
    area_cell = person.area * np.prod((np.array(frame.heatmap_wh) - 1) / size)
    order = np.array(frame.flip_permutation) if mirrored else np.arange(len(v))
    return TrainSample(
        crop=np.ascontiguousarray(crop[..., ::-1]),
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


def paste_other(
    crop: NDArray[np.uint8], inside: NDArray[np.bool_], other: TrainPerson, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Cover a part of the crop, in place, with a piece of another picture; returns the rectangle x0, y0, x1, y1.

    Mostly another person reaches in from one side, as in a crowd; else a small piece of the picture lies anywhere, as an
    obstacle would. Pixels that are not `inside` (H, W) the picture's border stay black.
    """
    height, width = crop.shape[:2]
    size = np.array([width, height])
    if rng.random() < 0.7:
        piece = other.bbox_xyxy
        depth, length = rng.uniform(0.1, 0.4), rng.uniform(0.4, 1.0)
        side = int(rng.integers(4))
        # Along the axis across the side the rectangle begins outside the crop and reaches `depth` into it.
        axis = side % 2
        target = size * rng.uniform(0.4, 0.9)
        target[1 - axis] = size[1 - axis] * length
        corner = (size - target) * rng.random(2)
        corner[axis] = depth * size[axis] - target[axis] if side < 2 else (1 - depth) * size[axis]
    else:
        extent = (other.bbox_xyxy[2:] - other.bbox_xyxy[:2]) * rng.uniform(0.2, 0.5)
        start = other.bbox_xyxy[:2] + rng.random(2) * (other.bbox_xyxy[2:] - other.bbox_xyxy[:2] - extent)
        piece = np.concatenate((start, start + extent))
        target = size * rng.uniform(0.12, 0.35, 2)
        corner = (size - target) * rng.random(2)
    scale = target / np.maximum(piece[2:] - piece[:2], 1)
    matrix = np.array([[scale[0], 0, corner[0] - scale[0] * piece[0]], [0, scale[1], corner[1] - scale[1] * piece[1]]])
    x0, y0 = (int(value) for value in np.clip(np.round(corner), 0, size))
    x1, y1 = (int(value) for value in np.clip(np.round(corner + target), 0, size))
    pasted = cv2.warpAffine(other.image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    part = (slice(y0, y1), slice(x0, x1))
    crop[part] = np.where(inside[part][..., None], pasted[part], crop[part])
    return x0, y0, x1, y1


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


def warp_inside(
    image: NDArray[np.uint8], matrix: FloatArray, border_xyxy: FloatArray, input_wh: tuple[int, int]
) -> NDArray[np.uint8]:
    """Crop of the picture, black outside the border rectangle."""
    x0, y0, x1, y1 = (int(value) for value in border_xyxy)
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ np.array([x0, y0], dtype=np.float64)
    warped = cv2.warpAffine(image[y0:y1, x0:x1], shifted, input_wh, flags=cv2.INTER_LINEAR)
    return warped.astype(np.uint8, copy=False)


def distort(crop: NDArray[np.uint8], rng: np.random.Generator, config: AugmentConfig) -> NDArray[np.uint8]:
    """Colour, low resolution and noise, on BGR uint8."""
    if rng.random() < config.blur:
        if rng.random() < 0.6:
            # Small persons in photographs arrive enlarged: imitate their lost resolution.
            h, w = crop.shape[:2]
            factor = rng.uniform(1.5, 4.0)
            small = cv2.resize(crop, (max(2, int(w / factor)), max(2, int(h / factor))), interpolation=cv2.INTER_AREA)
            crop = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
        else:
            crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.5, 2.0)).astype(np.uint8, copy=False)
    if rng.random() < config.colour:
        if rng.random() < 0.1:
            grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
            crop = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
        elif rng.random() < 0.7:
            hsv = cv2.cvtColor(crop, cv2.COLOR_BGR2HSV)
            hue = (np.arange(256) + int(rng.integers(-10, 11))) % 180
            saturation = np.clip(np.arange(256) * rng.uniform(0.5, 1.5), 0, 255)
            table = np.stack((hue, saturation, np.arange(256)), axis=-1).astype(np.uint8)[None]
            crop = cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2BGR).astype(np.uint8, copy=False)
        ramp = np.arange(256)[:, None] * rng.uniform(0.6, 1.4) * rng.uniform(0.9, 1.1, (1, 3)) + rng.uniform(-30, 30)
        # Black stays black: it marks what lies outside the picture.
        ramp[0] = 0
        crop = cv2.LUT(crop, np.clip(ramp, 0, 255).astype(np.uint8)[None]).astype(np.uint8, copy=False)
    return crop
