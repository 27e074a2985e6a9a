"""The result of pose estimation: arrays over persons and keypoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.exceptions import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class Poses:
    """Poses of N persons with K keypoints.

    Presence, visibility and quality say three different things and are never folded into one "confidence". An absent
    keypoint keeps the coordinates of the best guess and is marked in `present`; it is never moved to (0, 0).

    Attributes
    ----------
    keypoints: (N, K, 2) float64, x and y in image pixels; they may lie outside the image.
    presence: (N, K) float32, calibrated probability that the keypoint lies in the activation window at all.
    visibility: (N, K) float32, probability that it is visible, not occluded.
    quality: (N, K) float32, the OKS the network expects of its own estimate, calibrated where the file was.
    expected_oks: (N, K) float32, the OKS the probability map promises at its peak (see `decode_maps`). A plain heatmap
        model knows none of the four: its peak value, clipped to [0, 1], is the confidence in place of each of them
        (of presence: calibrated).
    boxes: (N, 4) float64 xyxy, image pixels, as given.
    windows: (N, 4) float64 ``[center_x, center_y, width, height]``, image pixels: the activation windows, in which
        keypoints were looked for. They are what the network saw, or, of a model with two maps, larger than that.
    scores: (N,) float32, mean quality over the present keypoints, 0 if there are none; where the file was calibrated
        with ``--scores``, the OKS it expects of the person (see `probpose_edge.scores.score_head`), at any threshold.
    presence_threshold: a keypoint is present where its presence is at least this.
    keypoint_names: K names, or empty if unknown.
    maps: (N, K, H, W) float32 probability maps over the windows, if they were asked for: of two maps the one over the
        larger window, of a plain heatmap model the heatmaps as they came; or, if those were asked for, the calibrated
        maps (see `calibrated_maps`).
    map_kind: which of these `maps` are: "probability", "heatmap" or "calibrated"; of a plain heatmap model "heatmap"
        even without maps; else empty.
    """

    keypoints: NDArray[np.float64]
    presence: NDArray[np.float32]
    visibility: NDArray[np.float32]
    quality: NDArray[np.float32]
    expected_oks: NDArray[np.float32]
    boxes: NDArray[np.float64]
    windows: NDArray[np.float64]
    scores: NDArray[np.float32]
    presence_threshold: float
    keypoint_names: tuple[str, ...] = ()
    maps: NDArray[np.float32] | None = None
    map_kind: Literal["", "probability", "heatmap", "calibrated"] = ""

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N, K) bool: whether each keypoint is reported as in view."""
        return np.asarray(self.presence >= self.presence_threshold)

    def __len__(self) -> int:
        return len(self.keypoints)

    def select(self, persons: ArrayLike | slice) -> Poses:
        """The poses of some persons: a slice, indices, or an (N,) bool mask."""
        index = persons if isinstance(persons, slice) else np.asarray(persons)
        if not isinstance(index, slice):
            index = np.atleast_1d(index.astype(np.intp) if index.size == 0 else index)
        arrays: dict[str, Any] = {
            field.name: value[index]
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return dataclasses.replace(self, **arrays)

    @staticmethod
    def concatenate(parts: Sequence[Poses]) -> Poses:
        """The persons of several results of one model, one after another; at least one part."""
        if not parts:
            raise InputError("Poses.concatenate needs at least one result, got none. Check for an empty list first.")
        if len(parts) == 1:
            return parts[0]
        arrays: dict[str, Any] = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Poses)
            if isinstance(getattr(parts[0], field.name), np.ndarray)
        }
        return dataclasses.replace(parts[0], **arrays)

    def keypoint_index(self, name: str) -> int:
        """Index of a keypoint by its name; raises `InputError` for a name this model does not have."""
        if name not in self.keypoint_names:
            raise InputError(f"The keypoint must be one of {', '.join(self.keypoint_names) or 'none'}, got {name!r}.")
        return self.keypoint_names.index(name)

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO keypoint results; see `poses_to_coco`."""
        from probpose_edge.sinks.coco_results import poses_to_coco

        return poses_to_coco(self, image_id, category_id)

    def to_supervision(self) -> Any:
        """``supervision.KeyPoints``; see `probpose_edge.pose_exports.poses_to_supervision`."""
        from probpose_edge.pose_exports import poses_to_supervision

        return poses_to_supervision(self)

    def to_huggingface(self, *, tensors: bool = False) -> list[dict[str, Any]]:
        """Dictionaries as of transformers' ViTPose; see `probpose_edge.pose_exports.poses_to_huggingface`."""
        from probpose_edge.pose_exports import poses_to_huggingface

        return poses_to_huggingface(self, tensors=tensors)

    def to_records(self) -> list[dict[str, Any]]:
        """One row per person and keypoint; see `probpose_edge.pose_exports.poses_to_records`."""
        from probpose_edge.pose_exports import poses_to_records

        return poses_to_records(self)


def instance_scores(quality: NDArray[np.floating], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N,) float32 mean quality over the present keypoints, 0 where none is; from (N, K) quality and presence marks."""
    count = present.sum(axis=1)
    total = np.where(present, quality, 0).sum(axis=1, dtype=np.float64)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.zeros(len(count)), where=count > 0)
    return mean.astype(np.float32)
