"""Time the way from logits to keypoints on one core, and compare its convolution with scipy's.

Measured: `sparsemax_maps` and `decode_maps` for a batch of persons with 17 maps of 64 x 48 cells; not the network, the
crops or the drawing. Times are processor time, which is wall time on an idle machine and does not count the waiting on
a busy one. The logits are drawn here (seeded): a peak per map, as wide as asked for, in noise.

    python scripts/benchmark_decode.py [--persons 8] [--repeats 60]

With two files of one model, the one with maps and the one made with --decoded, it times the whole computation on drawn
people through both instead, in turns: what the decode costs in the graph and in the SDK.

    python scripts/benchmark_decode.py --files probpose-m-int8.onnx probpose-m-int8-decoded.onnx
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_variable] = "1"  # numpy's libraries read them when they are imported

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from probpose_edge import (  # noqa: E402
    COCO_17,
    PoseEstimator,
    box_to_window,
    crop_windows,
    decode_maps,
    expected_oks_maps,
    sparsemax_maps,
)
from probpose_edge.contract.metadata import KERNELS  # noqa: E402
from probpose_edge.decode import published_spread  # noqa: E402
from probpose_eval.synth import draw_scene  # noqa: E402

TEMPERATURE = 0.5
KINDS = {"sharp peaks": 1.0, "usual peaks": 0.05, "wide peaks": 0.001, "flat maps": 0.0}
"""Name → factor on the peaked logits."""


def draw_logits(persons: int, factor: float) -> np.ndarray:
    """(N, 17, 64, 48) float32 logits."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :48]
    center = rng.uniform([0, 0], [47, 63], size=(persons, 17, 2))[..., None, None]
    distance = (x - center[:, :, 0]) ** 2 + (y - center[:, :, 1]) ** 2
    noise = rng.normal(size=distance.shape) * 0.5
    return (factor * (noise - distance / 8)).astype(np.float32)


def milliseconds(call: Callable[[], object], repeats: int) -> np.ndarray:
    """(repeats,) processor times of one call, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return np.array(times) * 1e3


def scipy_loop(maps: np.ndarray) -> np.ndarray:
    """The published way: a 2-D convolution per map."""
    from scipy import ndimage

    smoothed = np.empty(maps.shape)
    for index in np.ndindex(maps.shape[:2]):
        spread = published_spread(COCO_17.sigmas[index[1]], (maps.shape[3], maps.shape[2]))
        radius = math.ceil(3 * spread)
        axis = np.arange(-radius, radius + 1)
        kernel = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * spread))
        smoothed[index] = ndimage.convolve(maps[index].astype(np.float64), kernel / kernel.sum(), mode="reflect")
    return smoothed


def compare_files(paths: list[Path], repeats: int) -> None:
    """Processor time of one crop: the network with maps alone, with the SDK's decode, and the network that decodes."""
    with_maps, decoded = (PoseEstimator.open(path, threads=1) for path in paths)
    width, height = with_maps.contract.input_wh
    scenes = [draw_scene(np.random.default_rng(seed), persons=(1, 1)) for seed in range(8)]
    boxes = [np.asarray(scene.persons[0].bbox_xyxy)[None] for scene in scenes]
    windows = [box_to_window(box, (width, height), with_maps.contract.padding) for box in boxes]
    crops = [crop_windows(s.image, w, (width, height)) for s, w in zip(scenes, windows, strict=True)]
    kinds = {
        "maps, network alone": lambda i: with_maps.runtime.run(crops[i]),
        "maps, decoded by the SDK": lambda i: with_maps.predict_crops(crops[i], windows[i]),
        "decoded in the graph": lambda i: decoded.predict_crops(crops[i], windows[i]),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for step in range(repeats + 5):
        for name, call in kinds.items():
            start = time.process_time()
            call(step % len(crops))
            times[name].append(1e3 * (time.process_time() - start))
    print(f"{platform.machine()}, one thread, one crop; processor ms, median of {repeats} repetitions in turns")
    for name, values in times.items():
        low, middle, high = np.percentile(values[5:], [10, 50, 90])
        print(f"{name:<25} {middle:.2f} ({low:.2f} to {high:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=8, help="batch size (8)")
    parser.add_argument("--repeats", type=int, default=60, help="timed repetitions (60)")
    parser.add_argument("--files", nargs=2, type=Path, help="a file with maps and its decoded twin")
    arguments = parser.parse_args()
    if arguments.files:
        compare_files(arguments.files, arguments.repeats)
        return
    persons, repeats = arguments.persons, arguments.repeats
    cv2.setNumThreads(1)
    print(
        f"{platform.machine()}, numpy {np.__version__}, one thread; {persons} persons, median of {repeats} repetitions"
    )
    print("processor ms per person (10th to 90th percentile)")
    print(f"{'logits':<12} {'cells > 0':>9} {'sparsemax':>22} {'decode':>22} {'together':>22}")
    for name, factor in KINDS.items():
        logits = draw_logits(persons, factor)
        maps = sparsemax_maps(logits, TEMPERATURE)
        columns = [
            milliseconds(lambda z=logits: sparsemax_maps(z, TEMPERATURE), repeats),
            milliseconds(lambda p=maps: decode_maps(p, COCO_17.sigmas), repeats),
            milliseconds(lambda z=logits: decode_maps(sparsemax_maps(z, TEMPERATURE), COCO_17.sigmas), repeats),
        ]
        texts = []
        for times in columns:
            low, middle, high = np.percentile(times, [10, 50, 90]) / persons
            texts.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
        cells = np.count_nonzero(maps) / maps[..., 0, 0].size
        print(f"{name:<12} {cells:>9.1f} " + " ".join(f"{text:>22}" for text in texts))
    maps = sparsemax_maps(draw_logits(persons, KINDS["usual peaks"]), TEMPERATURE)
    for kernel in KERNELS:
        times = milliseconds(lambda k=kernel: decode_maps(maps, COCO_17.sigmas, k), repeats) / persons
        low, middle, high = np.percentile(times, [10, 50, 90])
        print(f"decode of usual peaks, kernel {kernel:<9} {middle:.3f} ({low:.3f} to {high:.3f})")
    try:
        import scipy
    except ModuleNotFoundError:
        print('No comparison: scipy is not installed. Install it with: pip install "probpose-edge[dev]"')
        return
    maps = sparsemax_maps(draw_logits(1, KINDS["usual peaks"]), TEMPERATURE)
    ours = float(np.median(milliseconds(lambda: expected_oks_maps(maps, COCO_17.sigmas), repeats)))
    loop = float(np.median(milliseconds(lambda: scipy_loop(maps), 5)))
    error = float(np.abs(expected_oks_maps(maps, COCO_17.sigmas) - scipy_loop(maps)).max())
    print(
        f"smoothing one person's maps: {ours:.3f} ms, scipy {scipy.__version__} loop {loop:.1f} ms, {loop / ours:.0f} "
        f"times as long; largest difference {error:.1e}"
    )


if __name__ == "__main__":
    main()
