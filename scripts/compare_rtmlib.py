"""Eight persons of a picture: our pipeline beside rtmlib's ViTPose, on the same network and boxes, in turns in one run.

    python -m venv rtmlib-env
    rtmlib-env/bin/pip install rtmlib onnx onnxruntime
    rtmlib-env/bin/pip install --no-deps -e .
    rtmlib-env/bin/python scripts/compare_rtmlib.py MODEL.onnx... [--persons 1 8] [--rounds 40] [--threads 1]

An environment of its own, because rtmlib brings two builds of OpenCV that replace ours. rtmlib runs twice per file:

- "as it is": its class ViTPose unchanged. That feeds float32, normalised, (1, 3, H, W), where our files take uint8
  (N, H, W, 3) and normalise inside. So it gets a copy of the file in which the nodes before the first layer (cast,
  scale, offset, transpose) are cut off; every layer, weight and output stays.
- "same file": its class ViTPose with `inference` handing the crop over as it was cut, to the file itself.

Its ONNX sessions get as many threads as ours; by itself it takes every core. It takes the logits for a heatmap.
Processor time with one thread, which other work on the machine stretches little, and wall time with more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # numpy's libraries read them when they are imported
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from rtmlib.tools.pose_estimation import ViTPose  # noqa: E402

from probpose_edge import PoseEstimator  # noqa: E402
from probpose_eval.synth.clip import DrawnFrame, draw_clip  # noqa: E402

WARM_UP = 3


class SameFile(ViTPose):  # type: ignore[misc]
    """rtmlib's ViTPose on a file that takes the crop as it is."""

    def inference(self, img: np.ndarray) -> list[np.ndarray]:
        return list(self.session.run(None, {"image": img[None]}))


def people(count: int) -> DrawnFrame:
    """A drawn picture of this many persons side by side, 1280 x 720."""
    middles = (np.arange(count) + 0.5) * 1280 / count
    paths = [np.array([[x, 370.0]]) for x in middles]
    return next(draw_clip(np.random.default_rng(7), paths, [380.0] * count, width=1280, height=720))


def cut_normalisation(path: Path, target: Path) -> None:
    """Write the file without what comes before its first layer: input `pixels`, float32 (N, 3, H, W)."""
    model = onnx.load(path)
    graph = model.graph
    last = next(node for node in graph.node if node.op_type == "Transpose")  # to channels first
    _, height, width, _ = [size.dim_value for size in graph.input[0].type.tensor_type.shape.dim]
    before = {last.name}
    wanted = set(last.input)
    for node in reversed(list(graph.node)):
        if set(node.output) & wanted and node.op_type != "Shape":
            before.add(node.name)
            wanted |= set(node.input)
    kept = [node for node in graph.node if node.name not in before]
    for node in kept:
        for index, name in enumerate(node.input):
            # The batch is asked of the picture's first axis; that of the new input is the same.
            node.input[index] = "pixels" if name in ("image", last.output[0]) else name
    del graph.node[:]
    graph.node.extend(kept)
    pixels = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["N", 3, height, width])
    graph.input[0].CopyFrom(pixels)
    onnx.save(model, target)


def session(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])


def theirs(kind: type[ViTPose], path: Path, contract: Any, threads: int, **settings: Any) -> ViTPose:
    with contextlib.redirect_stdout(None):
        pose = kind(os.fspath(path), model_input_size=contract.input_wh, backend="onnxruntime", **settings)
    pose.session = session(path, threads)
    return pose


def calls_of(path: Path, cut: Path, persons: int, threads: int) -> dict[str, Callable[[], Any]]:
    """What is timed: name → call."""
    estimator = PoseEstimator.open(path, threads=threads)
    frame = people(persons)
    rgb = np.ascontiguousarray(frame.image[..., ::-1])  # rtmlib hands the channels on as they come
    boxes = frame.boxes.tolist()
    as_it_is = theirs(ViTPose, cut, estimator.contract, threads)
    same_file = theirs(SameFile, path, estimator.contract, threads, mean=None, std=None)
    crop, _, _ = same_file.preprocess(rgb, boxes[0])
    crops = np.repeat(crop[None], persons, axis=0)
    pixels = as_it_is.preprocess(rgb, boxes[0])[0].transpose(2, 0, 1)[None].astype(np.float32)

    def one_by_one() -> None:
        for _ in range(persons):
            as_it_is.session.run(None, {"pixels": pixels})

    return {
        "ours": lambda: estimator(frame.image, frame.boxes),
        "rtmlib, same file": lambda: same_file(rgb, boxes),
        "rtmlib, as it is": lambda: as_it_is(rgb, boxes),
        "network, all crops in one call": lambda: estimator.runtime.run(crops),
        "network, normalisation cut off, one by one": one_by_one,
    }


def main() -> None:
    """Time every file with both, in turns, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--persons", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    onnxruntime.set_default_logger_severity(4)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    calls: dict[tuple[str, int, str], Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in options.models:
            cut = Path(folder) / path.name
            cut_normalisation(path, cut)
            for persons in options.persons:
                named = calls_of(path, cut, persons, options.threads)
                calls |= {(path.name, persons, name): call for name, call in named.items()}
    times: dict[tuple[str, int, str], list[float]] = {name: [] for name in calls}
    names = list(calls)
    for step in range(options.rounds + WARM_UP):
        shift = step % len(names)
        for name in names[shift:] + names[:shift]:
            start = clock()
            calls[name]()
            if step >= WARM_UP:
                times[name].append(1000 * (clock() - start))

    print(f"rtmlib {version('rtmlib')}, onnxruntime {onnxruntime.__version__}, {options.threads} thread(s), medians of")
    print(f"{options.rounds} rounds in turns; ratio: the median of what it takes over ours, round by round\n")
    print("| file | persons | what | ms | quartiles | to ours |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (file, persons, what), values in times.items():
        lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
        ratio = np.median(np.array(values) / times[(file, persons, "ours")])
        print(f"| {file} | {persons} | {what} | {median:.1f} | {lower:.1f} to {upper:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
