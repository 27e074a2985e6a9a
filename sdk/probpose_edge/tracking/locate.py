"""Where the keypoints are: from what a network gives to image pixels, for every kind of map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.decode import decode_heatmaps, decode_maps
from probpose_edge.probmap import sparsemax_maps
from probpose_edge.runtimes.base import DecodedOutputs, RawOutputs
from probpose_edge.window import cells_to_image, scale_windows


@dataclass(frozen=True, kw_only=True, eq=False)
class Located:
    """Keypoints of N persons, and the maps they were read from.

    Attributes
    ----------
    keypoints_px: (N, K, 2) float64 image pixels.
    expected_oks: (N, K) float32, see `probpose_edge.decode.decode_maps`; the confidence of plain heatmaps.
    windows: (N, 4) float64 px, the activation windows, over which `maps` lie.
    maps: (N, K, H, W) float32, probability maps, or the heatmaps as they came; None where the file decoded them inside.
    """

    keypoints_px: NDArray[np.float64]
    expected_oks: NDArray[np.float32]
    windows: NDArray[np.float64]
    maps: NDArray[np.float32] | None


def locate_keypoints(raw: RawOutputs, input_windows: NDArray[np.float64], contract: ModelContract) -> Located:
    """Decode the maps of N crops as the contract says, or place the keypoints that the file decoded.

    raw: outputs for the N crops, of the contract's shapes. input_windows: (N, 4) px, what the crops show.

    Of two maps, the one over the larger window decides (ProbPose, section 3.5): a keypoint that it places in the input
    window, the border included, gets the estimate of the expert map, with the OKS that the expert map expects; one that
    it places outside keeps that place. Raises `InputError` for maps with NaN.
    """
    windows = scale_windows(input_windows, contract.window_ratio)
    if isinstance(raw, DecodedOutputs):
        # Crops are aligned to the window as maps are: the centers of the first and last pixel lie on its borders.
        points_px = cells_to_image(raw.keypoints, input_windows, contract.input_wh)
        expected_oks = raw.expected_oks.astype(np.float32)
        return Located(keypoints_px=points_px, expected_oks=expected_oks, windows=windows, maps=None)
    if contract.map_kind == "heatmap":
        points_cell, confidence = decode_heatmaps(raw.logits)
        points_px = cells_to_image(points_cell, windows, contract.heatmap_wh)
        # A copy: runtimes may reuse their buffers.
        maps = raw.logits.astype(np.float32)
        return Located(keypoints_px=points_px, expected_oks=confidence, windows=windows, maps=maps)
    located = _read_maps(raw.logits, windows, contract, contract.activation_padding)
    if raw.expert_logits is None:
        return located
    expert = _read_maps(raw.expert_logits, input_windows, contract, contract.padding)
    offset = np.abs(located.keypoints_px - input_windows[:, None, :2])
    refined = np.all(offset <= input_windows[:, None, 2:] / 2, axis=-1, keepdims=True)
    return Located(
        keypoints_px=np.where(refined, expert.keypoints_px, located.keypoints_px),
        expected_oks=np.where(refined[..., 0], expert.expected_oks, located.expected_oks),
        windows=windows,
        maps=located.maps,
    )


def _read_maps(
    logits: NDArray[np.float32], windows: NDArray[np.float64], contract: ModelContract, padding: float
) -> Located:
    """Decode one probability map per keypoint over these windows, `padding` times as large as the boxes."""
    maps = sparsemax_maps(logits, contract.temperature)
    points_cell, expected_oks = decode_maps(maps, contract.sigmas, contract.decode_kernel, padding=padding)
    points_px = cells_to_image(points_cell, windows, contract.heatmap_wh)
    return Located(keypoints_px=points_px, expected_oks=expected_oks, windows=windows, maps=maps)
