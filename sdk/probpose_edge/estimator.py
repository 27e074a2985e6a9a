"""Pose estimation on pictures: the whole way from an image and boxes to `Poses`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.detectors.whole_image import estimate_in_image
from probpose_edge.exceptions import InputError, ModelFileError
from probpose_edge.poses import Poses, instance_scores
from probpose_edge.probabilities.calibrated_maps import calibrated_maps
from probpose_edge.runtimes.base import RawOutputs, Runtime, no_maps_error
from probpose_edge.runtimes.open_runtime import open_runtime
from probpose_edge.scores.score_poses import PoseScorer
from probpose_edge.tracking.locate import locate_keypoints
from probpose_edge.weights import shipped_model_for_installed_runtime
from probpose_edge.window import box_to_window, crop_windows

MapChoice = bool | Literal["calibrated"]
PERSONS_AT_ONCE = 16
"""Crops that are in memory together; more persons are taken in parts."""


class PoseEstimator:
    """Estimates poses with one model file.

    Use `PoseEstimator.open`; the constructor is for runtimes of one's own. An estimator is a context manager; it is
    not safe to call from several threads at once (open one per thread).

    A plain heatmap model (``map_kind`` "heatmap" in its metadata) has no presence, visibility and quality: the peak
    value of its heatmap, clipped to [0, 1], stands in their place and in that of the expected OKS. A model with two
    maps (``window_ratio`` above 1) looks for keypoints in a window larger than the crop (see
    `tracking.locate.locate_keypoints`), and presence is about that window. A file that decodes its maps itself
    (``output_kind`` "decoded") gives the same poses, but no maps: asking for them is an `InputError`.

    Attributes
    ----------
    contract: the metadata of the file; every setting of the computation comes from it.
    runtime: what runs the file.
    presence_threshold: a keypoint is present where its calibrated presence is at least this.
    """

    def __init__(self, runtime: Runtime, contract: ModelContract, *, presence_threshold: float | None = None) -> None:
        threshold = contract.presence_threshold if presence_threshold is None else presence_threshold
        if not 0 <= threshold <= 1:
            raise InputError(
                f"presence_threshold must lie in [0, 1], got {presence_threshold!r}. Leave it out for the model's."
            )
        self.runtime = runtime
        self.contract = contract
        self.presence_threshold = float(threshold)
        self._scorer = PoseScorer(contract) if contract.scores else None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        providers: Sequence[str | tuple[str, dict[str, Any]]] | None = None,
        presence_threshold: float | None = None,
    ) -> PoseEstimator:
        """Open a .onnx, .tflite or .mlpackage file made by probpose-edge.

        Parameters
        ----------
        path: the model file; None is the shipped model that an installed runtime can run (.onnx before .tflite).
        threads: threads for one inference (.onnx, .tflite); None is the runtime's default.
        providers: onnxruntime execution providers, best first (.onnx only); None is the CPU.
        presence_threshold: in [0, 1]; None is the threshold chosen when the model was made.

        Raises `ModelFileError` or `MetadataError` for a file that cannot be used, `MissingExtraError` if the runtime is
        not installed, `RuntimeUnavailableError` if there is none for this system, `InputError` for other arguments.
        """
        if path is None:
            path = shipped_model_for_installed_runtime()
        contract = read_contract(path)
        runtime = open_runtime(path, threads=threads, providers=providers)
        return cls(runtime, contract, presence_threshold=presence_threshold)

    def __call__(
        self, image_bgr: NDArray[Any], boxes_xyxy: ArrayLike | None = None, *, return_maps: MapChoice = False
    ) -> Poses:
        """Estimate one pose per box.

        Parameters
        ----------
        image_bgr: (H, W, 3) uint8 BGR, as OpenCV reads it. Grey, BGRA and uint16 are converted (see `to_bgr`).
        boxes_xyxy: (N, 4) or (4,) person boxes in image pixels; N may be 0. They may reach beyond the image but must
            overlap it. None estimates the one main person in two passes: first on the whole image, then on the box
            around the keypoints found present (see `person_box`; without enough of them the first pass stays).
            Several persons need boxes.
        return_maps: keep the maps in the result (see `Poses`); "calibrated" keeps those of `calibrated_maps` instead.

        Raises `InputError` for images or boxes that break these rules, naming the box.
        """
        estimate = partial(self._estimate, return_maps=return_maps)
        return estimate_in_image(image_bgr, boxes_xyxy, estimate, first_look=estimate)

    def predict_crops(
        self,
        crops: NDArray[np.uint8],
        windows: NDArray[np.floating],
        *,
        boxes_xyxy: NDArray[np.floating] | None = None,
        return_maps: MapChoice = False,
    ) -> Poses:
        """Estimate poses on crops that are cut already.

        Parameters
        ----------
        crops: (N, H_in, W_in, 3) uint8 RGB, one per window.
        windows: (N, 4) ``[center_x, center_y, width, height]`` in the pixels that the keypoints shall have: what each
            crop shows.
        boxes_xyxy: (N, 4) boxes to report; None reports the corners of the windows.
        return_maps: keep the maps in the result (see `Poses`); "calibrated" keeps those of `calibrated_maps` instead.

        Raises `InputError` for other shapes.
        """
        n, frames = len(crops), windows_of(crops, windows, self.contract.input_wh)
        boxes = boxes_of(frames, boxes_xyxy)
        parts = [
            self._predict(crops[part], frames[part], boxes[part], return_maps)
            for part in (slice(start, start + PERSONS_AT_ONCE) for start in range(0, n, PERSONS_AT_ONCE))
        ]
        return Poses.concatenate(parts) if parts else self._no_poses(return_maps)

    def decode_outputs(
        self,
        raw: RawOutputs,
        windows: NDArray[np.floating],
        *,
        boxes_xyxy: NDArray[np.floating] | None = None,
        return_maps: MapChoice = False,
    ) -> Poses:
        """Poses from what ``runtime.run`` gave for N crops: `predict_crops` for who needs the logits, too.

        raw: outputs of this estimator's runtime, not changed. The rest is as in `predict_crops`.

        Raises `ModelFileError` for outputs unlike the metadata, `InputError` for windows or boxes of another shape.
        """
        n = raw.crops
        frames = np.array(windows, dtype=np.float64)
        if frames.shape != (n, 4):
            raise InputError(
                f"There must be one window per crop, ({n}, 4), got {frames.shape}. Pass the windows the crops were "
                "cut from."
            )
        return self._decode(raw, frames, boxes_of(frames, boxes_xyxy), return_maps)

    def close(self) -> None:
        """Release the model; further calls are errors."""
        self.runtime.close()

    def __reduce__(self) -> NoReturn:
        raise InputError(
            "A PoseEstimator holds an open model and can be neither pickled nor copied. Send the path of the file and "
            "its settings instead, and call PoseEstimator.open there: once per process and thread."
        )

    def __enter__(self) -> PoseEstimator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _estimate(self, image_bgr: NDArray[np.uint8], boxes: NDArray[np.float64], return_maps: MapChoice) -> Poses:
        contract = self.contract
        windows = box_to_window(boxes, contract.input_wh, contract.padding)
        parts = []
        for start in range(0, len(boxes), PERSONS_AT_ONCE):
            part = slice(start, start + PERSONS_AT_ONCE)
            crops = crop_windows(image_bgr, windows[part], contract.input_wh)
            parts.append(self._predict(crops, windows[part], boxes[part], return_maps))
        return Poses.concatenate(parts) if parts else self._no_poses(return_maps)

    def _predict(
        self, crops: NDArray[np.uint8], windows: NDArray[np.float64], boxes: NDArray[np.float64], return_maps: MapChoice
    ) -> Poses:
        return self._decode(self.runtime.run(crops), windows, boxes, return_maps)

    def _decode(
        self, raw: RawOutputs, windows: NDArray[np.float64], boxes: NDArray[np.float64], return_maps: MapChoice
    ) -> Poses:
        contract = self.contract
        self._check_outputs(raw, len(windows))
        if return_maps and contract.output_kind == "decoded":
            raise no_maps_error()
        located = locate_keypoints(raw, windows, contract)
        # Copies: runtimes may reuse their buffers.
        said, visibility, quality = (
            (located.expected_oks if values is None else values).astype(np.float32)
            for values in (raw.presence, raw.visibility, raw.quality)
        )
        presence = calibrate_presence(said, contract.presence_scale, contract.presence_bias)
        if any(scale != 1 for scale in contract.quality_scale) or any(contract.quality_bias):
            quality = calibrate_presence(quality, contract.quality_scale, contract.quality_bias)
        maps = calibrated_maps(raw.logits, contract) if return_maps == "calibrated" else located.maps
        poses = Poses(
            keypoints=located.keypoints_px,
            presence=presence,
            visibility=visibility,
            quality=quality,
            expected_oks=located.expected_oks,
            boxes=boxes,
            windows=located.windows,
            scores=instance_scores(quality, presence >= self.presence_threshold),
            presence_threshold=self.presence_threshold,
            keypoint_names=contract.keypoint_names,
            maps=maps if return_maps else None,
            map_kind=self._map_kind(return_maps),
        )
        return poses if self._scorer is None else self._scorer.score(poses, raw)

    def _check_outputs(self, raw: RawOutputs, n: int) -> None:
        k, (width, height) = len(self.contract.keypoint_names), self.contract.heatmap_wh
        outputs, wanted = raw.named(), self.contract.output_names
        if tuple(outputs) != wanted:
            raise ModelFileError(
                f"By its metadata the model must have the outputs {', '.join(wanted)}, but it gives "
                f"{', '.join(outputs)}. Convert the checkpoint again."
            )
        for name, values in outputs.items():
            is_map = name.endswith("logits")
            in_pairs = name in ("keypoints", "confidence")
            shape: tuple[int, ...] = (n, k, height, width) if is_map else (n, k, 2) if in_pairs else (n, k)
            if values.shape != shape:
                raise ModelFileError(
                    f"The model's output {name!r} must have shape {shape} by its metadata, got {values.shape}. Convert "
                    "the checkpoint again."
                )
            # The sum of finite numbers this small is finite, and that of others is not.
            if not is_map and not math.isfinite(values.sum(dtype=np.float64)):
                raise ModelFileError(
                    f"The model's output {name!r} must be finite, but has NaN or infinite values. Run another "
                    "precision, or convert the checkpoint again."
                )

    def _no_poses(self, return_maps: MapChoice) -> Poses:
        if return_maps and self.contract.output_kind == "decoded":
            raise no_maps_error()
        k, (width, height) = len(self.contract.keypoint_names), self.contract.heatmap_wh
        none = np.zeros((0, k), dtype=np.float32)
        return Poses(
            keypoints=np.zeros((0, k, 2)),
            presence=none,
            visibility=none,
            quality=none,
            expected_oks=none,
            boxes=np.zeros((0, 4)),
            windows=np.zeros((0, 4)),
            scores=np.zeros(0, dtype=np.float32),
            presence_threshold=self.presence_threshold,
            keypoint_names=self.contract.keypoint_names,
            maps=np.zeros((0, k, height, width), dtype=np.float32) if return_maps else None,
            map_kind=self._map_kind(return_maps),
        )

    def _map_kind(self, return_maps: MapChoice) -> Literal["", "probability", "heatmap", "calibrated"]:
        if self.contract.map_kind == "heatmap":
            return "heatmap"
        return "calibrated" if return_maps == "calibrated" else "probability" if return_maps else ""


def windows_of(
    crops: NDArray[np.uint8], windows: NDArray[np.floating], input_wh: tuple[int, int]
) -> NDArray[np.float64]:
    """(N, 4) windows of N crops; raises `InputError` unless there are as many, and crops of the size `input_wh`."""
    frames, (width, height) = np.array(windows, dtype=np.float64), input_wh
    if np.shape(crops)[1:] != (height, width, 3) or frames.shape != (len(crops), 4):
        raise InputError(
            f"Crops must have shape (N, {height}, {width}, 3) and windows (N, 4), got {np.shape(crops)} and "
            f"{frames.shape}. Make both with box_to_window and crop_windows."
        )
    return frames


def boxes_of(windows: NDArray[np.float64], boxes_xyxy: NDArray[np.floating] | None) -> NDArray[np.float64]:
    """The (N, 4) boxes to report for N windows: those given, else the corners of the windows."""
    if boxes_xyxy is None:
        half = windows[:, 2:] / 2
        return np.concatenate([windows[:, :2] - half, windows[:, :2] + half], axis=1)
    boxes = np.array(boxes_xyxy, dtype=np.float64)
    if boxes.shape != (len(windows), 4):
        raise InputError(
            f"There must be one box per crop, ({len(windows)}, 4), got {boxes.shape}. Leave boxes_xyxy out or match it."
        )
    return boxes


def calibrate_presence(
    presence: NDArray[np.floating], scale: Sequence[float], bias: Sequence[float]
) -> NDArray[np.float32]:
    """Calibrated presence ``sigmoid(scale * logit(p) + bias)`` per keypoint (Platt 1999, on the logit).

    presence: (N, K) probabilities in [0, 1]; scale, bias: K numbers. Returns (N, K) float32. The quality is calibrated
    in the same way.
    """
    # Quantized heads answer exactly 0 or 1; their logit is taken as that of the nearest float32 inside (0, 1).
    p = np.clip(np.asarray(presence, dtype=np.float64), 2.0**-24, 1 - 2.0**-24)
    logit = np.asarray(scale) * np.log(p / (1 - p)) + np.asarray(bias)
    return np.asarray(1 / (1 + np.exp(-logit)), dtype=np.float32)
