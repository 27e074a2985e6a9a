"""Measure tracking on drawn clips: what smoothing does, what is computed around the network, and whether memory grows.

    python scripts/benchmark_tracking.py [--frames 60] [--soak 10000]
    python scripts/benchmark_tracking.py --detector yolox_nano.onnx --annotations person_keypoints.json --images DIR

Processor times on one core, the least of many, of the shipped model. "Around the network" is everything but the
network: crops, decode, association, filter; a replay of one real answer stands for the network. The soak lets between 0
and 6 persons come and go in a live stream.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_variable] = "1"  # numpy's libraries read them when they are imported

import numpy as np  # noqa: E402

from probpose_edge import (  # noqa: E402
    LiveStream,
    OnnxDetector,
    PoseEstimator,
    PoseTracker,
    RawOutputs,
    TrackerSettings,
    box_to_window,
    crop_windows,
)
from probpose_edge.tracking.associate import box_iou  # noqa: E402
from probpose_eval.synth.clip import DrawnFrame, draw_clip  # noqa: E402

PERSONS = (1, 8)
REPEATS = 200
LARGE_PX2 = 96**2
FOUND_IOU = 0.5


class Replay:
    """A runtime that gives the same answer for every crop, in no time."""

    name, provenance = "replay", "simulated"

    def __init__(self, answer: RawOutputs) -> None:
        self.answer = answer

    def run(self, crops: np.ndarray) -> RawOutputs:
        return RawOutputs(
            **{name: np.repeat(values, len(crops), axis=0) for name, values in self.answer.named().items()}
        )

    def close(self) -> None:
        pass


def boxes_of(persons: int) -> np.ndarray:
    left = np.arange(persons) * 75.0 + 5
    return np.stack([left, np.full(persons, 100.0), left + 60, np.full(persons, 300.0)], axis=1)


def least_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times) * 1e3


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


def replayed(estimator: PoseEstimator, frame: DrawnFrame) -> PoseEstimator:
    return PoseEstimator(Replay(estimator.runtime.run(crop_of(estimator, frame))), estimator.contract)


def crop_of(estimator: PoseEstimator, frame: DrawnFrame) -> np.ndarray:
    contract = estimator.contract
    return crop_windows(frame.image, box_to_window(frame.boxes, contract.input_wh, contract.padding), contract.input_wh)


def times_around(estimator: PoseEstimator, frame: DrawnFrame) -> None:
    crop, fast = crop_of(estimator, frame), replayed(estimator, frame)
    print("persons | network, ms | estimator around it, ms | tracker around it, ms | share")
    for persons in PERSONS:
        boxes, crops = boxes_of(persons), np.repeat(crop, persons, axis=0)
        tracker = PoseTracker(fast, settings=TrackerSettings(match_oks=0))
        network = least_ms(lambda crops=crops: estimator.runtime.run(crops))
        alone = least_ms(lambda boxes=boxes: fast(frame.image, boxes))
        tracked = least_ms(lambda boxes=boxes, tracker=tracker: tracker(frame.image, boxes_xyxy=boxes))
        print(f"{persons} | {network:.1f} | {alone:.2f} | {tracked:.2f} | {tracked / network:.0%}")


def soak(estimator: PoseEstimator, frame: DrawnFrame, count: int) -> None:
    rng = np.random.default_rng(0)
    tracker = PoseTracker(
        replayed(estimator, frame),
        lambda image: (boxes_of(persons := int(rng.integers(0, 7))), np.ones(persons)),
        TrackerSettings(redetect_every=5, keep_s=1),
    )

    def frames() -> Iterator[np.ndarray]:
        for _ in range(count):
            yield frame.image

    first_mb, identities = 0.0, 0
    with LiveStream(frames(), lambda one: tracker(one.image)) as live:
        for done, result in enumerate(live, start=1):
            identities = max([identities, *result.result.identities.tolist()])
            if done == 500:
                first_mb = memory_mb()
    print(
        f"{count} frames, {identities} identities: memory {memory_mb() - first_mb:+.1f} MB since frame 500, "
        f"{threading.active_count()} thread, {len(os.listdir('/proc/self/fd'))} open files"
    )


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


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
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--soak", type=int, default=0)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    if options.detector:
        detector_recall(options.detector, options.annotations, options.images, options.frames)
        return
    with PoseEstimator.open(threads=1) as estimator:
        frame = next(draw_clip(np.random.default_rng(5), [np.array([[320.0, 240.0]])], [300.0]))
        times_around(estimator, frame)
        smoothing_table(estimator, options.frames)
        if options.soak:
            soak(estimator, frame, options.soak)


if __name__ == "__main__":
    main()
