"""Models with two maps and plain heatmap models, through the estimator and the runtimes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import ModelContract, ModelFileError, PoseEstimator, RawOutputs, open_runtime
from probpose_edge.runtimes.base import run_in_parts

IMAGE = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
BOX = np.array([40.0, 30.0, 76.0, 78.0])
WINDOW = np.array([58.0, 54.0, 45.0, 60.0])
SCALARS = ("logits", "presence", "visibility", "quality")
DOUBLE = (*SCALARS, "expert_logits")


@dataclass
class Answers:
    """A runtime that gives the same outputs for every crop; `expert` and `cells` are peaks in cells."""

    raw: RawOutputs
    name: str = "answers"
    provenance: str = "simulated"

    def run(self, crops: np.ndarray[Any, Any]) -> RawOutputs:
        return RawOutputs(**{n: np.repeat(v, len(crops), axis=0) for n, v in self.raw.named().items()})

    def close(self) -> None:
        pass


def peaked(cells: list[tuple[float, float]]) -> np.ndarray:
    y, x = np.mgrid[:16, :12]
    return np.stack([-10 * ((x - cx) ** 2 + (y - cy) ** 2) for cx, cy in cells])[None].astype(np.float32)


def scalars(value: float = 0.9) -> dict[str, np.ndarray]:
    return {name: np.full((1, 5), value, np.float32) for name in SCALARS[1:]}


def to_px(cells: np.ndarray, window: np.ndarray) -> np.ndarray:
    return cells / [11, 15] * window[2:] + window[:2] - window[2:] / 2


class TestTwoMaps:
    LARGE = ((6.0, 8.0), (1.0, 8.0), (10.0, 3.0), (6.0, 1.0), (2.0, 13.0))
    """With a ratio of 1.25 the input window spans cells 1.1 to 9.9 and 1.5 to 13.5: the middle three lie outside."""
    EXPERT = ((3.0, 12.0), (7.0, 7.0), (7.0, 7.0), (7.0, 7.0), (2.0, 13.0))

    def estimator(self, contract: ModelContract, **changes: Any) -> PoseEstimator:
        raw = RawOutputs(logits=peaked(list(self.LARGE)), expert_logits=peaked(list(self.EXPERT)), **scalars())
        return PoseEstimator(Answers(raw), contract.replace(window_ratio=1.25, **changes))

    def test_the_expert_refines_what_the_large_map_puts_in_the_input_window(self, contract: ModelContract) -> None:
        # The argmax: smoothing would move estimates near a border.
        poses = self.estimator(contract, decode_kernel="argmax")(IMAGE, BOX)
        large = WINDOW * [1, 1, 1.25, 1.25]
        wanted = to_px(np.array(self.LARGE), large)
        refined = [True, False, False, False, True]
        wanted[refined] = to_px(np.array(self.EXPERT), WINDOW)[refined]
        np.testing.assert_allclose(poses.keypoints[0], wanted, atol=1e-9)
        np.testing.assert_allclose(poses.windows, [large])

    def test_the_maps_are_those_of_the_larger_window(self, contract: ModelContract) -> None:
        estimator = self.estimator(contract)
        poses = estimator(IMAGE, BOX, return_maps=True)
        assert poses.maps is not None
        peaks = poses.maps[0].reshape(5, -1).argmax(axis=1)
        np.testing.assert_array_equal(np.stack([peaks % 12, peaks // 12], axis=1), self.LARGE)
        assert estimator(IMAGE, np.zeros((0, 4)), return_maps=True).maps is not None

    def test_each_map_expects_the_oks_of_its_own_window(self, contract: ModelContract) -> None:
        """The same map promises less over a larger window, where a cell is a larger part of the person."""
        cells = [(6.0, 8.0)] * 4 + [(0.0, 8.0)]
        both = RawOutputs(logits=peaked(cells) * 0.01, expert_logits=peaked(cells) * 0.01, **scalars())
        double = PoseEstimator(Answers(both), contract.replace(window_ratio=1.25, decode_kernel="oks"))
        single = PoseEstimator(Answers(replace(both, expert_logits=None)), contract.replace(decode_kernel="oks"))
        found, usual = double(IMAGE, BOX).expected_oks[0], single(IMAGE, BOX).expected_oks[0]
        np.testing.assert_array_equal(found[:4], usual[:4])
        assert found[4] < usual[4] - 0.01

    def test_crops_come_with_the_windows_they_show(self, contract: ModelContract) -> None:
        estimator = self.estimator(contract)
        direct = estimator.predict_crops(np.zeros((1, 64, 48, 3), np.uint8), WINDOW[None])
        np.testing.assert_array_equal(direct.keypoints, estimator(IMAGE, BOX).keypoints)
        np.testing.assert_allclose(direct.boxes, [[35.5, 24, 80.5, 84]])

    def test_a_file_without_the_second_map(self, contract: ModelContract) -> None:
        raw = RawOutputs(logits=peaked(list(self.LARGE)), **scalars())
        with pytest.raises(
            ModelFileError, match=r"must have the outputs logits, .*, expert_logits, but it gives logits"
        ):
            PoseEstimator(Answers(raw), contract.replace(window_ratio=1.25))(IMAGE, BOX)
        double = RawOutputs(logits=raw.logits, expert_logits=raw.logits[:, :, 1:], **scalars())
        with pytest.raises(ModelFileError, match=r"'expert_logits' must have shape \(1, 5, 16, 12\)"):
            PoseEstimator(Answers(double), contract.replace(window_ratio=1.25))(IMAGE, BOX)


class TestHeatmapModel:
    CELLS = ((6.0, 2.0), (2.0, 7.0), (9.0, 7.0), (4.0, 13.0), (8.0, 13.0))
    PEAKS = np.array([0.9, 0.7, 0.5, 0.3, 1.2], np.float32)

    def estimator(self, contract: ModelContract, **changes: Any) -> PoseEstimator:
        maps = np.exp(peaked(list(self.CELLS)) / 80) * self.PEAKS[None, :, None, None]
        settings = contract.replace(map_kind="heatmap", decode_kernel="argmax", **changes)
        return PoseEstimator(Answers(RawOutputs(logits=maps.astype(np.float32))), settings)

    def test_confidence_stands_for_what_it_does_not_know(self, contract: ModelContract) -> None:
        poses = self.estimator(contract)(IMAGE, BOX, return_maps=True)
        np.testing.assert_allclose(poses.keypoints[0], to_px(np.array(self.CELLS), WINDOW), atol=0.01)
        confidence = np.minimum(self.PEAKS, 1)
        for values in (poses.visibility, poses.quality, poses.expected_oks):
            np.testing.assert_allclose(values[0], confidence)
        np.testing.assert_allclose(poses.presence[0], confidence, atol=1e-6)
        np.testing.assert_array_equal(poses.present[0], [True, True, True, False, True])
        assert poses.scores[0] == pytest.approx((0.9 + 0.7 + 0.5 + 1.0) / 4)
        assert poses.maps is not None
        np.testing.assert_allclose(poses.maps[0].max(axis=(1, 2)), self.PEAKS)

    def test_its_presence_can_be_calibrated(self, contract: ModelContract) -> None:
        poses = self.estimator(contract, presence_bias=(1.0,) * 5)(IMAGE, BOX)
        assert poses.presence[0, 3] == pytest.approx(1 / (1 + np.exp(-np.log(0.3 / 0.7) - 1)), abs=1e-6)
        assert poses.quality[0, 3] == pytest.approx(0.3)

    def test_a_file_with_scalars_is_no_heatmap_file(self, contract: ModelContract) -> None:
        raw = RawOutputs(logits=peaked(list(self.CELLS)), **scalars())
        with pytest.raises(ModelFileError, match="must have the outputs logits, but it gives logits, presence"):
            PoseEstimator(Answers(raw), contract.replace(map_kind="heatmap", decode_kernel="argmax"))(IMAGE, BOX)


class TestRuntimes:
    @pytest.mark.parametrize("names", [SCALARS[:1], DOUBLE])
    def test_onnx(self, write_onnx: Callable[..., Path], names: tuple[str, ...]) -> None:
        runtime = open_runtime(write_onnx(names=names))
        for n in (0, 1, 20):
            self.check(runtime.run(np.full((n, 64, 48, 3), 80, np.uint8)), names, n)

    @pytest.mark.parametrize("names", [SCALARS[:1], DOUBLE])
    @pytest.mark.parametrize("signature", [True, False])
    def test_tflite(self, write_tflite: Callable[..., Path], names: tuple[str, ...], signature: bool) -> None:
        order = tuple(range(len(names)))[::-1]
        runtime = open_runtime(write_tflite(names=names, order=order, signature=signature))
        for n in (0, 1, 3):
            self.check(runtime.run(np.full((n, 16, 12, 3), 80, np.uint8)), names, n)

    def test_tflite_by_number(self, write_tflite: Callable[..., Path]) -> None:
        names = tuple(f"output_{number}" for number in range(5))
        raw = open_runtime(write_tflite(names=names, order=(2, 4, 0, 3, 1))).run(np.full((1, 16, 12, 3), 80, np.uint8))
        self.check(raw, DOUBLE, 1)

    def check(self, raw: RawOutputs, names: tuple[str, ...], n: int) -> None:
        assert tuple(raw.named()) == names
        for name, values in raw.named().items():
            assert values.shape == ((n, 5, 16, 12) if name.endswith("logits") else (n, 5))
            assert values.dtype == np.float32
        if raw.expert_logits is not None:
            np.testing.assert_allclose(raw.expert_logits, raw.logits / 2, rtol=1e-6)

    def test_part_of_an_interface_is_refused(
        self, write_onnx: Callable[..., Path], write_tflite: Callable[..., Path]
    ) -> None:
        with pytest.raises(
            ModelFileError, match=r"may have expert_logits besides, .* or has logits alone; .*besides; .* has"
        ):
            open_runtime(write_onnx(names=("logits", "presence")))
        with pytest.raises(ModelFileError, match=r"besides: maps of shape \(1, K, H, W\)"):
            open_runtime(write_tflite(names=("heat",), order=(0,)))

    def test_parts_are_joined_by_name(self) -> None:
        def run(crops: np.ndarray) -> RawOutputs:
            maps = crops[:, None, :, :, 0].astype(np.float32)
            return RawOutputs(logits=maps, expert_logits=maps + 1, **dict.fromkeys(SCALARS[1:], maps[:, :, 0, 0]))

        crops = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
        raw = run_in_parts(crops, 2, run)
        assert raw.expert_logits is not None
        np.testing.assert_array_equal(raw.expert_logits[:, 0, 0, 0], [1, 2, 3])
