"""Show the poses that a camera sees, live.

    python webcam.py [SOURCE] [--detector yolox_nano.onnx] [--out poses.mp4] [--frames N]

SOURCE is a camera's number, a video or the address of a stream. Without a display a line per frame is printed. Ends
with Esc, q, Ctrl-C, or when the source ends.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, suppress

from probpose_edge import (
    LiveStream,
    LiveWindow,
    OnnxDetector,
    PoseEstimator,
    PoseTracker,
    ProbPoseError,
    RuntimeUnavailableError,
    VideoFile,
    draw_poses,
)


def main() -> None:
    """Capture, estimate and draw, each at its own pace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="0")
    parser.add_argument("--model", help="a model file; the shipped INT8 one without it")
    parser.add_argument("--detector", help="YOLOX or YOLOv8 as .onnx, for several persons")
    parser.add_argument("--out", help="a video to write")
    parser.add_argument("--frames", type=int, help="end after so many")
    options = parser.parse_args()

    with ExitStack() as stack:
        estimator = stack.enter_context(PoseEstimator.open(options.model))
        detector = stack.enter_context(OnnxDetector(options.detector)) if options.detector else None
        tracker = PoseTracker(estimator, detector)  # without a detector: the one main person
        window = open_window(stack)
        video = stack.enter_context(VideoFile(options.out)) if options.out else None
        live = stack.enter_context(LiveStream(options.source, lambda frame: tracker(frame.image, time_s=frame.time_s)))
        for count, result in enumerate(live, start=1):
            tracked = result.result
            if window is not None or video is not None:
                names = [f"person {identity}" for identity in tracked.identities]
                drawn = draw_poses(result.frame.image, tracked.poses, estimator.contract, labels=names)
                if video is not None:
                    video.write(drawn)
                if window is not None and not window.show(drawn):
                    break
            if window is None:
                seen = ", ".join(
                    f"person {identity}: {present.sum()} of {present.size} keypoints present"
                    for identity, present in zip(tracked.identities, tracked.poses.present, strict=True)
                )
                print(f"{result.frame.name}: {seen or 'nobody'} ({1000 * result.latency_s:.0f} ms)", flush=True)
            if count == options.frames:
                break
        print(f"{live.processed} frames processed, {live.dropped} dropped because newer ones had come")


def open_window(stack: ExitStack) -> LiveWindow | None:
    """A window, or None where there can be none, with the reason printed."""
    try:
        return stack.enter_context(LiveWindow("probpose-edge: Esc ends"))
    except RuntimeUnavailableError as error:
        print(error)
        return None


if __name__ == "__main__":
    try:
        with suppress(KeyboardInterrupt):
            main()
    except ProbPoseError as error:
        sys.exit(f"error: {error}")
