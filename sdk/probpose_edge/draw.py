"""Draw poses on pictures, telling present, occluded and absent keypoints apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import InputError
from probpose_edge.images import to_bgr
from probpose_edge.poses import Poses
from probpose_edge.skeletons.skeleton import Skeleton

Color = tuple[int, int, int]
LEFT: Color = (0, 140, 255)
RIGHT: Color = (255, 170, 40)
MIDDLE: Color = (200, 230, 120)
"""BGR colors of the left side, the right side and the middle: orange and blue differ for every kind of color vision."""
_VISIBLE_RIM: Color = (255, 255, 255)
_OCCLUDED_RIM: Color = (40, 40, 40)
_OUTSIDE: Color = (52, 46, 44)
_BORDER: Color = (150, 150, 150)
_FAINT = 0.55
_MANY = 40
"""From this number of keypoints on, marks are as small as their places are precise: else a face is one blot."""
_PLAIN_SIGMA = 0.08
_SMALLEST_MARK = 0.18
_SHIFT = 4
"""Fractional bits of OpenCV's drawing coordinates."""
_SEEN_HEAT = 0.03
"""Share of its maximum from which on a map is drawn: calibrated maps are nowhere zero."""
_FARTHEST_EXPANSION = 1.0
"""How far `expand` may enlarge the canvas on each side, in lengths of the picture's longer side."""


def draw_poses(
    image_bgr: NDArray[Any],
    poses: Poses,
    skeleton: Skeleton | ModelContract,
    *,
    expand: bool | float = False,
    absent: bool = True,
    boxes: bool = False,
    maps: bool | str = False,
    labels: Sequence[str] | None = None,
) -> NDArray[np.uint8]:
    """A copy of the picture with the poses drawn on it.

    Limbs between present keypoints are solid, the person's left side orange, the right side blue. A present keypoint
    is a filled disc, with a white rim if it is visible and a dark rim if it is more likely occluded. An absent
    keypoint is a faint ring with a cross where the network would put it, joined to present ones by thin faint limbs.

    Parameters
    ----------
    image_bgr: (H, W, 3) uint8 BGR, or what `to_bgr` takes; not changed.
    poses: N poses in the pixels of the picture.
    skeleton: the model's contract, or a skeleton with K keypoints.
    expand: enlarge the canvas so that present keypoints, and maps if they are drawn, are seen beyond the border of the
        picture too. A number is a margin of its own on every side, in lengths of the picture's longer side, from 0 to
        1: every frame of a video then has the same size.
    absent: draw absent keypoints.
    boxes: draw the boxes with the instance scores.
    maps: lay the probability maps over the picture: those of all present keypoints, or that of the keypoint with this
        name. The map of an absent keypoint says where it would be if it were in view, and is drawn only if it is named.
    labels: N texts in place of the instance scores, identities for example; boxes are then drawn.

    Returns (H', W', 3) uint8 BGR; H', W' are larger than H, W only with `expand`. Raises `InputError` if `maps` is
    asked for but the poses have none, if the numbers of keypoints or of labels differ, or for another `expand`.
    """
    edges = skeleton.edges if isinstance(skeleton, Skeleton) else skeleton.skeleton
    if poses.keypoints.shape[1] != len(skeleton.keypoint_names):
        raise InputError(
            f"The skeleton has {len(skeleton.keypoint_names)} keypoints, the poses have {poses.keypoints.shape[1]}. "
            "Pass the contract of the model that estimated them."
        )
    if labels is not None and len(labels) != len(poses):
        raise InputError(f"There must be one label per person ({len(poses)}), got {len(labels)}. Leave none out.")
    chosen = np.zeros_like(poses.present)
    if maps is True:
        chosen = poses.present
    elif maps is not False:
        chosen[:, _index(skeleton, maps)] = True
    heat = None if maps is False else _heat(poses, chosen)
    canvas, origin = _canvas(to_bgr(image_bgr), poses, heat, expand)
    if heat is not None:
        _overlay_maps(canvas, origin, poses, heat)
    colors, sizes = _side_colors(skeleton), _mark_sizes(skeleton)
    figures = [
        _Figure(
            points=poses.keypoints[person] + origin,
            present=poses.present[person],
            visible=poses.visibility[person] >= 0.5,
            thickness=_thickness(poses, person),
            edges=edges,
            colors=colors,
            sizes=sizes,
        )
        for person in range(len(poses))
    ]
    faint = canvas.copy()
    if absent:
        for figure in figures:
            _draw_absent(faint, figure)
    cv2.addWeighted(faint, _FAINT, canvas, 1 - _FAINT, 0, dst=canvas)
    for person, figure in enumerate(figures):
        _draw_present(canvas, figure)
        if boxes or labels is not None:
            label = f"{poses.scores[person]:.2f}" if labels is None else labels[person]
            _draw_box(canvas, poses, person, origin, label)
    return canvas


