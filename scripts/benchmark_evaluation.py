"""Time of AP and Ex-AP on a generated set, beside pycocotools.

    python scripts/benchmark_evaluation.py [--images 1000] [--persons 6] [--results 20] [--repeats 3]

Both evaluate the same results from Python lists in memory. pycocotools computes the ten standard figures;
`evaluate` computes these and those per visibility level. The printed ratio is pycocotools' median time over ours.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from probpose_edge.skeleton import COCO_17
from probpose_eval import evaluate, parse_annotations


def generate(images: int, persons: int, results: int, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO document and results for it: persons at random places, results near them with errors of mixed size."""
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    for image_id in range(1, images + 1):
        boxes = []
        for _ in range(persons):
            w, h = rng.uniform(20, 250, 2)
            x, y = rng.uniform(0, 640 - w), rng.uniform(0, 480 - h)
            visibility = rng.choice([0, 1, 2], size=17, p=[0.2, 0.2, 0.6])
            points = rng.uniform((x, y), (x + w, y + h), (17, 2)) * (visibility > 0)[:, None]
            boxes.append((x, y, w, h, points))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x, y, w, h],
                    "area": 0.53 * w * h,
                    "iscrowd": int(rng.random() < 0.02),
                    "num_keypoints": int((visibility > 0).sum()),
                    "keypoints": np.column_stack([points, visibility]).reshape(-1).tolist(),
                }
            )
        for _ in range(results):
            _, _, w, h, points = boxes[rng.integers(persons)]
            error = rng.normal(0, rng.exponential(0.06) * np.sqrt(w * h), (17, 2))
            keypoints = np.column_stack([points + error, rng.uniform(0, 1, 17)])
            detections.append(
                {
                    "image_id": image_id,
                    "category_id": 1,
                    "keypoints": keypoints.reshape(-1).tolist(),
                    "score": float(rng.random()),
                }
            )
    document = {
        "info": {},
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoint_names), "skeleton": []}],
    }
    return document, detections


def with_pycocotools(document: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """The ten keypoint figures of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = document
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    """Median wall time of an action in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("images", 1000), ("persons", 6), ("results", 20), ("repeats", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    document, results = generate(options.images, options.persons, options.results, options.seed)
    annotations = parse_annotations(document)
    theirs = with_pycocotools(copy.deepcopy(document), copy.deepcopy(results))
    ours = evaluate(annotations, results)
    names = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
    difference = max(abs(ours[name] - value) for name, value in zip(names, theirs, strict=True))
    copies = [(copy.deepcopy(document), copy.deepcopy(results)) for _ in range(options.repeats)]
    slow = median_seconds(lambda: with_pycocotools(*copies.pop()), options.repeats)
    standard = median_seconds(lambda: evaluate(annotations, results), options.repeats)
    extended = median_seconds(lambda: evaluate(annotations, results, extended=True), options.repeats)
    print(f"{options.images} images, {options.persons} persons and {options.results} results in each")
    print(f"largest difference to pycocotools: {difference:.1e} (AP {ours['AP']:.4f})")
    print(f"pycocotools, standard:          {slow:7.2f} s")
    print(f"evaluate, standard:             {standard:7.2f} s   {slow / standard:5.1f} x as fast")
    print(f"evaluate, extended:             {extended:7.2f} s   {slow / extended:5.1f} x as fast as the standard there")


if __name__ == "__main__":
    main()
