"""Small annotated sets for the tests of the evaluation package."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from probpose_edge import COCO_17, ModelContract, PoseEstimator, RawOutputs, box_to_window, cells_to_image
from probpose_edge.poses import instance_scores
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons
from probpose_eval.annotations.windows import person_windows
from probpose_eval.observations.observe import Observations

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


@pytest.fixture
def random_observations() -> Callable[..., Observations]:
    """Factory of seeded observations of a set: near the truth, with probabilities that know a little of it."""

    def make(annotations: AnnotationSet, seed: int = 0) -> Observations:
        rng = np.random.default_rng(seed)
        persons = labelled_persons(annotations)
        boxes = np.stack([person.bbox_xyxy for person in persons])
        truth = np.stack([person.keypoints for person in persons])
        error = rng.exponential(0.04, truth.shape[:2]) * np.array([p.area for p in persons])[:, None] ** 0.5
        keypoints = truth[..., :2] + error[..., None] * rng.normal(0, 1, truth[..., :2].shape)
        there = np.isin(truth[..., 2], (1, 2))
        presence = np.clip(np.where(there, 0.7, 0.4) + rng.normal(0, 0.2, there.shape), 0, 1)
        quality = np.clip(np.exp(-20 * error / error.max()) + rng.normal(0, 0.2, there.shape), 0, 1)
        standing = rng.uniform(0.05, 1, there.shape)
        return Observations(
            annotation_ids=np.array([person.id for person in persons], dtype=np.int64),
            image_ids=np.array([person.image_id for person in persons], dtype=np.int64),
            boxes_xyxy=boxes,
            windows=person_windows(boxes),
            keypoints=keypoints,
            presence=presence,
            visibility=np.clip(np.where(truth[..., 2] == 2, 0.6, 0.4) + rng.normal(0, 0.2, there.shape), 0, 1),
            quality=quality,
            expected_oks=quality**2,
            scores=instance_scores(quality, presence >= 0.5).astype(np.float64),
            standing=np.where(there, standing, np.nan),
            standing_own=np.where(there, standing * rng.uniform(0, 1, there.shape), np.nan),
            presence_threshold=0.5,
        )

    return make


class TemplateRuntime:
    """A runtime that answers every crop alike: keypoint k peaks at column ``10 + k + shift``, row ``12 + 2 k``."""

    def __init__(
        self, *, shift: int = 0, presence: float = 0.9, provenance: str = "measured", delay: float = 0
    ) -> None:
        self.name = f"template (shift {shift})"
        self.provenance = provenance
        self.calls: list[int] = []
        self._shift, self._presence, self._delay = shift, presence, delay

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        self.calls.append(len(crops))
        time.sleep(self._delay)
        n, k = len(crops), np.arange(17)
        logits = np.zeros((n, 17, 64, 48), dtype=np.float32)
        logits[:, k, 12 + 2 * k, np.clip(10 + k + self._shift, 0, 47)] = 20
        shares = np.full((n, 17), 0.5, dtype=np.float32)
        presence = np.full((n, 17), self._presence, dtype=np.float32)
        presence[:, 0] = 0.1
        return RawOutputs(logits=logits, presence=presence, visibility=shares, quality=shares)

    def close(self) -> None:
        pass


@pytest.fixture
def template_estimator() -> Callable[..., PoseEstimator]:
    """Factory of estimators over `TemplateRuntime`; keyword arguments of both, and of the contract."""

    def make(
        *, shift: int = 0, presence: float = 0.9, provenance: str = "measured", delay: float = 0, **contract: Any
    ) -> PoseEstimator:
        runtime = TemplateRuntime(shift=shift, presence=presence, provenance=provenance, delay=delay)
        fields: dict[str, Any] = {
            "model": "template",
            "format": "onnx",
            "precision": "fp32",
            "recipe": "fp32",
            "keypoint_names": COCO_17.keypoint_names,
            "skeleton": COCO_17.edges,
            "flip_pairs": COCO_17.flip_pairs,
            "sigmas": COCO_17.sigmas,
            "input_wh": (192, 256),
            "heatmap_wh": (48, 64),
            "padding": 1.25,
            "decode_kernel": "published",
            "temperature": 0.5,
            "presence_scale": (1.0,) * 17,
            "presence_bias": (0.0,) * 17,
            "presence_threshold": 0.5,
            "checkpoint_sha256": "0" * 64,
            "licence": "Apache-2.0",
        }
        return PoseEstimator(runtime, ModelContract(**{**fields, **contract}))

    return make


@pytest.fixture
def photographed(tmp_path: Path) -> tuple[Path, Path]:
    """(annotation file, image folder): six noise pictures with one to three persons each, who look like the template.

    The nose of every other person is absent (v = 3); one person is a crowd and one is not labelled.
    """
    rng = np.random.default_rng(4)
    annotations: list[dict[str, Any]] = []
    (tmp_path / "pictures").mkdir()
    for image_id in range(1, 7):
        picture = rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{image_id:06d}.png"), picture)
        for _ in range(1 + image_id % 3):
            height = float(rng.uniform(60, 150))
            x, y = rng.uniform(20, 100), rng.uniform(10, 80)
            box = np.array([x, y, x + 0.75 * height, y + height])
            k = np.arange(17)
            window = box_to_window(box, (192, 256), 1.25)
            points = cells_to_image(np.stack([10.0 + k, 12.0 + 2 * k], axis=1)[None], window, (48, 64))[0]
            points += rng.normal(0, 0.03 * height, points.shape)
            values = np.column_stack([points, np.where(k % 4, 2, 1)])
            if len(annotations) % 2:
                values[0] = (0, 0, 3)
            annotations.append(
                {
                    "id": 50 + len(annotations),
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x, y, 0.75 * height, height],
                    "area": 0.4 * height**2,
                    "iscrowd": 0,
                    "num_keypoints": int((values[:, 2] < 3).sum()),
                    "keypoints": values.reshape(-1).tolist(),
                }
            )
    annotations[2]["iscrowd"] = 1
    annotations[4] |= {"keypoints": [0] * 51, "num_keypoints": 0}
    path = tmp_path / "photographed.json"
    path.write_text(json.dumps(_document(annotations, dict.fromkeys(range(1, 7), (320, 240)))))
    return path, tmp_path / "pictures"


COCO_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


@pytest.fixture
def with_pycocotools() -> Callable[[Document, list[dict[str, Any]]], dict[str, float]]:
    """What pycocotools says of a document and results, by name of the metric."""
    coco = pytest.importorskip("pycocotools.coco", reason="the oracle pycocotools is not installed")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    def measure(document: Document, results: list[dict[str, Any]]) -> dict[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = coco.COCO()
            truth.dataset = copy.deepcopy(document)
            truth.createIndex()
            evaluation = cocoeval.COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return dict(zip(COCO_METRICS, evaluation.stats.tolist(), strict=True))

    return measure