def _canvas(
    image: NDArray[np.uint8], poses: Poses, heat: NDArray[np.float32] | None, expand: bool | float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The canvas, and where the picture's pixel (0, 0) lies on it, as [x, y]."""
    height, width = image.shape[:2]
    longer = max(width, height)
    if not 0 <= expand <= _FARTHEST_EXPANSION:
        raise InputError(f"expand must be True, False or a margin in [0, 1], got {expand!r}. Pass for example 0.25.")
    if expand is True:
        low, high = _reach(poses, heat)
        low = np.clip(low, -_FARTHEST_EXPANSION * longer, 0)
        high = np.clip(high, [width, height], np.array([width, height]) + _FARTHEST_EXPANSION * longer)
    else:
        low, high = np.full(2, -round(expand * longer)), np.array([width, height]) + round(expand * longer)
    if (low == 0).all() and (high == (width, height)).all():
        return image.copy(), np.zeros(2)
    left, top = (-low).astype(int).tolist()
    right, bottom = (high - (width, height)).astype(int).tolist()
    canvas = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=_OUTSIDE)
    cv2.rectangle(canvas, (left - 1, top - 1), (left + width, top + height), _BORDER, 1)
    return np.asarray(canvas, dtype=np.uint8), np.array([left, top], dtype=np.float64)


