"""Poses on a Jetson: onnxruntime with TensorRT, else with CUDA, else on the processor, and what each of them takes.

    python jetson.py [SOURCE] [--model probpose-m-fp32.onnx] [--cache engines] [--need tensorrt|cuda] [--frames N]

SOURCE is a camera's number, a GStreamer pipeline or address, or a video; without one only the speed is measured. --need
ends with exit code 1 where onnxruntime had to fall back to something slower, instead of being slow for months.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probpose_edge import LiveStream, OnnxDetector, PoseEstimator, PoseTracker, ProbPoseError, TrackerSettings
from probpose_edge.sources.camera_source import camera_frames

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
NEEDS = {"tensorrt": (TENSORRT,), "cuda": (TENSORRT, CUDA), "cpu": (TENSORRT, CUDA, CPU)}


def provider_choice(available: Sequence[str], cache: Path) -> list[str | tuple[str, dict[str, Any]]]:
    """What to ask onnxruntime for, best first, of what is installed here.

    An engine takes TensorRT minutes to build. The cache keeps it, for this file, this device and this version.
    """
    options: dict[str, dict[str, Any]] = {
        TENSORRT: {
            "trt_fp16_enable": True,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(cache),
        },
        # The same convolution algorithms for every number of persons: searching anew would stall the stream.
        CUDA: {"cudnn_conv_algo_search": "HEURISTIC"},
        CPU: {},
    }
    return [(name, options[name]) if options[name] else name for name in options if name in available]


def warm_up(estimator: PoseEstimator, most_persons: int) -> None:
    """Run one crop and the most at once, so that the engines for all numbers between are built and cached."""
    width, height = estimator.contract.input_wh
    for count in (1, most_persons):
        start = time.perf_counter()
        estimator.runtime.run(np.zeros((count, height, width, 3), dtype=np.uint8))
        print(f"first run of {count} crop(s): {time.perf_counter() - start:.1f} s", flush=True)


def measure(estimator: PoseEstimator, most_persons: int, rounds: int = 30) -> None:
    """Print the median time of one crop and of many."""
    width, height = estimator.contract.input_wh
    crops = np.random.default_rng(0).integers(0, 255, (most_persons, height, width, 3)).astype(np.uint8)
    for count in (1, most_persons):
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            estimator.runtime.run(crops[:count])
            times.append(time.perf_counter() - start)
        median = 1000 * sorted(times)[rounds // 2]
        print(f"{count} crop(s): {median:.1f} ms, {median / count:.1f} ms each", flush=True)


def main() -> int:
    """Open with the best provider, warm up, measure, then follow the source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--model", help="an .onnx file, fp32 for TensorRT; the shipped INT8 one without it")
    parser.add_argument("--cache", type=Path, default=Path("engines"), help="folder for TensorRT's engines")
    parser.add_argument("--need", choices=NEEDS, default="cpu", help="the slowest that will do")
    parser.add_argument("--detector", help="YOLOX or YOLOv8 as .onnx, for several persons")
    parser.add_argument("--most-persons", type=int, default=8)
    parser.add_argument("--frames", type=int, help="end after so many")
    options = parser.parse_args()

    try:
        import onnxruntime
    except ModuleNotFoundError:
        sys.exit(
            "error: onnxruntime is not installed. Install NVIDIA's onnxruntime-gpu for this JetPack (see the README)."
        )

    options.cache.mkdir(parents=True, exist_ok=True)
    chosen = provider_choice(onnxruntime.get_available_providers(), options.cache)
    with PoseEstimator.open(options.model, providers=chosen) as estimator:
        # onnxruntime falls back without an error where a library of a provider does not load.
        used = estimator.runtime.providers
        print(f"{estimator.runtime.name}, {estimator.contract.precision}")
        if used[0] not in NEEDS[options.need]:
            print(f"{options.need} is needed, but onnxruntime runs this file with {used[0]}", file=sys.stderr)
            return 1
        warm_up(estimator, options.most_persons)
        measure(estimator, options.most_persons)
        if options.source is not None:
            follow(estimator, chosen, options)
    return 0


def follow(estimator: PoseEstimator, chosen: list[Any], options: argparse.Namespace) -> None:
    """Print who is in view, on the newest frame."""
    detector = OnnxDetector(options.detector, providers=chosen) if options.detector else None
    tracker = PoseTracker(estimator, detector, TrackerSettings(most_persons=options.most_persons))
    # A pipeline ("nvarguscamerasrc ! … ! appsink") needs an OpenCV that was built with GStreamer.
    source = camera_frames(options.source) if " ! " in options.source else options.source
    with LiveStream(source, lambda frame: tracker(frame.image, time_s=frame.time_s)) as live:
        for count, result in enumerate(live, start=1):
            identities = result.result.identities.tolist()
            print(f"{result.frame.name}: persons {identities}, {1000 * result.latency_s:.0f} ms", flush=True)
            if count == options.frames:
                break
        print(f"{live.processed} frames, {live.dropped} dropped")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ProbPoseError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(0)
