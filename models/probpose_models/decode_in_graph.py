"""The decode of the SDK as a torch module, so that it can be part of a file: maps in, keypoints out.

It consists of operators that ONNX, TFLite and CoreML all have and that their fast paths take: no sort, no index, no
comparison. Sparsemax's threshold comes from Newton steps instead of a sort; the largest cell from two maxima; the cell
itself is picked by products with vectors that are one there and zero elsewhere. Everything is float32.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.decode import kernel_variances, smoothing_matrices

COARSE_STEPS = 8
"""Newton steps on group maxima; from the lowest start, ln(256) steps and a few more."""
FINE_STEPS = 5
"""Newton steps on all cells. After 8 and 5 the maps of 4,879 real logits, ten times as flat and as steep ones and drawn
ones sum to 1 within 5e-7; after 8 and 4 within 3e-4."""
_LARGEST_GROUP = 12
_ALMOST_ONE = 1 - 2.0**-24
"""The largest float32 below 1; see `probpose_edge.estimator.calibrate_presence`."""
_HUGE = 1e30
"""Turns the smallest difference of two values of a map into at least one."""


class DecodeInGraph(nn.Module):
    """What the SDK does with the outputs of a file, for the settings in a contract.

    Input: the tensors of ``contract.output_names`` (of a contract with ``output_kind`` "logits"), float32. Output, in
    the order of `contract.metadata.DECODED_NAMES`, float32: keypoints (N, K, 2), x before y, in pixels of the
    input crop, the center of its first pixel being 0; presence and quality (N, K), calibrated, and visibility (N, K);
    expected_oks (N, K). Of a plain heatmap network the peak value, clipped to [0, 1], is all four (presence and
    quality: calibrated). Equal to `probpose_edge.estimator.PoseEstimator` up to the order of float32 sums.
    """

    def __init__(self, contract: ModelContract) -> None:
        super().__init__()
        ratio = contract.window_ratio
        self.heatmap = contract.map_kind == "heatmap"
        self.crop = CellsToCrop(contract, ratio)
        self.maps = HeatmapPeaks() if self.heatmap else MapPeaks(contract, contract.activation_padding)
        self.expert = MapPeaks(contract, contract.padding) if ratio > 1 else None
        self.expert_crop = CellsToCrop(contract, 1.0) if ratio > 1 else None
        self.presence = _calibration(contract.presence_scale, contract.presence_bias)
        self.quality = _calibration(contract.quality_scale, contract.quality_bias)
        last = torch.tensor(contract.input_wh, dtype=torch.float32) - 1
        self.register_buffer("last_pixel", last, persistent=False)

    last_pixel: Tensor

    def forward(self, logits: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        points_cell, expected = self.maps(logits)
        points = self.crop(points_cell)
        if self.expert is not None and self.expert_crop is not None:
            expert_cell, expert_expected = self.expert(others[3])
            # 1 where the map of the larger window places the keypoint in the input window, borders included.
            beyond = torch.relu(-points) + torch.relu(points - self.last_pixel)
            inside = 1 - _positive(beyond.sum(-1))
            points = points + inside.unsqueeze(-1) * (self.expert_crop(expert_cell) - points)
            expected = expected + inside * (expert_expected - expected)
        if self.heatmap:
            # The same value, which is not negative, three times: formats do not take one value as several outputs.
            presence, visibility, quality = expected.abs(), (-expected).abs(), expected.abs().abs()
        else:
            presence, visibility, quality = others[:3]
        return points, self.presence(presence), visibility, self.quality(quality), expected


class DecodedNetwork(nn.Module):
    """A module with the signature of `Deployable`, quantized or not, followed by the decode."""

    def __init__(self, network: nn.Module, contract: ModelContract) -> None:
        super().__init__()
        self.network = network
        self.decode = DecodeInGraph(contract)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.decode(*self.network(image))
        return outputs


def decoded_contract(contract: ModelContract) -> ModelContract:
    """What a file says that ends in `DecodeInGraph` of a contract: its answers are calibrated already."""
    ones, zeros = (1.0,) * len(contract.keypoint_names), (0.0,) * len(contract.keypoint_names)
    return contract.replace(
        output_kind="decoded",
        presence_scale=ones,
        presence_bias=zeros,
        quality_scale=ones,
        quality_bias=zeros,
        scores={},
        confidence_head=False,
    )


class CellsToCrop(nn.Module):
    """Cells of a map over a window `ratio` times the input window → pixels of the input crop."""

    def __init__(self, contract: ModelContract, ratio: float) -> None:
        super().__init__()
        cells, pixels = (
            torch.tensor(size, dtype=torch.float32) - 1 for size in (contract.heatmap_wh, contract.input_wh)
        )
        self.register_buffer("scale", ratio * pixels / cells, persistent=False)
        self.register_buffer("offset", (1 - ratio) / 2 * pixels, persistent=False)

    scale: Tensor
    offset: Tensor

    def forward(self, points_cell: Tensor) -> Tensor:
        return points_cell * self.scale + self.offset


class MapPeaks(nn.Module):
    """(N, K, H, W) logits → (N, K, 2) cells and (N, K) expected OKS: `sparsemax_maps` and `decode_maps` of the SDK."""

    def __init__(self, contract: ModelContract, padding: float) -> None:
        super().__init__()
        width, height = contract.heatmap_wh
        kernel = contract.decode_kernel
        variances = kernel_variances(kernel, contract.sigmas, contract.heatmap_wh, padding)
        smoothing = smoothing_matrices(kernel, variances, contract.heatmap_wh)
        self.temperature = contract.temperature
        mirrored = SmoothMirrored if kernel == "published" else Smooth
        self.smooth = nn.Identity() if smoothing is None else mirrored(*smoothing)
        # The OKS along one axis is exp(-d^2 / (2 s)), cut off as the kernel is.
        reach = [math.ceil(3 * value) if kernel == "published" else max(width, height) for value in variances]
        for name, values in (("sharpness", [-0.5 / value for value in variances]), ("reach", reach)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1), persistent=False)
        self.peak = Peak()

    sharpness: Tensor
    reach: Tensor

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        maps = sparsemax(logits, self.temperature)
        x, y, points_cell, _ = self.peak(self.smooth(maps))
        height, width = maps.shape[2:]
        along_y, along_x = self._oks(y, height), self._oks(x, width)
        expected = (torch.matmul(along_y.unsqueeze(2), maps).squeeze(2) * along_x).sum(-1)
        return points_cell, expected.clamp(max=1)

    def _oks(self, place: Tensor, size: int) -> Tensor:
        """(N, K, size) OKS along one axis between every cell and the peak's, (N, K, 1)."""
        distance = (_places(size) - place).abs()
        return torch.exp(distance * distance * self.sharpness) * _positive(torch.relu(self.reach + 0.5 - distance))


