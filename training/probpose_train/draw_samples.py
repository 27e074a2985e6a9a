"""Pictures of what a run learns from and what it has learnt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from probpose_edge.atomic_write import write_bytes_atomically
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.draw import draw_poses
from probpose_edge.estimator import PoseEstimator
from probpose_edge.window import image_to_cells
from probpose_eval.predict import iterate_crops
from probpose_models.torch_runtime import TorchRuntime
from probpose_train.dataset import SampleStream
from probpose_train.device_augment import PackedPlans, render
from probpose_train.losses import Targets, change_window
from probpose_train.run_folder import MAPS, SAMPLES
from probpose_train.validate import ValidationSet

ENLARGED = 2
"""Crops are drawn at twice their size, so that discs stay small beside a face."""
_LEFT, _RIGHT, _MIDDLE = (0, 140, 255), (255, 170, 40), (200, 230, 120)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A few crops (N, H, W, 3) uint8 RGB with their truth, the same at every report."""

    crops: NDArray[np.uint8]
    targets: Targets


def write_samples(folder: Path, shown: Shown, contract: ModelContract) -> None:
    """``samples.png``: training crops with their truth."""
    tiles = [draw_truth(shown, index, contract) for index in range(len(shown.crops))]
    _write(folder / SAMPLES, _grid(tiles, columns=8))


def write_maps(folder: Path, model: nn.Module, contract: ModelContract, shown: Shown) -> None:
    """``maps.png``: crops with their truth, and beside each the maps and keypoints that the network gives it."""
    tiles = []
    width, height = contract.input_wh
    # In a crop drawn larger, UDP windows still reach from the first pixel center to the last.
    size = np.array([ENLARGED * width - 1, ENLARGED * height - 1], dtype=np.float64)
    windows = np.tile(np.concatenate((size / 2, size)), (len(shown.crops), 1))
    estimator = PoseEstimator(TorchRuntime(model), contract)
    poses = estimator.predict_crops(shown.crops, windows, return_maps=True)
    for index, crop in enumerate(shown.crops):
        tiles.append(draw_truth(shown, index, contract))
        tiles.append(draw_poses(_enlarge(crop), poses.select([index]), contract, maps=True))
    _write(folder / MAPS, _grid(tiles, columns=6))


def shown_of_training(stream: SampleStream, contract: ModelContract, count: int) -> Shown:
    """The first samples of a run."""
    pixels, targets = stream.collate([stream[index] for index in range(count)])
    if isinstance(pixels, PackedPlans):
        pixels = render(pixels, contract.input_wh, torch.device("cpu"))
    return Shown(crops=pixels.numpy(), targets=targets)


def shown_of_validation(data: ValidationSet, contract: ModelContract, count: int) -> Shown:
    """The first persons of a validation set, one per picture as far as there are pictures."""
    picked, seen = [], set()
    for batch in iterate_crops(data.annotations, data.images, input_wh=contract.input_wh, padding=contract.padding):
        for index, person in enumerate(batch.persons):
            if person.image_id not in seen:
                seen.add(person.image_id)
                picked.append((batch.crops[index], batch.windows[index], person.keypoints))
        if len(picked) >= count:
            break
    crops, windows, keypoints = (np.stack(values) for values in zip(*picked[:count], strict=True))
    larger = windows * np.array([1, 1, contract.window_ratio, contract.window_ratio])
    cells = image_to_cells(keypoints[..., :2], larger, contract.heatmap_wh)
    v = keypoints[..., 2]
    inside = ((cells >= 0) & (cells <= np.array(contract.heatmap_wh) - 1)).all(-1)
    located = (v == 1) | (v == 2)
    arrays = (cells.astype(np.float32), located & inside, (located & inside).astype(np.float32), (v > 0))
    visible = (v == 2).astype(np.float32), located, np.zeros(len(crops), np.float32)
    tensors = (torch.from_numpy(np.ascontiguousarray(value)) for value in (*arrays, *visible))
    return Shown(crops=crops, targets=Targets(*tensors))


def draw_truth(shown: Shown, index: int, contract: ModelContract) -> NDArray[np.uint8]:
    """One crop, enlarged, with its known keypoints: discs in the activation window, crosses for those outside."""
    canvas, truth = _enlarge(shown.crops[index]), Targets(*(value[index] for value in shown.targets))
    height, width = canvas.shape[:2]
    heatmap_wh = contract.heatmap_wh
    cells = change_window(truth.points_cell, contract.window_ratio, heatmap_wh).numpy()
    points = cells / (np.array(heatmap_wh) - 1) * (np.array([width, height]) - 1)
    on_canvas = np.round(np.clip(points, 0, [width - 1, height - 1])).astype(int)
    sides = [_MIDDLE] * len(points)
    for left, right in contract.flip_pairs:
        sides[left], sides[right] = _LEFT, _RIGHT
    drawn = truth.map_mask.numpy()
    for a, b in contract.skeleton:
        if drawn[a] and drawn[b]:
            colour = sides[a] if sides[a] == sides[b] else _MIDDLE
            cv2.line(canvas, on_canvas[a].tolist(), on_canvas[b].tolist(), colour, 1, cv2.LINE_AA)
    for k, (x, y) in enumerate(on_canvas.tolist()):
        if drawn[k]:
            visible = bool(truth.visibility[k] > 0.5)
            cv2.circle(canvas, (x, y), 6, (255, 255, 255) if visible else (40, 40, 40), -1, cv2.LINE_AA)
            cv2.circle(canvas, (x, y), 4, sides[k], -1, cv2.LINE_AA)
        elif truth.presence_mask[k]:
            cv2.drawMarker(canvas, (x, y), sides[k], cv2.MARKER_TILTED_CROSS, 10, 1, cv2.LINE_AA)
            cv2.circle(canvas, (x, y), 7, sides[k], 1, cv2.LINE_AA)
    return canvas


def _enlarge(crop_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (ENLARGED * crop_rgb.shape[1], ENLARGED * crop_rgb.shape[0])
    return np.ascontiguousarray(cv2.resize(crop_rgb, size, interpolation=cv2.INTER_LINEAR)[..., ::-1], dtype=np.uint8)


def _grid(tiles: list[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    gap = 6
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    columns = min(columns, len(tiles))
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 70, np.uint8)
    for index, tile in enumerate(tiles):
        y, x = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        canvas[y : y + height, x : x + width] = tile
    return canvas


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    write_bytes_atomically(path, cv2.imencode(".png", picture)[1].tobytes())
