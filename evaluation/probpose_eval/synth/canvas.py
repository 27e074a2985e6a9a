"""A picture with an id buffer, and the two strokes people are drawn with: shaded tubes and shaded ellipsoids."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Image = NDArray[np.uint8]

_PLAIN_PX = 3.0  # half width below which a tube is drawn in one colour
_SHIFT = 3  # sub-pixel bits of cv2's polygon corners
_CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """image (H, W, 3) uint8 BGR; ids (H, W) uint8, what is on top, 0 the backdrop; light (3,) unit, camera frame;
    ambient: share of light that comes from everywhere; tint (3,) BGR factor of the light."""

    image: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    light: Array
    ambient: float
    tint: Array


@dataclass(frozen=True, kw_only=True)
class Section:
    """One cross-section of a tube: its middle (2,) px, its outline (M, 2) px, its half width across the tube, px."""

    middle: Array
    outline: Array
    half: float


def ball(middle: Array, radius: float) -> Section:
    """The section of a limb."""
    return Section(middle=middle, outline=middle + _CIRCLE * radius, half=radius)


def disc(middle: Array, across: Array, deep: Array) -> Section:
    """The section of a trunk: an ellipse in space with projected half-axes `across` and `deep`, both (2,) px."""
    outline = middle + _CIRCLE[:, :1] * across + _CIRCLE[:, 1:] * deep
    half = float(np.sqrt(across @ across + deep @ deep))
    return Section(middle=middle, outline=outline, half=half)


@lru_cache(maxsize=8)
def _tube_grid(along: int, across: int) -> tuple[Array, Array]:
    rows = np.arange(along, dtype=np.float32)[:, None] / np.float32(along - 1)
    return rows, np.linspace(-1, 1, across, dtype=np.float32)[None, :]


@lru_cache(maxsize=4)
def _square_grid(side: int) -> tuple[Array, Array]:
    line = np.linspace(-1, 1, side)
    return np.meshgrid(line, line)[0], np.meshgrid(line, line)[1]


def _region(canvas: Canvas, low: Array, high: Array) -> tuple[int, int, int, int] | None:
    height, width = canvas.ids.shape
    x0, y0 = max(0, int(low[0]) - 2), max(0, int(low[1]) - 2)
    x1, y1 = min(width, int(high[0]) + 3), min(height, int(high[1]) + 3)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _paste(canvas: Canvas, box: tuple[int, int, int, int], patch: Image, mask: Image, part: int) -> None:
    x0, y0, x1, y1 = box
    weight = mask.astype(np.float32)
    weight *= np.float32(1 / 255)
    roi = canvas.image[y0:y1, x0:x1]
    roi[:] = cv2.blendLinear(patch, np.ascontiguousarray(roi), weight, 1 - weight)
    canvas.ids[y0:y1, x0:x1][mask > 127] = part


def lit_shade(canvas: Canvas, lit: Array | np.float32) -> Array:
    """Brightness from the cosine to the light: soft on the lit side, `ambient` on the other."""
    direct = np.maximum(lit * np.float32(0.75) + np.float32(0.25), 0)
    return np.asarray(direct * np.float32(1 - canvas.ambient) + np.float32(canvas.ambient))


def tube(
    canvas: Canvas,
    sections: list[Section],
    texture: Array,
    frame: Array,
    part: int,
    *,
    rows: tuple[float, float] = (0.0, 1.0),
    gloss: float = 0.0,
) -> None:
    """Draw a tube through `sections` with a texture wrapped around it, shaded as a cylinder.

    texture: (R, C, 3) or one colour (3,), float32 BGR; `rows` is the range of it that the tube shows.
    frame: (3, 3) columns left, up, forward of the part in the camera frame; it turns the texture.
    part: the id written where the tube covers more than half a pixel.
    gloss: strength of the highlight.
    """
    outlines = np.concatenate([section.outline for section in sections])
    box = _region(canvas, outlines.min(0), outlines.max(0))
    if box is None:
        return
    x0, y0, x1, y1 = box
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    corners = np.rint((outlines - (x0, y0)) * (1 << _SHIFT)).astype(np.int32)
    ends = np.cumsum([0] + [len(section.outline) for section in sections])
    for first, last in pairwise(ends) if len(sections) == 1 else zip(ends, ends[2:], strict=False):
        cv2.fillConvexPoly(mask, cv2.convexHull(corners[first:last]), 255, cv2.LINE_AA, _SHIFT)

    reach = max(section.half for section in sections) + 0.5
    if reach < _PLAIN_PX:
        _plain(canvas, mask, box, texture, rows, part)
        return
    start = sections[0].middle
    bone = sections[-1].middle - start
    length = float(np.sqrt(bone @ bone))
    along_x, along_y = (float(bone[0]) / length, float(bone[1]) / length) if length > 1e-6 else (0.0, 1.0)
    total = length + 2 * reach
    patch = _tube_patch(canvas, sections, texture, frame, (along_x, along_y), length, reach, rows, gloss)

    # Patch pixel (column, row) → picture pixel; across the tube is the bone turned by a quarter.
    step_v, step_u = total / (patch.shape[0] - 1), 2 * reach / (patch.shape[1] - 1)
    to_picture = np.array(
        [
            [-along_y * step_u, along_x * step_v, float(start[0]) - reach * (along_x - along_y) - x0],
            [along_x * step_u, along_y * step_v, float(start[1]) - reach * (along_y + along_x) - y0],
        ]
    )
    warped = cv2.warpAffine(
        patch, to_picture, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    _paste(canvas, box, np.asarray(warped, np.uint8), mask, part)


def _plain(
    canvas: Canvas,
    mask: Image,
    box: tuple[int, int, int, int],
    texture: Array,
    rows: tuple[float, float],
    part: int,
) -> None:
    """A tube too thin for shades: one colour."""
    if texture.ndim == 3:
        texture = texture[int(0.5 * (rows[0] + rows[1]) * (len(texture) - 1)), ::8].mean(0)
    lit = lit_shade(canvas, np.float32(-0.7 * canvas.light[2]))
    patch = np.empty((*mask.shape, 3), np.uint8)
    patch[:] = np.minimum(texture * (0.9 * lit) * canvas.tint, 255)
    _paste(canvas, box, patch, mask, part)


def _tube_patch(
    canvas: Canvas,
    sections: list[Section],
    texture: Array,
    frame: Array,
    along: tuple[float, float],
    length: float,
    reach: float,
    rows: tuple[float, float],
    gloss: float,
) -> Image:
    """Colours of a tube on a small grid: rows along it, columns across; the normal turns from side to side."""
    total = length + 2 * reach
    fine = 0 if reach < 12 else 1 if reach < 40 else 2
    v_grid, u_grid = _tube_grid(*((20, 12), (40, 20), (72, 48))[fine])
    start = sections[0].middle
    where = v_grid[:, 0] * total - reach
    stops = [float((s.middle[0] - start[0]) * along[0] + (s.middle[1] - start[1]) * along[1]) for s in sections]
    halves = np.interp(where, stops, [section.half for section in sections])[:, None].astype(np.float32)
    u = np.minimum(np.maximum(u_grid * (np.float32(reach) / np.maximum(halves, 0.3)), -1), 1)
    w = np.sqrt(1 - u * u)
    side_x, side_y = np.float32(-along[1]), np.float32(along[0])
    light = canvas.light
    lit = u * np.float32(side_x * light[0] + side_y * light[1]) - w * np.float32(light[2])
    shade = lit_shade(canvas, lit) * (np.float32(0.62) + np.float32(0.38) * np.sqrt(w))
    if texture.ndim == 1:
        colours = texture
    else:
        turned_left = u * np.float32(side_x * frame[0, 0] + side_y * frame[1, 0]) - w * np.float32(frame[2, 0])
        turned_front = u * np.float32(side_x * frame[0, 2] + side_y * frame[1, 2]) - w * np.float32(frame[2, 2])
        angle = np.arctan2(turned_left, turned_front)
        v = np.minimum(np.maximum(where / max(length, 1e-6), 0), 1)[:, None]
        row = ((rows[0] + v * (rows[1] - rows[0])) * (texture.shape[0] - 1)).astype(np.intp)
        column = ((angle * np.float32(0.5 / np.pi) + np.float32(0.5)) * (texture.shape[1] - 1)).astype(np.intp)
        colours = texture[row, column]
    patch = colours * (shade[..., None] * canvas.tint)
    if gloss:
        patch = patch + gloss * 255 * np.maximum(lit, 0)[..., None] ** 12
    return np.asarray(np.minimum(patch, 255), np.uint8)


@dataclass(frozen=True, kw_only=True)
class Sphere:
    """A patch of an ellipsoid seen by the viewer, S x S.

    local (3, S, S): place on the unit sphere in the ellipsoid's own axes; lit (S, S): cosine to the light;
    inside (S, S) bool; span (2,): half width and half height of the patch, in the unit of the half-axes.
    """

    local: Array
    lit: Array
    inside: NDArray[np.bool_]
    span: Array


def sphere(frame: Array, radii: Array, light: Array, side: int) -> Sphere:
    """Cast parallel rays at an ellipsoid: solve q(x, y, z) = 1 for the nearer z on a grid of `side` x `side`."""
    shape = (frame / radii**2) @ frame.T
    covariance = (frame * radii**2) @ frame.T
    span = np.sqrt(np.diag(covariance)[:2]) * 1.04
    grid_x, grid_y = _square_grid(side)
    x, y = grid_x * span[0], grid_y * span[1]
    b = shape[0, 2] * x + shape[1, 2] * y
    c = shape[0, 0] * x * x + 2 * shape[0, 1] * x * y + shape[1, 1] * y * y - 1
    root = b * b - shape[2, 2] * c
    z = (-b - np.sqrt(np.maximum(root, 0))) / shape[2, 2]
    points = np.stack([x, y, z]).reshape(3, -1)
    local = (frame.T @ points) / radii[:, None]
    normals = shape @ points
    lit = (light @ normals) / np.sqrt(np.maximum(np.einsum("ij,ij->j", normals, normals), 1e-12))
    return Sphere(
        local=local.reshape(3, side, side), lit=lit.reshape(side, side), inside=np.asarray(root > 0), span=span
    )


def paste_patch(
    canvas: Canvas, colours: Array, inside: NDArray[np.bool_], middle: Array, span_px: Array, part: int
) -> None:
    """Paste a shaded S x S patch (colours before the light's tint) at `middle`, stretched to `span_px`."""
    box = _region(canvas, middle - span_px, middle + span_px)
    if box is None:
        return
    x0, y0, x1, y1 = box
    side = len(inside)
    patch = np.empty((side, side, 4), np.uint8)
    patch[..., :3] = np.minimum(colours * canvas.tint, 255)
    patch[..., 3] = inside
    patch[..., 3] *= 255
    scale = 2 * span_px / (side - 1)
    matrix = np.array([[scale[0], 0, middle[0] - span_px[0] - x0], [0, scale[1], middle[1] - span_px[1] - y0]])
    warped = cv2.warpAffine(patch, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    _paste(canvas, box, np.ascontiguousarray(warped[..., :3]), np.ascontiguousarray(warped[..., 3]), part)
