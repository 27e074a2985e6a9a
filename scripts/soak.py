"""Let a live stream run for long with the real network: memory, threads and open files.

    python scripts/soak.py [MODEL...] [--frames 10000] [--most-mb 5]

Drawn persons walk in and out, 0 to 3 of them at a time, are found by their drawn boxes, tracked, and written as JSON
lines and COCO results. Each model (the shipped ones without) runs in a process of its own. Ends with 1 if the memory
grew by more than --most-mb after the first 500 frames, or if a thread or a file stays open after the end. Linux only:
it reads /proc.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # numpy's libraries read them when they are imported

import numpy as np  # noqa: E402

from probpose_edge import CocoResults, JsonLines, LiveStream, PoseEstimator, PoseTracker, TrackerSettings  # noqa: E402
from probpose_edge.weights import shipped_model  # noqa: E402
from probpose_eval.synth.clip import DrawnFrame, draw_clip  # noqa: E402

SETTLED = 500
"""Frames after which everything has been used once."""
CLIP_FRAMES = 150
SMALLEST_PX2 = 600


def walks() -> list[DrawnFrame]:
    """A clip of three persons, each in the picture at other times."""
    t = np.arange(CLIP_FRAMES)
    turn = 2 * np.pi * t / CLIP_FRAMES
    places = [
        (320 - 600 * np.cos(turn), 250.0),
        (320 + 560 * np.cos(turn + 0.7), 240.0),
        (320 + 480 * np.cos(2 * turn + 1.5), 270.0),
    ]
    paths = [np.stack([x, np.full(CLIP_FRAMES, y)], axis=1) for x, y in places]
    return list(draw_clip(np.random.default_rng(3), paths, [260, 300, 330]))


class Drawn:
    """The frames of the clip, and the drawn boxes as a detector.

    The clip jumps to a random place now and then, which makes persons appear where nobody was: then boxes of who was
    there and of who is there now go through the network together. It jumps most in the beginning, so that the largest
    batch comes up before memory is compared.
    """

    def __init__(self, count: int) -> None:
        self.clip, self.count, self.persons = walks(), count, 0
        self.by_image = {id(frame.image): frame for frame in self.clip}

    def frames(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        place = 0
        for number in range(self.count):
            yield self.clip[place].image
            jumps = rng.random() < (0.3 if number < SETTLED else 0.03)
            place = int(rng.integers(CLIP_FRAMES)) if jumps else (place + 1) % CLIP_FRAMES

    def detector(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        frame = self.by_image[id(image)]
        boxes = frame.boxes[frame.areas > SMALLEST_PX2]
        return boxes, np.ones(len(boxes))


def memory_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def native_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def open_files() -> set[str]:
    paths = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    return {os.readlink(path) for path in paths if path.exists()}


@dataclass(kw_only=True)
class Ran:
    """What came of one stream; memory in MB."""

    persons: list[int] = field(default_factory=list)
    identities: int = 0
    settled: float = 0.0
    highest: float = 0.0


def stream(model: Path, drawn: Drawn) -> Ran:
    """Everything from the model to the files that are written, closed again at the end."""
    ran = Ran()
    with tempfile.TemporaryDirectory() as folder, PoseEstimator.open(model, threads=1) as estimator:
        tracker = PoseTracker(estimator, drawn.detector, TrackerSettings(redetect_every=5, keep_s=2))
        lines, coco = JsonLines(Path(folder) / "poses.jsonl"), CocoResults(Path(folder) / "results.json")
        with lines, coco, LiveStream(drawn.frames(), lambda frame: tracker(frame.image)) as live:
            for done, result in enumerate(live, start=1):
                tracked = result.result
                lines.write(result.frame, tracked.poses, tracked.identities)
                coco.write(result.frame, tracked.poses, tracked.identities)
                ran.persons.append(len(tracked))
                ran.identities = max(ran.identities, tracked.identities.max(initial=0))
                if done == SETTLED:
                    ran.settled = memory_mb()
                elif done > SETTLED and done % 250 == 0:
                    ran.highest = max(ran.highest, memory_mb())
    return ran


def soak(model: Path, count: int, most_mb: float) -> bool:
    """Run one model; whether everything held."""
    drawn = Drawn(count)
    files_before, threads_before, start = open_files(), native_threads(), time.monotonic()
    ran = stream(model, drawn)
    seconds, end_mb = time.monotonic() - start, memory_mb()
    files, threads = sorted(open_files() - files_before), native_threads() - threads_before
    share = np.bincount(ran.persons, minlength=4) / len(ran.persons)
    print(
        f"{model.name}: {len(ran.persons)} frames in {seconds:.0f} s, {sum(ran.persons)} poses, {ran.identities} "
        f"identities; 0, 1, 2, ... persons in {', '.join(f'{value:.0%}' for value in share)} of the frames\n"
        f"  memory: {ran.settled:.1f} MB after {SETTLED} frames, later at most {ran.highest - ran.settled:+.1f} MB, "
        f"after the end {end_mb - ran.settled:+.1f} MB\n"
        f"  left open: {threads} threads, files {files}",
        flush=True,
    )
    return ran.highest - ran.settled < most_mb and threads <= 0 and not files


def main() -> None:
    """Run every model in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--most-mb", type=float, default=5.0)
    options = parser.parse_args()
    models = options.models or [Path(shipped_model("onnx")), Path(shipped_model("tflite"))]
    if len(models) == 1:
        sys.exit(0 if soak(models[0], options.frames, options.most_mb) else 1)
    limits = ["--frames", str(options.frames), "--most-mb", str(options.most_mb)]
    codes = [subprocess.run([sys.executable, __file__, str(model), *limits]).returncode for model in models]
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
