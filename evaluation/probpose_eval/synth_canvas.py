"""A picture with an id buffer, and the two strokes people are drawn with: shaded tubes and shaded ellipsoids."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_SHIFT = 3  # sub-pixel bits of cv2's polygon corners
_CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)
_ALONG, _ACROSS = 40, 20
_V = (np.arange(_ALONG) / (_ALONG - 1))[:, None]
_U = np.linspace(-1, 1, _ACROSS)[None, :]
_HEAD = 56
_GRID_Y, _GRID_X = np.mgrid[-1 : 1 : _HEAD * 1j, -1 : 1 : _HEAD * 1j]


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """image (H, W, 3) uint8 BGR; ids (H, W) uint8, what is on top, 0 the backdrop; light (3,) unit, camera frame."""

    image: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    light: Array
    ambient: float
    tint: Array  # (3,) BGR factor of the light


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
    return Section(middle=middle, outline=outline, half=float(np.hypot(np.linalg.norm(across), np.linalg.norm(deep))))


def _region(canvas: Canvas, low: Array, high: Array) -> tuple[int, int, int, int] | None:
    height, width = canvas.ids.shape
    x0, y0 = max(0, int(low[0]) - 2), max(0, int(low[1]) - 2)
    x1, y1 = min(width, int(high[0]) + 3), min(height, int(high[1]) + 3)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _paste(canvas: Canvas, box: tuple[int, int, int, int], patch: Array, mask: NDArray[np.uint8], part: int) -> None:
    x0, y0, x1, y1 = box
    weight = mask.astype(np.float32) * np.float32(1 / 255)
    roi = canvas.image[y0:y1, x0:x1]
    roi[:] = cv2.blendLinear(patch, np.ascontiguousarray(roi), weight, 1 - weight)
    canvas.ids[y0:y1, x0:x1][mask > 127] = part


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

    texture: (128, 128, 3) or one colour (3,), float32 BGR; `rows` is the range of it that the tube shows.
    frame: (3, 3) columns left, up, forward of the part in the camera frame; it turns the texture.
    part: the id written where the tube covers more than half a pixel.
    """
    outlines = np.concatenate([section.outline for section in sections])
    low, high = outlines.min(0), outlines.max(0)
    box = _region(canvas, low, high)
    if box is None:
        return
    x0, y0, x1, y1 = box
    origin = np.array([x0, y0])
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    corners = [np.round((section.outline - origin) * (1 << _SHIFT)).astype(np.int32) for section in sections]
    if len(corners) == 1:
        cv2.fillConvexPoly(mask, cv2.convexHull(corners[0]), 255, cv2.LINE_AA, _SHIFT)
    for first, second in zip(corners, corners[1:], strict=False):
        hull = cv2.convexHull(np.concatenate([first, second]))
        cv2.fillConvexPoly(mask, hull, 255, cv2.LINE_AA, _SHIFT)

    start, end = sections[0].middle, sections[-1].middle
    length = float(np.linalg.norm(end - start))
    along = (end - start) / length if length > 1e-6 else np.array([0.0, 1.0])
    across = np.array([-along[1], along[0]])
    half = max(section.half for section in sections)
    reach = half + 0.5
    total = length + 2 * reach

    # Shade on a small patch: across the tube the normal turns from one side over the viewer to the other.
    stops = [float((section.middle - start) @ along) for section in sections]
    halves = np.interp(_V[:, 0] * total - reach, stops, [section.half for section in sections])[:, None]
    u = np.clip(_U * (reach / np.maximum(halves, 0.3)), -1, 1)
    w = np.sqrt(1 - u * u)
    side = np.array([across[0], across[1], 0.0])
    lit = u * float(side @ canvas.light) - w * canvas.light[2]
    shade = canvas.ambient + (1 - canvas.ambient) * np.clip(0.25 + 0.75 * lit, 0, None)
    shade = shade * (0.62 + 0.38 * np.sqrt(w))
    if texture.ndim == 1:
        colours = np.broadcast_to(texture, (_ALONG, _ACROSS, 3))
    else:
        left, forward = frame[:, 0], frame[:, 2]
        angle = np.arctan2(u * float(side @ left) - w * left[2], u * float(side @ forward) - w * forward[2])
        v = np.clip((_V * total - reach) / max(length, 1e-6), 0, 1)
        row = ((rows[0] + v * (rows[1] - rows[0])) * (texture.shape[0] - 1)).astype(np.intp)
        column = ((angle / (2 * np.pi) + 0.5) * (texture.shape[1] - 1)).astype(np.intp)
        colours = texture[row, column]
    patch = colours * (shade[..., None] * canvas.tint)
    if gloss:
        patch = patch + gloss * 255 * np.clip(lit, 0, 1)[..., None] ** 12
    patch8 = np.clip(patch, 0, 255).astype(np.uint8)

    # Patch pixel (column, row) → picture pixel.
    to_picture = np.empty((2, 3))
    to_picture[:, 0] = across * (2 * reach / (_ACROSS - 1))
    to_picture[:, 1] = along * (total / (_ALONG - 1))
    to_picture[:, 2] = start - along * reach - across * reach - origin
    warped = cv2.warpAffine(patch8, to_picture, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    _paste(canvas, box, warped, mask, part)


@dataclass(frozen=True, kw_only=True)
class Sphere:
    """A patch of an ellipsoid seen by the viewer, 56 × 56.

    local (3, 56, 56): place on the unit sphere in the ellipsoid's own axes; lit (56, 56); inside (56, 56) bool;
    span (2,): half width and half height of the patch, in the unit of the half-axes.
    """

    local: Array
    lit: Array
    inside: NDArray[np.bool_]
    span: Array


def sphere(frame: Array, radii: Array, light: Array) -> Sphere:
    """Cast parallel rays at an ellipsoid: solve q(x, y, z) = 1 for the nearer z on a grid."""
    shape = (frame / radii**2) @ frame.T
    covariance = (frame * radii**2) @ frame.T
    span = np.sqrt(np.diag(covariance)[:2]) * 1.04
    x, y = _GRID_X * span[0], _GRID_Y * span[1]
    b = shape[0, 2] * x + shape[1, 2] * y
    c = shape[0, 0] * x * x + 2 * shape[0, 1] * x * y + shape[1, 1] * y * y - 1
    root = b * b - shape[2, 2] * c
    z = (-b - np.sqrt(np.maximum(root, 0))) / shape[2, 2]
    points = np.stack([x, y, z]).reshape(3, -1)
    local = (frame.T @ points) / radii[:, None]
    normals = shape @ points
    normals /= np.maximum(np.linalg.norm(normals, axis=0), 1e-9)
    return Sphere(
        local=local.reshape(3, _HEAD, _HEAD),
        lit=(light @ normals).reshape(_HEAD, _HEAD),
        inside=root > 0,
        span=span,
    )


def paste_patch(canvas: Canvas, colours: Array, alpha: Array, middle: Array, span_px: Array, part: int) -> None:
    """Paste a shaded 56 × 56 patch (colours before light's tint, alpha 0 to 1) at `middle`, stretched to `span_px`."""
    box = _region(canvas, middle - span_px, middle + span_px)
    if box is None:
        return
    x0, y0, x1, y1 = box
    patch = np.empty((_HEAD, _HEAD, 4), np.uint8)
    patch[..., :3] = np.clip(colours * canvas.tint, 0, 255)
    patch[..., 3] = alpha * 255
    scale = 2 * span_px / (_HEAD - 1)
    matrix = np.array([[scale[0], 0, middle[0] - span_px[0] - x0], [0, scale[1], middle[1] - span_px[1] - y0]])
    flags = cv2.INTER_AREA if scale.max() < 0.6 else cv2.INTER_LINEAR
    if scale.max() < 0.6:  # shrinking: average first, so that small faces do not flicker
        patch = cv2.blur(patch, (3, 3))
    warped = cv2.warpAffine(patch, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR if flags else flags, borderValue=(0, 0, 0, 0))
    _paste(canvas, box, np.ascontiguousarray(warped[..., :3]), np.ascontiguousarray(warped[..., 3]), part)
