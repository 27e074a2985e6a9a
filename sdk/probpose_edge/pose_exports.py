"""Poses in the forms that other libraries take."""

from __future__ import annotations

from typing import Any

import numpy as np

from probpose_edge.exceptions import RuntimeUnavailableError
from probpose_edge.extras import import_extra
from probpose_edge.poses import Poses


def poses_to_supervision(poses: Poses) -> Any:
    """``supervision.KeyPoints``, for the annotators of supervision 0.29 and newer.

    ``xy`` are the keypoints in image pixels, ``keypoint_confidence`` the presence, ``visible`` which keypoints are
    present (annotators leave out the others), ``detection_confidence`` the instance scores, ``class_id`` zeros. The
    presence, visibility, quality and expected OKS, (N, K) each, are in ``data`` by their names, and the boxes as
    ``xyxy``. Nobody is ``KeyPoints.empty()``.

    Raises `MissingExtraError` without supervision, `RuntimeUnavailableError` with an older one.
    """
    supervision = import_extra("Poses.to_supervision", "supervision", "supervision")
    key_points = supervision.KeyPoints
    if "keypoint_confidence" not in getattr(key_points, "__dataclass_fields__", {}):
        found = getattr(supervision, "__version__", "an unknown version")
        raise RuntimeUnavailableError(
            f"Poses.to_supervision needs supervision 0.29 or newer, but {found} is installed. Update it with: "
            'pip install --upgrade "probpose-edge[supervision]"'
        )
    if not len(poses):
        return key_points.empty()
    return key_points(
        xy=poses.keypoints.astype(np.float32),
        class_id=np.zeros(len(poses), dtype=int),
        keypoint_confidence=poses.presence.copy(),
        detection_confidence=poses.scores.copy(),
        visible=poses.present,
        data={
            "presence": poses.presence.copy(),
            "visibility": poses.visibility.copy(),
            "quality": poses.quality.copy(),
            "expected_oks": poses.expected_oks.copy(),
            "xyxy": poses.boxes.copy(),
        },
    )


def poses_to_huggingface(poses: Poses, *, tensors: bool = False) -> list[dict[str, Any]]:
    """What transformers' ``VitPoseImageProcessor.post_process_pose_estimation`` returns for one picture.

    One dictionary per person: ``keypoints`` (K, 2) float32 in image pixels, ``scores`` (K,) float32, which are the
    presence, ``labels`` (K,) int64, the indices of the keypoints, and ``bbox`` (4,) float32 xyxy in image pixels, the
    box as it was given. tensors: torch tensors, as transformers returns them; else numpy arrays.

    Raises `MissingExtraError` for tensors without torch.
    """
    convert = import_extra("Poses.to_huggingface(tensors=True)", "torch", "train").from_numpy if tensors else np.asarray
    labels = np.arange(poses.keypoints.shape[1])
    return [
        {
            "keypoints": convert(poses.keypoints[person].astype(np.float32)),
            "scores": convert(poses.presence[person].copy()),
            "labels": convert(labels.copy()),
            "bbox": convert(poses.boxes[person].astype(np.float32)),
        }
        for person in range(len(poses))
    ]


def poses_to_records(poses: Poses) -> list[dict[str, Any]]:
    """One flat dictionary per person and keypoint, of plain Python values: ``pandas.DataFrame(poses.to_records())``.

    Columns: ``person`` (from 0), ``keypoint`` (its name, or its index if names are unknown), ``x``, ``y`` (image
    pixels), ``presence``, ``present``, ``visibility``, ``quality``, ``expected_oks``, and ``score`` of the person.
    """
    n, k = poses.presence.shape
    columns: dict[str, Any] = {
        "person": np.repeat(np.arange(n), k).tolist(),
        "keypoint": list(poses.keypoint_names or range(k)) * n,
        "x": poses.keypoints[..., 0].ravel().tolist(),
        "y": poses.keypoints[..., 1].ravel().tolist(),
        "presence": poses.presence.ravel().tolist(),
        "present": poses.present.ravel().tolist(),
        "visibility": poses.visibility.ravel().tolist(),
        "quality": poses.quality.ravel().tolist(),
        "expected_oks": poses.expected_oks.ravel().tolist(),
        "score": np.repeat(poses.scores, k).tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
