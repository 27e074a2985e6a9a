"""AP of other skeletons against pycocotools with their sigmas, and the whole evaluation on them."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest

from probpose_edge import CROWDPOSE_14, MPII_16, WHOLEBODY_133, Skeleton
from probpose_eval import evaluate, mean_oks, parse_annotations, presence_accuracy

TOLERANCE = 1e-9
"""Rounding of sums in another order; measured differences are 0."""
NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
SKELETONS = [CROWDPOSE_14, MPII_16, WHOLEBODY_133]
IDS = ["14", "16", "133"]


def generated(skeleton: Skeleton, seed: int, *, area: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Persons with some keypoints labelled, and results around them whose errors follow the sigmas."""
    rng = np.random.default_rng(seed)
    k, sigmas = len(skeleton.keypoint_names), np.array(skeleton.sigmas)[:, None]
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in range(1, 11):
        for _ in range(int(rng.integers(1, 4))):
            x, y, w, h = (*rng.uniform(0, 300, 2), *rng.uniform(20, 220, 2))
            v = rng.choice([0, 1, 2], k)
            points = rng.uniform((x, y), (x + w, y + h), (k, 2))
            person = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": 1,
                "bbox": [x, y, w, h],
                "iscrowd": int(rng.random() < 0.1),
                "num_keypoints": int((v > 0).sum()),
                "keypoints": np.column_stack([points * (v > 0)[:, None], v]).reshape(-1).tolist(),
            }
            annotations.append({**person, "area": 0.6 * w * h} if area else person)
            for _ in range(int(rng.integers(1, 4))):
                error = rng.normal(0, rng.exponential(1.2), (k, 2)) * sigmas * np.sqrt(w * h)
                row = {"image_id": image_id, "category_id": 1, "score": round(float(rng.random()), 2)}
                answer = np.column_stack([points + error, rng.uniform(0, 1, k)])
                results.append({**row, "keypoints": answer.reshape(-1).tolist()})
    document = {
        "info": {},
        "images": [{"id": i, "file_name": f"{i}.png", "width": 640, "height": 480} for i in range(1, 11)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoint_names)}],
    }
    return document, results


def with_pycocotools(document: dict[str, Any], results: list[dict[str, Any]], skeleton: Skeleton) -> dict[str, float]:
    coco = pytest.importorskip("pycocotools.coco", reason="the oracle pycocotools is not installed")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    document = copy.deepcopy(document)
    for person in document["annotations"]:
        # CrowdPose's evaluation takes this area where COCO's has that of the mask.
        person.setdefault("area", 0.53 * person["bbox"][2] * person["bbox"][3])
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = document
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, evaluation.stats.tolist(), strict=True))


@pytest.mark.parametrize("area", [True, False], ids=["with area", "without area"])
@pytest.mark.parametrize("skeleton", SKELETONS, ids=IDS)
def test_equals_pycocotools_with_these_sigmas(skeleton: Skeleton, area: bool) -> None:
    for seed in (1, 2):
        document, results = generated(skeleton, seed, area=area)
        theirs = with_pycocotools(document, results, skeleton)
        ours = evaluate(parse_annotations(document), results)
        assert 0.05 < theirs["AP"] < 0.95
        assert {name: ours[name] for name in NAMES} == pytest.approx(theirs, abs=TOLERANCE)


def test_other_sigmas_give_another_ap() -> None:
    document, results = generated(MPII_16, 3, area=True)
    ours = evaluate(parse_annotations(document), results)["AP"]
    document["categories"][0]["sigmas"] = [2 * sigma for sigma in MPII_16.sigmas]
    assert evaluate(parse_annotations(document), results)["AP"] > ours + 0.01


@pytest.mark.parametrize("skeleton", SKELETONS, ids=IDS)
def test_extended_metrics_and_presence_count_all_keypoints(skeleton: Skeleton) -> None:
    document, _ = generated(skeleton, 4, area=True)
    annotations = parse_annotations(document)
    persons = [p for p in annotations.persons if not p.iscrowd and p.num_keypoints]
    results = [
        {
            "image_id": p.image_id,
            "annotation_id": p.id,
            "score": 0.5,
            "keypoints": np.column_stack([p.keypoints[:, :2], np.ones(len(p.keypoints))]).reshape(-1).tolist(),
        }
        for p in persons
    ]
    assert mean_oks(annotations, results).mean == pytest.approx(1)
    assert evaluate(annotations, results, extended=True)["Ex-AP"] == pytest.approx(1)
    accuracy = presence_accuracy(annotations, results, thresholds=[0.5])[0]
    assert accuracy.accuracy == pytest.approx(1)
