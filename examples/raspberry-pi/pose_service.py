"""A service for a Raspberry Pi: poses from a camera as lines of JSON on stdout, without end.

    python pose_service.py [--camera picamera2] [--size 640x480] [--threads 4] [--detector yolox_nano.onnx]

--camera is "picamera2" for the camera on the ribbon cable, a number for one on USB, or a video or address. Remarks go
to stderr once a minute. SIGTERM and Ctrl-C end it with exit code 0. A camera that gives no frame for 10 s ends it
with exit code 1: systemd starts it anew (see pose-service.service).
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from contextlib import ExitStack
from typing import Any

from probpose_edge import (
    JsonLines,
    LiveStream,
    OnnxDetector,
    PoseEstimator,
    PoseTracker,
    ProbPoseError,
    SourceError,
    TrackerSettings,
    open_source,
    shipped_model,
)
from probpose_edge.sources.camera_source import camera_frames


def open_camera(name: str, size_wh: tuple[int, int], stack: ExitStack) -> Any:
    """The frames of a camera; what has to be stopped is put on the stack."""
    if name == "picamera2":
        try:
            from picamera2 import Picamera2  # from apt, not from pip: see the README
        except ModuleNotFoundError as error:
            raise SourceError(
                'The camera "picamera2" needs the package python3-picamera2, which is not here. Install it with apt, '
                "make the environment with --system-site-packages, or name a camera on USB: --camera 0"
            ) from error
        camera = stack.enter_context(Picamera2())
        # Named as libcamera does: "RGB888" gives what OpenCV calls BGR, which saves a conversion.
        camera.configure(camera.create_video_configuration(main={"size": size_wh, "format": "RGB888"}))
        camera.start()
        return open_source(camera)
    return camera_frames(int(name), size_wh=size_wh) if name.isdigit() else open_source(name)


def main() -> int:
    """Estimate on the newest frame, write a line, again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camera", default="picamera2")
    parser.add_argument("--size", type=width_height, default=(640, 480), help="width x height to ask of a camera")
    parser.add_argument("--model", help="a .tflite file; the shipped INT8 one without it")
    parser.add_argument("--threads", type=int, default=4, help="a Raspberry Pi 4 or 5 has four cores")
    parser.add_argument("--detector", help="YOLOX or YOLOv8 as .onnx, for several persons")
    parser.add_argument("--most-persons", type=int, default=4)
    parser.add_argument("--report-every", type=float, default=60.0, help="seconds between remarks on stderr")
    options = parser.parse_args()

    with ExitStack() as stack:
        estimator = stack.enter_context(
            PoseEstimator.open(options.model or shipped_model("tflite"), threads=options.threads)
        )
        detector = None
        if options.detector:
            detector = stack.enter_context(OnnxDetector(options.detector, threads=options.threads))
        tracker = PoseTracker(estimator, detector, TrackerSettings(most_persons=options.most_persons))
        source = open_camera(options.camera, options.size, stack)
        lines = stack.enter_context(JsonLines(sys.stdout))
        live = stack.enter_context(LiveStream(source, lambda frame: tracker(frame.image, time_s=frame.time_s)))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: live.stop())
        say(f"{estimator.runtime.name}, {source.name}")
        last_report, last_processed, slowest = time.monotonic(), 0, 0.0
        for result in live:
            lines.write(result.frame, result.result.poses, result.result.identities)
            slowest = max(slowest, result.latency_s)
            now = time.monotonic()
            if now - last_report >= options.report_every:
                rate = (live.processed - last_processed) / (now - last_report)
                say(f"{rate:.1f} frames per second, slowest {1000 * slowest:.0f} ms, {live.dropped} dropped in all")
                last_report, last_processed, slowest = now, live.processed, 0.0
        say(f"ended after {live.processed} frames, {live.dropped} dropped")
    return 0


def width_height(text: str) -> tuple[int, int]:
    """ "640x480" → (640, 480)."""
    width, height = text.split("x")
    return int(width), int(height)


def say(text: str) -> None:
    """A remark for the journal."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ProbPoseError as error:
        say(f"error: {error}")
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # who read the lines has gone
        sys.exit(0)