class Smooth(nn.Module):
    """(N, K, H, W) maps smoothed, each keypoint's by its own matrices: those of
    `probpose_edge.decode.smoothing_matrices`, to_rows (K, H, H) and to_columns (K, W, W).
    """

    def __init__(self, to_rows: NDArray[np.float32], to_columns: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("to_rows", torch.from_numpy(to_rows.copy()), persistent=False)
        self.register_buffer("to_columns", torch.from_numpy(to_columns.copy()), persistent=False)

    to_rows: Tensor
    to_columns: Tensor

    def forward(self, maps: Tensor) -> Tensor:
        return torch.matmul(self.to_rows, torch.matmul(maps, self.to_columns))


class SmoothMirrored(nn.Module):
    """The same for symmetric kernels with a mirrored border.

    The cosine transform (DCT-II) turns that into products per frequency (Martucci, IEEE Trans. Signal Processing 1994):
    one transform for all keypoints and K factors per row and column, a seventh of the size of K matrices per axis.
    """

    def __init__(self, to_rows: NDArray[np.float32], to_columns: NDArray[np.float32]) -> None:
        super().__init__()
        rows, columns = cosine_transform(to_rows.shape[1]), cosine_transform(to_columns.shape[1])
        constants = {
            "rows": rows,
            "rows_back": rows.T,
            "columns": columns.T,
            "columns_back": columns,
            "row_factors": _spectrum(to_rows, rows)[:, :, None],
            "column_factors": _spectrum(to_columns, columns)[:, None, :],
        }
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32, order="C")), persistent=False)

    rows: Tensor
    rows_back: Tensor
    columns: Tensor
    columns_back: Tensor
    row_factors: Tensor
    column_factors: Tensor

    def forward(self, maps: Tensor) -> Tensor:
        waves = torch.matmul(self.rows, torch.matmul(maps, self.columns)) * self.row_factors * self.column_factors
        return torch.matmul(self.rows_back, torch.matmul(waves, self.columns_back))


