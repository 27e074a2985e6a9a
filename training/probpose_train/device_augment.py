"""Make training crops where the network computes: the loader reads pictures, the device warps and distorts them.

The same plans as `probpose_train.cut_crop` follows with OpenCV, for a whole part at once. Only the piece of each
picture that a crop shows travels to the device, packed one after another, so that pictures of any size fit together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from probpose_train.cut_crop import CropPlan
from probpose_train.distort import Distortion, reduced_wh

_MARGIN_PX = 2
"""Room around the piece of a picture that a crop shows, for interpolation."""


class PackedPlans(NamedTuple):
    """Plans for N crops as tensors; layers are the N pictures and then the pieces pasted on them.

    Attributes
    ----------
    pixels: (P, 3) uint8 BGR, rows of all pieces one after another.
    crop: (L,) int64, the crop that a layer is part of. start, width, height: (L,) int64, where its piece begins in
        `pixels`, and its size. inverse: (L, 2, 3) float32, from crop px to px of the piece. rectangle: (L, 4) int64
        x0, y0, x1, y1, the part of the crop that the layer may cover.
    distortions: (N, 9) float64, the fields of `Distortion` in order, gains apart.
    """

    pixels: Tensor
    crop: Tensor
    start: Tensor
    width: Tensor
    height: Tensor
    inverse: Tensor
    rectangle: Tensor
    distortions: Tensor


def pack_plans(plans: list[CropPlan], input_wh: tuple[int, int]) -> PackedPlans:
    """Cut the pieces that the plans need and lay them out; the pixels are made by `render`."""
    layers = [_piece(plan.picture, plan.matrix, plan.border_xyxy, (0, 0, *input_wh), False) for plan in plans]
    crops, rectangles = list(range(len(plans))), [(0, 0, *input_wh)] * len(plans)
    for index, plan in enumerate(plans):
        if plan.paste is not None:
            height, width = plan.paste.picture.shape[:2]
            whole = np.array([0.0, 0.0, width, height])
            layers.append(_piece(plan.paste.picture, plan.paste.matrix, whole, plan.paste.rectangle_xyxy, True))
            crops.append(index)
            rectangles.append(plan.paste.rectangle_xyxy)
    pieces, inverses = [piece for piece, _ in layers], [inverse for _, inverse in layers]
    sizes = np.array([piece.shape[0] * piece.shape[1] for piece in pieces])
    return PackedPlans(
        pixels=torch.from_numpy(np.concatenate([piece.reshape(-1, 3) for piece in pieces])),
        crop=torch.tensor(crops),
        start=torch.from_numpy(np.cumsum(sizes) - sizes),
        width=torch.tensor([piece.shape[1] for piece in pieces]),
        height=torch.tensor([piece.shape[0] for piece in pieces]),
        inverse=torch.from_numpy(np.stack(inverses).astype(np.float32)),
        rectangle=torch.tensor(rectangles),
        distortions=torch.tensor([_numbers(plan.distortion) for plan in plans], dtype=torch.float64),
    )


def render(plans: PackedPlans, input_wh: tuple[int, int], device: torch.device) -> Tensor:
    """Crops (N, H, W, 3) uint8 RGB on the device; pixels differ from OpenCV's by rounding only."""
    count = len(plans.distortions)
    on = PackedPlans(*(value.to(device, non_blocking=True) for value in plans[:-1]), plans.distortions)
    pictures, coverage = _sample(on, slice(0, count), input_wh, mirror=False)
    if len(plans.crop) > count:
        pasted, _ = _sample(on, slice(count, None), input_wh, mirror=True)
        _paste(pictures, pasted, coverage, on, count)
    return _distort(pictures.permute(0, 3, 1, 2), plans.distortions).permute(0, 2, 3, 1).flip(-1).to(torch.uint8)


