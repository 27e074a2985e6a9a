"""COCO keypoint results, the format that COCO tools evaluate."""

from __future__ import annotations

from typing import Any

import numpy as np

from probpose_edge.poses import Poses


def poses_to_coco(poses: Poses, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
    """One COCO result per person: ``keypoints`` = [x, y, presence] * K in image pixels, ``score`` = instance score.

    Standard COCO tools ignore the third number; extended ones threshold it as presence. The other scalars follow
    under their own names (``visibility``, ``quality``, ``expected_oks``: K numbers each), and ``bbox`` is the box
    as [x, y, width, height]. Everything is plain Python, ready for `json.dump`.
    """
    keypoints = np.concatenate([poses.keypoints, poses.presence[..., None]], axis=2)
    boxes = np.concatenate([poses.boxes[:, :2], poses.boxes[:, 2:] - poses.boxes[:, :2]], axis=1)
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "keypoints": keypoints[person].ravel().tolist(),
            "score": float(poses.scores[person]),
            "bbox": boxes[person].tolist(),
            "visibility": poses.visibility[person].tolist(),
            "quality": poses.quality[person].tolist(),
            "expected_oks": poses.expected_oks[person].tolist(),
        }
        for person in range(len(poses))
    ]