class HeatmapPeaks(nn.Module):
    """(N, K, H, W) heatmaps → (N, K, 2) cells and (N, K) confidence: `decode_heatmaps` of the SDK."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = Peak()

    def forward(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        _, _, points_cell, value = self.peak(heatmaps)
        return points_cell, torch.relu(value).clamp(max=1)


class Peak(nn.Module):
    """The largest cell of each map, the first of equal ones, after one Newton step per axis."""

    def __init__(self) -> None:
        super().__init__()
        # Of the 3 x 3 cells around the peak, columns first: those before, at and after it along x and along y.
        picks = torch.zeros(3, 9, 2)
        for index, pair in enumerate(((1, 3), (4, 4), (7, 5))):
            picks[index, pair[0], 0] = picks[index, pair[1], 1] = 1
        constants = {
            "before": picks[0],
            "middle": picks[1],
            "after": picks[2],
            "offsets": torch.tensor([-1.0, 0.0, 1.0]).view(3, 1),
            "middle_row": torch.tensor([0.0, 1.0, 0.0]).view(3, 1),
            "x_axis": torch.tensor([1.0, 0.0]),
            "y_axis": torch.tensor([0.0, 1.0]),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    before: Tensor
    middle: Tensor
    after: Tensor
    offsets: Tensor
    middle_row: Tensor
    x_axis: Tensor
    y_axis: Tensor

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """maps: (N, K, H, W). Returns column and row (N, K, 1) of the cell, (N, K, 2) the refined place, x before y, in
        cells, and (N, K) the value of the cell.
        """
        height, width = maps.shape[2:]
        y = _first_largest(maps.amax(3))
        # The rows above, at and below the peak (zeros beyond the border), then their cells left, at and right of it.
        rows = torch.matmul(_one_at(y.unsqueeze(2) + self.offsets, height), maps)
        x = _first_largest((rows * self.middle_row).sum(2))
        patch = torch.matmul(_one_at(x.unsqueeze(2) + self.offsets, width), rows.transpose(2, 3)).flatten(2)
        before, middle, after = (torch.matmul(patch, pick) for pick in (self.before, self.middle, self.after))
        inside = (x * (width - 1 - x) * y * (height - 1 - y)).clamp(max=1)
        # Not positive at a peak; a plateau has no slope either, so that nothing moves there.
        curvature = (before - middle) + (after - middle)
        step = (before - after) * 0.5 / curvature.clamp(max=-1e-30)
        return x, y, x * self.x_axis + y * self.y_axis + step * inside, middle.amax(2)


class Calibrate(nn.Module):
    """``sigmoid(scale * logit(p) + bias)`` per keypoint, as `probpose_edge.estimator.calibrate_presence`."""

    def __init__(self, scale: tuple[float, ...], bias: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        self.register_buffer("bias", torch.tensor(bias, dtype=torch.float32), persistent=False)
        self.register_buffer("low", torch.tensor(1 - _ALMOST_ONE), persistent=False)
        self.register_buffer("high", torch.tensor(_ALMOST_ONE), persistent=False)

    scale: Tensor
    bias: Tensor
    low: Tensor
    high: Tensor

    def forward(self, probability: Tensor) -> Tensor:
        # Not `clamp`: coremltools forgets where that came from, and would take it for a part of a float16 network.
        p = torch.minimum(torch.maximum(probability, self.low), self.high)
        return torch.sigmoid(self.scale * torch.log(p / (1 - p)) + self.bias)


def cosine_transform(size: int) -> NDArray[np.float64]:
    """(size, size) orthonormal DCT-II, frequencies in rows: its transpose is its inverse."""
    places = (2 * np.arange(size) + 1) * np.pi / (2 * size)
    waves = np.cos(np.arange(size)[:, None] * places) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return np.asarray(waves, dtype=np.float64)


def _spectrum(matrices: NDArray[np.float32], transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, size) factors by which (K, size, size) symmetric, mirrored convolutions multiply each frequency."""
    return np.einsum("fi,kij,fj->kf", transform, matrices.astype(np.float64), transform, optimize=True)


