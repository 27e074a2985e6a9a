"""Poses of the shipped INT8 files on given pictures, as one line of JSON: the same program for every processor.

    python pose_numbers.py PICTURES.npz

PICTURES.npz holds pairs `picture_0` (H, W, 3) uint8 BGR and `boxes_0` (N, 4) float64 xyxy, `picture_1` and so on. Needs
the package with the extras `tflite` and `onnx`, nothing of a checkout.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from probpose_edge import PoseEstimator, shipped_model
from probpose_edge.contract.self_test import recorded_numbers, run_self_test

FORMATS = {"onnx": "onnxruntime", "tflite": "ai-edge-litert"}
PACKAGES = ("numpy", "opencv-python-headless", *FORMATS.values())


def numbers_of(path: Path, pictures: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """What one file says about every picture, and how long a crop takes: opened, warmed up, timed on one thread."""
    start = time.perf_counter()
    with PoseEstimator.open(path, threads=1) as estimator:
        opened_s = time.perf_counter() - start
        test = run_self_test(estimator, recorded_numbers(path, estimator))
        answers = []
        seconds = []
        for picture, boxes in pictures:
            start = time.perf_counter()
            poses = estimator(picture, boxes)
            seconds.append((time.perf_counter() - start) / len(boxes))
            print(f"      {path.name}, picture {len(seconds)}: {seconds[-1]:.2f} s", file=sys.stderr, flush=True)
            answers.append(
                {
                    name: np.round(getattr(poses, name).astype(np.float64), 5).tolist()
                    for name in ("keypoints", "presence", "visibility", "quality", "expected_oks", "present")
                }
            )
        return {
            "runtime": estimator.runtime.name,
            "input_wh": list(estimator.contract.input_wh),
            "padding": estimator.contract.padding,
            "opened_s": opened_s,
            "crop_s": float(np.median(seconds)),
            "self_test": {"moved": test.moved, "shifted": test.shifted, "passed": test.passed},
            "pictures": answers,
        }


def main() -> None:
    with np.load(sys.argv[1]) as stored:
        count = len(stored.files) // 2
        pictures = [(stored[f"picture_{index}"], stored[f"boxes_{index}"]) for index in range(count)]
    found = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "files": {name: numbers_of(shipped_model(name), pictures) for name in FORMATS},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