def _piece(
    picture: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    border_xyxy: NDArray[np.float64],
    rectangle_xyxy: tuple[int, int, int, int],
    mirror: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The piece of a picture, within the border, that the rectangle of a crop shows, and the (2, 3) map from crop px to
    its px. A mirrored picture that is left by the rectangle is kept whole."""
    linear = np.linalg.inv(matrix[:, :2])
    inverse = np.concatenate((linear, -(linear @ matrix[:, 2:])), axis=1)
    x0, y0, x1, y1 = rectangle_xyxy
    corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]) @ linear.T + inverse[:, 2]
    low = np.floor(corners.min(0)).astype(int) - _MARGIN_PX
    high = np.ceil(corners.max(0)).astype(int) + _MARGIN_PX
    border = border_xyxy.astype(int)
    if mirror and ((low < border[:2]) | (high > border[2:])).any():
        low, high = border[:2], border[2:]
    # At least one pixel, for a crop that shows nothing of its picture.
    low = np.clip(low, border[:2], border[2:] - 1)
    high = np.clip(high, low + 1, border[2:])
    inverse[:, 2] -= low
    return np.ascontiguousarray(picture[low[1] : high[1], low[0] : high[0]]), inverse


def _sample(plans: PackedPlans, layers: slice, input_wh: tuple[int, int], *, mirror: bool) -> tuple[Tensor, Tensor]:
    """Bilinear samples (L, H, W, 3) float32 BGR, rounded, and the share (L, H, W) of each that its piece covers."""
    inverse, start = plans.inverse[layers], plans.start[layers].view(-1, 1, 1)
    width, height = plans.width[layers].view(-1, 1, 1), plans.height[layers].view(-1, 1, 1)
    device = inverse.device
    columns = torch.arange(input_wh[0], device=device, dtype=torch.float32).view(1, 1, -1)
    rows = torch.arange(input_wh[1], device=device, dtype=torch.float32).view(1, -1, 1)
    factors = inverse.view(-1, 6, 1, 1)
    x = factors[:, 0] * columns + factors[:, 1] * rows + factors[:, 2]
    y = factors[:, 3] * columns + factors[:, 4] * rows + factors[:, 5]
    left, top = x.floor(), y.floor()
    across, down = x - left, y - top
    values = torch.zeros(*x.shape, 3, device=device)
    coverage = torch.zeros_like(x)
    for step_x, step_y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        share = (across if step_x else 1 - across) * (down if step_y else 1 - down)
        column, row = left.long() + step_x, top.long() + step_y
        if mirror:
            column, row = _mirrored(column, width), _mirrored(row, height)
        else:
            share = share * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
            column, row = column.clamp_min(0).minimum(width - 1), row.clamp_min(0).minimum(height - 1)
        values += plans.pixels[start + row * width + column] * share[..., None]
        coverage += share
    return values.round(), coverage


def _mirrored(index: Tensor, size: Tensor) -> Tensor:
    """Whole numbers folded into 0 … size - 1, the border value repeated (OpenCV's BORDER_REFLECT)."""
    index = index.remainder(2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def _paste(pictures: Tensor, pasted: Tensor, coverage: Tensor, plans: PackedPlans, count: int) -> None:
    """Lay the pasted layers on their crops, in place, inside their rectangles and where a picture is."""
    height, width = pictures.shape[1:3]
    columns = torch.arange(width, device=pictures.device).view(1, 1, -1)
    rows = torch.arange(height, device=pictures.device).view(1, -1, 1)
    x0, y0, x1, y1 = plans.rectangle[count:].view(-1, 4, 1, 1).unbind(1)
    crop = plans.crop[count:]
    covers = (columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1) & (coverage[crop] > 0.5)
    pictures[crop] = torch.where(covers[..., None], pasted, pictures[crop])


def _numbers(distortion: Distortion) -> list[float]:
    d = distortion
    return [d.shrink, d.blur_sigma, float(d.grey), float(d.hue_steps), d.saturation, *d.gain_bgr, d.offset]


def _distort(crops: Tensor, distortions: Tensor) -> Tensor:
    """`probpose_train.distort.distort` for crops (N, 3, H, W) float32 BGR with whole values; distortions (N, 9) on the
    CPU say which crops each step concerns."""
    d = distortions
    for index in torch.nonzero(d[:, 0] > 1).flatten().tolist():
        crops[index] = _shrink(crops[index], float(d[index, 0]))
    for index in torch.nonzero(d[:, 1] > 0).flatten().tolist():
        crops[index] = _blur(crops[index], float(d[index, 1]))
    grey = torch.nonzero(d[:, 2] > 0).flatten().to(crops.device)
    if len(grey):
        weights = torch.tensor([0.114, 0.587, 0.299], device=crops.device).view(1, 3, 1, 1)
        crops[grey] = (crops[grey] * weights).sum(1, keepdim=True).round().expand(-1, 3, -1, -1)
    coloured = torch.nonzero((d[:, 3] != 0) | (d[:, 4] != 1)).flatten()
    if len(coloured):
        chosen = coloured.to(crops.device)
        hue, saturation = (d[coloured, i].float().to(crops.device).view(-1, 1, 1) for i in (3, 4))
        crops[chosen] = _recolour(crops[chosen], hue * 2, saturation)
    gain = d[:, 5:8].float().to(crops.device).view(-1, 3, 1, 1)
    offset = d[:, 8].float().to(crops.device).view(-1, 1, 1, 1)
    return torch.where(crops > 0, (crops * gain + offset + 1e-3).clamp(0, 255).floor(), crops)


def _shrink(crop: Tensor, factor: float) -> Tensor:
    height, width = crop.shape[1:]
    small_w, small_h = reduced_wh((width, height), factor)
    small = _mean_over_areas(_mean_over_areas(crop, small_w), small_h, rows=True).round()
    return F.interpolate(small[None], (height, width), mode="bilinear", align_corners=False)[0].round()


def _mean_over_areas(crop: Tensor, size: int, *, rows: bool = False) -> Tensor:
    """Every new cell is the mean over the stretch of old ones it covers, parts of cells counted as such (OpenCV's
    INTER_AREA)."""
    old = crop.shape[1] if rows else crop.shape[2]
    edges = torch.arange(size + 1, device=crop.device) * (old / size)
    begin = torch.arange(old, device=crop.device)
    overlap = (torch.minimum(edges[1:, None], begin + 1) - torch.maximum(edges[:-1, None], begin)).clamp_min(0)
    weights = overlap / overlap.sum(1, keepdim=True)
    return weights @ crop if rows else crop @ weights.T


def _blur(crop: Tensor, sigma: float) -> Tensor:
    radius = (round(sigma * 6 + 1) | 1) // 2
    offset = torch.arange(-radius, radius + 1, device=crop.device, dtype=torch.float32)
    kernel = torch.exp(-(offset**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(crop[:, None], (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0].round()


def _recolour(crops: Tensor, degrees: Tensor, factor: Tensor) -> Tensor:
    """Turn the hue and scale the saturation of crops (N, 3, H, W) BGR in 0 … 255, by HSV (N, 1, 1 each)."""
    blue, green, red = crops.unbind(1)
    value, _ = crops.max(1)
    chroma = value - crops.min(1).values
    safe = chroma.clamp_min(1e-6)
    below_red = torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    hue = torch.where(value == red, (green - blue) / safe, below_red)
    hue = (hue + degrees / 60).remainder(6)
    chroma = (chroma / value.clamp_min(1e-6) * factor).clamp(0, 1) * value

    def channel(shift: int) -> Tensor:
        k = (shift + hue).remainder(6)
        return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)

    return torch.stack((channel(1), channel(3), channel(5)), dim=1).round()
