"""Time of AP and Ex-AP on a generated set of COCO's size, beside pycocotools.

    python scripts/benchmark_evaluation.py [--images 5000] [--persons 6352] [--results 20] [--repeats 3]

Persons are in random pictures, as many as COCO's validation set has; every person gets as many results. Both evaluate
the same results from Python lists in memory, on one core; times are processor time. pycocotools computes the ten
standard figures; `evaluate` computes these and those per visibility level. The printed ratio is pycocotools' median
time over ours.
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

from probpose_edge.skeletons.skeleton import COCO_17
from probpose_eval import evaluate, parse_annotations


def generate(images: int, persons: int, results: int, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO document and results for it: persons at random places, results near them with errors of mixed size."""
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    for person_id, image_id in enumerate(np.sort(rng.integers(1, images + 1, persons)).tolist(), start=1):
        w, h = rng.uniform(20, 250, 2)
        x, y = rng.uniform(0, 640 - w), rng.uniform(0, 480 - h)
        visibility = rng.choice([0, 1, 2, 3], size=17, p=[0.2, 0.2, 0.5, 0.1])
        placed = np.isin(visibility, (1, 2))
        points = rng.uniform((x, y), (x + w, y + h), (17, 2))
        annotations.append(
            {
                "id": person_id,
                "image_id": image_id,
                "category_id": 1,
                "bbox": [x, y, w, h],
                "area": 0.53 * w * h,
                "iscrowd": int(rng.random() < 0.02),
                "num_keypoints": int(placed.sum()),
                "keypoints": np.column_stack([points * placed[:, None], visibility]).reshape(-1).tolist(),
            }
        )
        errors = rng.normal(size=(results, 17, 2)) * rng.exponential(0.06, (results, 1, 1)) * np.sqrt(w * h)
        keypoints = np.concatenate([points + errors, rng.uniform(0, 1, (results, 17, 1))], axis=2)
        detections += [
            {"image_id": image_id, "category_id": 1, "keypoints": values, "score": score}
            for values, score in zip(keypoints.reshape(results, -1).tolist(), rng.random(results).tolist(), strict=True)
        ]
    document = {
        "info": {},
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoint_names), "skeleton": []}],
    }
    return document, detections


def without_absent(document: dict[str, Any]) -> dict[str, Any]:
    """The document with v = 3 as unlabelled: pycocotools would count it as labelled."""
    changed = copy.deepcopy(document)
    for annotation in changed["annotations"]:
        annotation["keypoints"][2::3] = [0 if v == 3 else v for v in annotation["keypoints"][2::3]]
    return changed


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
    """Median processor time of an action in seconds; on one core and undisturbed it is the wall time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("images", 5000), ("persons", 6352), ("results", 20), ("repeats", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    document, results = generate(options.images, options.persons, options.results, options.seed)
    annotations = parse_annotations(document)
    for_coco = without_absent(document)
    theirs = with_pycocotools(copy.deepcopy(for_coco), copy.deepcopy(results))
    ours = evaluate(annotations, results)
    names = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
    difference = max(abs(ours[name] - value) for name, value in zip(names, theirs, strict=True))
    copies = [(copy.deepcopy(for_coco), copy.deepcopy(results)) for _ in range(options.repeats)]
    slow = median_seconds(lambda: with_pycocotools(*copies.pop()), options.repeats)
    standard = median_seconds(lambda: evaluate(annotations, results), options.repeats)
    extended = median_seconds(lambda: evaluate(annotations, results, extended=True), options.repeats)
    print(f"{options.images} images, {options.persons} persons, {len(results)} results")
    print(f"largest difference to pycocotools: {difference:.1e} (AP {ours['AP']:.4f})")
    print(f"pycocotools, standard:          {slow:7.2f} s")
    print(f"evaluate, standard:             {standard:7.2f} s   {slow / standard:5.1f} x as fast")
    print(f"evaluate, extended:             {extended:7.2f} s   {slow / extended:5.1f} x as fast as the standard there")


if __name__ == "__main__":
    main()