def _reach(poses: Poses, heat: NDArray[np.float32] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far what is drawn reaches, [x, y] px: present keypoints with their marks, and maps where they are seen."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    points = poses.keypoints[poses.present]
    if len(points):
        room = float(np.max([_thickness(poses, person) for person in range(len(poses))])) * 5
        low, high = np.floor(points.min(axis=0) - room), np.ceil(points.max(axis=0) + room)
    for person_heat, window in zip(() if heat is None else heat, poses.windows, strict=False):
        rows, columns = np.nonzero(person_heat)
        if len(rows):
            cells = np.array([[columns.min() - 1, rows.min() - 1], [columns.max() + 1, rows.max() + 1]])
            steps = window[2:] / (np.array(person_heat.shape[::-1]) - 1)
            ends = cells * steps + window[:2] - window[2:] / 2
            low, high = np.minimum(low, np.floor(ends[0])), np.maximum(high, np.ceil(ends[1]))
    return low, high


def _side_colors(skeleton: Skeleton | ModelContract) -> list[Color]:
    colors = [MIDDLE] * len(skeleton.keypoint_names)
    for left, right in skeleton.flip_pairs:
        colors[left], colors[right] = LEFT, RIGHT
    return colors


def _mark_sizes(skeleton: Skeleton | ModelContract) -> NDArray[np.float64]:
    """(K,) size of the mark of each keypoint, 1 for the usual one."""
    sigmas = np.array(skeleton.sigmas)
    return np.clip(sigmas / _PLAIN_SIGMA, _SMALLEST_MARK, 1.0) if len(sigmas) >= _MANY else np.ones(len(sigmas))


def _thickness(poses: Poses, person: int) -> float:
    """Width of the limbs in pixels: it follows the size of the person, of which the window is a quarter larger."""
    return float(np.clip(poses.windows[person, 3] / 150, 1.0, 12.0))


class _Figure(NamedTuple):
    """One person on the canvas: (K, 2) points, (K,) masks, width of the limbs in pixels, and how K keypoints look."""

    points: NDArray[np.float64]
    present: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    thickness: float
    edges: tuple[tuple[int, int], ...]
    colors: list[Color]
    sizes: NDArray[np.float64]


def _draw_present(canvas: NDArray[np.uint8], figure: _Figure) -> None:
    points, present, visible, thickness, edges, colors, sizes = figure
    for a, b in edges:
        if present[a] and present[b]:
            color = colors[a] if colors[a] == colors[b] else MIDDLE
            _line(canvas, points[a], points[b], color, thickness * min(sizes[a], sizes[b]))
    for index in np.flatnonzero(present):
        rim = _VISIBLE_RIM if visible[index] else _OCCLUDED_RIM
        _disc(canvas, points[index], (1.55 * thickness + 1.0) * sizes[index], rim)
        _disc(canvas, points[index], (1.15 * thickness + 0.3) * sizes[index], colors[index])


def _draw_absent(canvas: NDArray[np.uint8], figure: _Figure) -> None:
    points, present, _, thickness, edges, colors, sizes = figure
    for a, b in edges:
        if present[a] != present[b]:
            _line(canvas, points[a], points[b], colors[b if present[a] else a], thickness / 3 * min(sizes[a], sizes[b]))
    for index in np.flatnonzero(~present):
        point, color = points[index], colors[index]
        radius = (1.7 * thickness + 0.5) * sizes[index]
        arm = np.array([radius, radius]) * 0.7
        _ring(canvas, point, radius, color, thickness / 2)
        _line(canvas, point - arm, point + arm, color, thickness / 2)
        _line(canvas, point - arm * (1, -1), point + arm * (1, -1), color, thickness / 2)


def _draw_box(canvas: NDArray[np.uint8], poses: Poses, person: int, origin: NDArray[np.float64], label: str) -> None:
    x1, y1, x2, y2 = np.round(poses.boxes[person] + np.tile(origin, 2)).astype(int).tolist()
    thickness = max(1, round(_thickness(poses, person) / 3))
    cv2.rectangle(canvas, (x1, y1), (x2, y2), _VISIBLE_RIM, thickness, cv2.LINE_AA)
    scale = float(np.clip(poses.windows[person, 3] / 900, 0.4, 1.5))
    (text_w, text_h), below = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    left, top = max(x1, 0), max(y1, 0)
    cv2.rectangle(canvas, (left, top), (left + text_w + 4, top + text_h + below + 2), _VISIBLE_RIM, -1)
    place = (left + 2, top + text_h + below // 2 + 1)
    cv2.putText(canvas, label, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _OCCLUDED_RIM, thickness, cv2.LINE_AA)


def _heat(poses: Poses, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N, H, W) float32 in [0, 1]: the chosen maps (N, K), each scaled to its own maximum; the larger value counts."""
    if poses.maps is None:
        raise InputError("Drawing maps needs poses that have them. Estimate with return_maps=True.")
    heat = np.zeros((len(poses), *poses.maps.shape[2:]), dtype=np.float32)
    for person, marks in enumerate(chosen):
        maps = poses.maps[person][marks]
        if len(maps):
            heat[person] = (maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-9)).max(axis=0)
    return np.asarray(np.maximum(heat - _SEEN_HEAT, 0) / (1 - _SEEN_HEAT), dtype=np.float32)


def _overlay_maps(
    canvas: NDArray[np.uint8], origin: NDArray[np.float64], poses: Poses, heat: NDArray[np.float32]
) -> None:
    """Blend the maps in; where those of persons overlap, the larger value counts."""
    height, width = canvas.shape[:2]
    strength = np.zeros((height, width), dtype=np.float32)
    for person_heat, (center_x, center_y, window_w, window_h) in zip(heat, poses.windows, strict=True):
        step_x, step_y = window_w / (person_heat.shape[1] - 1), window_h / (person_heat.shape[0] - 1)
        to_canvas = np.array(
            [[step_x, 0, center_x - window_w / 2 + origin[0]], [0, step_y, center_y - window_h / 2 + origin[1]]]
        )
        warped = cv2.warpAffine(person_heat, to_canvas, (width, height), flags=cv2.INTER_LINEAR)
        np.maximum(strength, warped, out=strength)
    colors = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    weight = (0.85 * np.sqrt(strength))[..., None]
    canvas[...] = (canvas * (0.65 * (1 - weight)) + colors * weight).astype(np.uint8)


def _index(skeleton: Skeleton | ModelContract, name: str | bool) -> int:
    names = skeleton.keypoint_names
    if name not in names:
        raise InputError(f"maps must be True, False or one of {', '.join(names)}, got {name!r}.")
    return names.index(str(name))


def _line(
    canvas: NDArray[np.uint8], start: NDArray[np.float64], end: NDArray[np.float64], color: Color, thickness: float
) -> None:
    cv2.line(canvas, _fixed(start), _fixed(end), color, max(1, round(thickness)), cv2.LINE_AA, _SHIFT)


def _disc(canvas: NDArray[np.uint8], center: NDArray[np.float64], radius: float, color: Color) -> None:
    cv2.circle(canvas, _fixed(center), round(radius * (1 << _SHIFT)), color, -1, cv2.LINE_AA, _SHIFT)


def _ring(
    canvas: NDArray[np.uint8], center: NDArray[np.float64], radius: float, color: Color, thickness: float
) -> None:
    scaled = round(radius * (1 << _SHIFT))
    cv2.circle(canvas, _fixed(center), scaled, color, max(1, round(thickness)), cv2.LINE_AA, _SHIFT)


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    """A point in OpenCV's fixed-point coordinates, kept within their range."""
    x, y = np.clip(np.round(point * (1 << _SHIFT)), -(2**30), 2**30).astype(int).tolist()
    return x, y
