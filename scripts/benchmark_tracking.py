"""Measure tracking on drawn clips: what is computed around the network, and what smoothing does.

    python scripts/benchmark_tracking.py [MODEL...] [--frames 60]
    python scripts/benchmark_tracking.py --detector yolox_nano.onnx --annotations person_keypoints.json --images DIR

Processor times on one core, medians, of the shipped models or the files named. "Around the network" is what a frame
takes less what the network takes in it: crops, decode, association, filter. Every file answers what the shipped model
says of a drawn person, so that one with random weights, whose maps are flat, is timed as if it were trained.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_variable] = "1"  # numpy's libraries read them when they are imported

import numpy as np  # noqa: E402

from probpose_edge import (  # noqa: E402
    OnnxDetector,
    PoseEstimator,
    PoseTracker,
    RawOutputs,
    Runtime,
    TrackerSettings,
    box_to_window,
    crop_windows,
    open_runtime,
    read_contract,
    shipped_model,
)
from probpose_edge.tracking.associate import box_iou  # noqa: E402
from probpose_eval.synth.clip import DrawnFrame, draw_clip  # noqa: E402

PERSONS = (1, 8)
LARGE_PX2 = 96**2
FOUND_IOU = 0.5


class Timed:
    """A runtime that takes its time, which is counted, and then gives the same answer for every crop."""

    name, provenance = "timed", "simulated"

    def __init__(self, runtime: Runtime, answer: RawOutputs) -> None:
        self.runtime, self.answer, self.spent_s = runtime, answer, 0.0

    def run(self, crops: np.ndarray) -> RawOutputs:
        start = time.process_time()
        self.runtime.run(crops)
        answer = {name: np.repeat(values, len(crops), axis=0) for name, values in self.answer.named().items()}
        self.spent_s += time.process_time() - start
        return RawOutputs(**answer)

    def close(self) -> None:
        self.runtime.close()


def boxes_of(persons: int) -> np.ndarray:
    left = np.arange(persons) * 75.0 + 5
    return np.stack([left, np.full(persons, 100.0), left + 60, np.full(persons, 300.0)], axis=1)


def medians_ms(timed: Timed, call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median processor time of the network in a call, and of the rest of it."""
    times = []
    for _ in range(rounds + 3):
        timed.spent_s, start = 0.0, time.process_time()
        call()
        times.append((timed.spent_s, time.process_time() - start - timed.spent_s))
    network, around = 1000 * np.median(times[3:], axis=0)
    return float(network), float(around)


def smoothing_table(estimator: PoseEstimator, count: int) -> None:
    still = np.full(count, 240.0)
    paths = {
        "walk, 5 px a frame": np.stack([170 + 5.0 * np.arange(count), still], axis=1),
        "swing, 120 px in 1.3 s": np.stack([320 + 120 * np.sin(np.arange(count) / 6), still], axis=1),
    }
    print("movement | smoothing | change of the error from frame to frame, px | mean error, px")
    for name, path in paths.items():
        clip = list(draw_clip(np.random.default_rng(11), [path], [300.0], noise=12))
        true = np.array([frame.keypoints[0] for frame in clip])
        for smoothing in (0.0, TrackerSettings().smoothing):
            settings = TrackerSettings(smoothing=smoothing, redetect_every=count)
            tracker = PoseTracker(estimator, lambda image, first=clip[0]: (first.boxes, [1.0]), settings)
            error = np.array([tracker(frame.image).poses.keypoints[0] for frame in clip]) - true
            change, mean = np.abs(np.diff(error, axis=0)).mean(), np.linalg.norm(error, axis=-1)[5:].mean()
            print(f"{name} | {smoothing:g} | {change:.2f} | {mean:.2f}")


def crop_of(estimator: PoseEstimator, frame: DrawnFrame) -> np.ndarray:
    contract = estimator.contract
    return crop_windows(frame.image, box_to_window(frame.boxes, contract.input_wh, contract.padding), contract.input_wh)


def times_around(estimator: PoseEstimator, frame: DrawnFrame, path: Path, rounds: int) -> None:
    contract = estimator.contract
    other = read_contract(path)
    if (other.input_wh, other.heatmap_wh) != (contract.input_wh, contract.heatmap_wh):
        raise SystemExit(f"{path} must have input and maps of the shipped model's sizes to be timed with its answer.")
    timed = Timed(open_runtime(path, threads=1), estimator.runtime.run(crop_of(estimator, frame)))
    answering = PoseEstimator(timed, contract)
    for persons in PERSONS:
        boxes = boxes_of(persons)
        tracker = PoseTracker(answering, settings=TrackerSettings(match_oks=0))
        network, alone = medians_ms(timed, partial(answering, frame.image, boxes), rounds)
        _, tracked = medians_ms(timed, partial(tracker, frame.image, boxes_xyxy=boxes), rounds)
        print(f"{path.name} | {persons} | {network:.1f} | {alone:.2f} | {tracked:.2f} | {tracked / network:.1%}")


def detector_recall(path: Path, annotations: Path, images: Path, count: int) -> None:
    from probpose_eval.annotations.coco import labelled_persons, read_annotations
    from probpose_eval.pictures import read_picture

    data = read_annotations(annotations)
    large = [person for person in labelled_persons(data) if person.area > LARGE_PX2]
    chosen = sorted({person.image_id for person in large})[:count]
    found = total = 0
    with OnnxDetector(path, threads=1) as detector:
        for image_id in chosen:
            boxes, _ = detector(read_picture(images, data.images[image_id]))
            true = np.array([person.bbox_xyxy for person in large if person.image_id == image_id])
            found += int((box_iou(true, boxes).max(axis=1, initial=0) > FOUND_IOU).sum())
            total += len(true)
    print(f"{path.name}: {found} of {total} labelled persons above 96 x 96 pixels on {len(chosen)} pictures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=60, help="of a clip; pictures for the detector")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    if options.detector:
        detector_recall(options.detector, options.annotations, options.images, options.frames)
        return
    with PoseEstimator.open(threads=1) as estimator:
        frame = next(draw_clip(np.random.default_rng(5), [np.array([[320.0, 240.0]])], [300.0]))
        print("file | persons | network, ms | estimator around it, ms | tracker around it, ms | share")
        for path in options.models or [shipped_model("onnx"), shipped_model("tflite")]:
            times_around(estimator, frame, path, options.rounds)
        if not options.models:
            smoothing_table(estimator, options.frames)


if __name__ == "__main__":
    main()
