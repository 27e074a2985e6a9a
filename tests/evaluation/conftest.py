"""Small annotated sets for the tests of the evaluation package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probpose_edge.skeleton import COCO_17

Document = dict[str, Any]


def _document(annotations: list[dict[str, Any]], sizes: dict[int, tuple[int, int]]) -> Document:
    return {
        "info": {"description": "test"},
        "images": [
            {"id": image_id, "file_name": f"{image_id:06d}.png", "width": w, "height": h}
            for image_id, (w, h) in sizes.items()
        ],
        "annotations": annotations,
        "categories": [
            {
                "id": 1,
                "name": "person",
                "supercategory": "person",
                "keypoints": list(COCO_17.keypoint_names),
                "skeleton": [[16, 14], [14, 12]],
            }
        ],
    }


@pytest.fixture
def document() -> Document:
    """One picture of 200x160 with one fully labelled person in the box x 40 to 100, y 20 to 140."""
    points = [[40 + 3.5 * k, 20 + 7 * k, 2 if k % 3 else 1] for k in range(17)]
    annotation = {
        "id": 7,
        "image_id": 3,
        "category_id": 1,
        "bbox": [40, 20, 60, 120],
        "area": 4000.0,
        "iscrowd": 0,
        "num_keypoints": 17,
        "keypoints": [value for point in points for value in point],
        "area_source": "test",
    }
    return _document([annotation], {3: (200, 160)})


@pytest.fixture
def random_set() -> Callable[..., tuple[Document, list[dict[str, Any]]]]:
    """Factory of seeded sets that visit every rule of COCO's evaluation, with results of mixed quality."""

    def make(
        seed: int, *, images: int = 12, levels: tuple[int, ...] = (0, 1, 2), result_boxes: bool = False
    ) -> tuple[Document, list[dict[str, Any]]]:
        rng = np.random.default_rng(seed)
        annotations: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        image_ids = rng.permutation(np.arange(1, images + 1) * 7).tolist()
        for image_id in image_ids:
            boxes = []
            for _ in range(int(rng.integers(0, 6))):
                x, y, w, h = (*rng.uniform(0, 300, 2), *rng.uniform(8, 220, 2))
                v = rng.choice(levels, 17) * (rng.random() < 0.8)
                points = rng.uniform((x, y), (x + w, y + h), (17, 2)) * np.isin(v, (1, 2))[:, None]
                boxes.append((x, y, w, h, points))
                annotations.append(
                    {
                        "id": 100 + len(annotations),
                        "image_id": image_id,
                        "category_id": 1,
                        "bbox": [x, y, w, h],
                        "area": float(w * h * rng.uniform(0.3, 0.8)),
                        "iscrowd": int(rng.random() < 0.12),
                        "num_keypoints": int((v > 0).sum()),
                        "keypoints": np.column_stack([points, v]).reshape(-1).tolist(),
                    }
                )
            boxes.append((10.0, 10.0, 50.0, 50.0, rng.uniform(10, 60, (17, 2))))
            for _ in range(int(rng.integers(0, 28))):
                x, y, w, h, points = boxes[int(rng.integers(len(boxes)))]
                near = np.where(points > 0, points, rng.uniform((x, y), (x + w, y + h), (17, 2)))
                shifted = near + rng.normal(0, rng.exponential(0.05) * np.sqrt(w * h), (17, 2))
                result = {
                    "image_id": image_id,
                    "category_id": 1,
                    "keypoints": np.column_stack([shifted, rng.uniform(0, 1, 17)]).reshape(-1).tolist(),
                    "score": round(float(rng.random()), 2),
                }
                results.append({**result, "bbox": [x, y, w, h]} if result_boxes else result)
        return _document(annotations, dict.fromkeys(image_ids, (640, 480))), results

    return make