def sparsemax(logits: Tensor, temperature: float) -> Tensor:
    """(N, K, H, W) sparsemax of ``logits / temperature`` over each map; see `probpose_edge.probmap.sparsemax_maps`.

    The sum of ``max(z - tau, 0)`` is a convex, piecewise linear function of tau, so Newton steps from below rise to the
    threshold where it is 1 and never pass it. They begin on the maxima of groups of cells, whose threshold is never
    above that of all of them, and which are fewer. The slope, minus the number of cells above tau, is counted without
    a comparison; a cell within 1e-7 of tau counts in part.
    """
    n, k, height, width = logits.shape
    z = logits.reshape(n, k, height * width) / temperature
    z = z - z.amax(2, keepdim=True)
    group = max(size for size in range(1, _LARGEST_GROUP + 1) if height * width % size == 0)
    # Strided groups: neighbouring cells, which peaks are made of, fall into different ones.
    coarse = z.reshape(n, k, group, height * width // group).amax(2)
    tau = _newton(coarse, coarse.amax(2, keepdim=True) - 1, COARSE_STEPS)
    return torch.relu(z - _newton(z, tau, FINE_STEPS)).reshape(n, k, height, width)


def _newton(z: Tensor, tau: Tensor, steps: int) -> Tensor:
    """(N, K, 1) tau after Newton steps towards ``sum(max(z - tau, 0)) = 1`` over the last axis of (N, K, C)."""
    for _ in range(steps):
        above = torch.relu(z - tau)
        count = (above * 1e7).clamp(max=1).sum(2, keepdim=True)
        tau = tau + (above.sum(2, keepdim=True) - 1) / count
    return tau


def _first_largest(values: Tensor) -> Tensor:
    """(N, K, 1) index, as float, of the largest of (N, K, C) values, the first of equal ones."""
    size = values.shape[2]
    smaller = _positive(values.amax(2, keepdim=True) - values)
    return size - ((1 - smaller) * (size - _places(size))).amax(2, keepdim=True)


def _one_at(place: Tensor, size: int) -> Tensor:
    """(…, size) one at each whole number `place` (…, 1), zero elsewhere; all zero if it is not in the range."""
    return 1 - (_places(size) - place).abs().clamp(max=1)


def _positive(value: Tensor) -> Tensor:
    """1 where a value that is not negative is above zero, else 0."""
    return (value * _HUGE).clamp(max=1)


def _places(size: int) -> Tensor:
    return torch.arange(size, dtype=torch.float32)


def _calibration(scale: tuple[float, ...], bias: tuple[float, ...]) -> nn.Module:
    neutral = all(value == 1 for value in scale) and not any(bias)
    return nn.Identity() if neutral else Calibrate(scale, bias)
