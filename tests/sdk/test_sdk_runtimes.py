from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from probpose_edge import (
    InputError,
    MetadataError,
    MissingExtraError,
    ModelContract,
    ModelFileError,
    PoseEstimator,
    RawOutputs,
    RuntimeUnavailableError,
    open_runtime,
)

GAIN = np.linspace(0.5, 1.0, 5, dtype=np.float32).reshape(1, 5, 1, 1) / 16


def crops_of(n: int, size: tuple[int, int] = (64, 48), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (n, *size, 3)).astype(np.uint8)


def expected_outputs(crops: np.ndarray, pool: int) -> RawOutputs:
    """What the tiny network of conftest.py computes."""
    grey = crops.astype(np.float32).mean(axis=3)
    n, height, width = grey.shape
    pooled = grey.reshape(n, height // pool, pool, width // pool, pool).mean(axis=(2, 4))[:, None]
    logits = pooled * GAIN
    presence = 1 / (1 + np.exp(-logits.mean(axis=(2, 3))))
    return RawOutputs(logits=logits, presence=presence, visibility=presence / 2, quality=presence / 4)


def assert_outputs(raw: RawOutputs, expected: RawOutputs) -> None:
    for name in ("logits", "presence", "visibility", "quality"):
        assert getattr(raw, name).dtype == np.float32, name
        np.testing.assert_allclose(getattr(raw, name), getattr(expected, name), rtol=1e-4, err_msg=name)


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes imports of some top-level modules fail with the given error, or as if they were not installed."""

    def do(*names: str, error: Exception | None = None) -> None:
        for name in [m for m in sys.modules if m.split(".")[0] in names]:
            monkeypatch.delitem(sys.modules, name)

        def blocked(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def replacement(wanted: str, *args: Any, **kwargs: Any) -> Any:
                if wanted.split(".")[0] in names:
                    raise error or ModuleNotFoundError(f"No module named {wanted!r}", name=wanted.split(".")[0])
                return real(wanted, *args, **kwargs)

            replacement.__name__ = name
            return replacement

        monkeypatch.setattr(builtins, "__import__", blocked("__import__", builtins.__import__))
        import_module = blocked("import_module", importlib.import_module)
        monkeypatch.setattr("probpose_edge.extras.import_module", import_module)

    return do


class TestOnnx:
    @pytest.fixture(autouse=True)
    def _needs_onnxruntime(self) -> None:
        pytest.importorskip("onnxruntime", reason="needs onnxruntime")

    @pytest.mark.parametrize("batch", ["N", 1])
    @pytest.mark.parametrize("n", [0, 1, 4, 35])
    def test_any_number_of_crops(self, write_onnx: Callable[..., Path], batch: int | str, n: int) -> None:
        runtime = open_runtime(write_onnx(batch=batch), threads=1)
        crops = crops_of(n)
        assert_outputs(runtime.run(crops), expected_outputs(crops, 4))

    def test_it_says_what_it_is(self, write_onnx: Callable[..., Path]) -> None:
        runtime = open_runtime(write_onnx())
        assert runtime.name.startswith("onnxruntime 1.")
        assert runtime.name.endswith("(CPUExecutionProvider)")
        assert runtime.providers == ("CPUExecutionProvider",)
        assert runtime.provenance == "measured"

    def test_crops_that_are_views(self, write_onnx: Callable[..., Path]) -> None:
        crops = crops_of(4)
        assert_outputs(open_runtime(write_onnx()).run(crops[::2, :, ::-1]), expected_outputs(crops[::2, :, ::-1], 4))

    def test_providers(self, write_onnx: Callable[..., Path]) -> None:
        path = write_onnx()
        assert len(open_runtime(path, providers=["CPUExecutionProvider"]).run(crops_of(1)).presence) == 1
        with pytest.raises(
            InputError, match=r"has the providers .*CPUExecutionProvider.*, not NoSuchProvider. Choose one"
        ):
            open_runtime(path, providers=["NoSuchProvider"])

    def test_after_closing(self, write_onnx: Callable[..., Path]) -> None:
        runtime = open_runtime(write_onnx())
        runtime.close()
        with pytest.raises(InputError, match=r"This model was closed. Open it again with PoseEstimator.open"):
            runtime.run(crops_of(1))

    @pytest.mark.parametrize("crops", [crops_of(1, (48, 64)), crops_of(1)[0], crops_of(1).astype(np.float32), [[1, 2]]])
    def test_other_crops(self, write_onnx: Callable[..., Path], crops: Any) -> None:
        with pytest.raises(InputError, match=r"Crops must be a uint8 RGB array of shape \(N, 64, 48, 3\), got"):
            open_runtime(write_onnx()).run(crops)

    def test_files_that_are_no_models(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.onnx"
        path.write_bytes(b"not a model")
        with pytest.raises(ModelFileError, match=r"onnxruntime .* cannot load .*bad.onnx: .* Copy the file again"):
            open_runtime(path)

    @pytest.mark.parametrize("changes", [{"input_name": "pixels"}, {"batch": 3}])
    def test_models_with_another_interface(self, write_onnx: Callable[..., Path], changes: dict[str, Any]) -> None:
        message = r"has one uint8 input 'image' \(1 or N, H, W, 3\) and the float outputs logits"
        with pytest.raises(ModelFileError, match=message):
            open_runtime(write_onnx(**changes))

    def test_missing_extra(self, write_onnx: Callable[..., Path], hide: Callable[..., None]) -> None:
        path = write_onnx()
        hide("onnxruntime")
        message = r'Running .onnx files needs the package "onnxruntime", .* pip install "probpose-edge\[onnx\]"'
        with pytest.raises(MissingExtraError, match=message):
            open_runtime(path)

    def test_installed_but_broken(self, write_onnx: Callable[..., Path], hide: Callable[..., None]) -> None:
        path = write_onnx()
        hide("onnxruntime", error=ImportError("DLL load failed"))
        message = r'"onnxruntime", which is installed but does not load here: DLL load failed. Reinstall it with'
        with pytest.raises(RuntimeUnavailableError, match=message):
            open_runtime(path)

    def test_the_whole_way_from_a_file(self, write_onnx: Callable[..., Path], contract: ModelContract) -> None:
        image = np.zeros((200, 150, 3), np.uint8)
        image[96:105, 70:79] = 255
        with PoseEstimator.open(write_onnx(), threads=1, presence_threshold=0.25) as estimator:
            assert estimator.contract == contract
            poses = estimator(image, [[20, 20, 130, 180]], return_maps=True)
        # All keypoints of this network are at the brightest place; one cell is 14 pixels here.
        np.testing.assert_allclose(poses.keypoints[0], np.tile([[74, 100]], (5, 1)), atol=7)
        assert poses.presence_threshold == 0.25

    def test_persons_do_not_depend_on_their_company(self, write_onnx: Callable[..., Path]) -> None:
        image = crops_of(1, (200, 150))[0]
        boxes = np.array([[10.0 + i, 10, 80 + 2 * i, 150] for i in range(9)])
        with PoseEstimator.open(write_onnx(), threads=1) as estimator:
            together = estimator(image, boxes)
            for person in range(9):
                alone = estimator(image, boxes[person])
                np.testing.assert_allclose(alone.keypoints[0], together.keypoints[person], atol=1e-3)
                np.testing.assert_allclose(alone.presence[0], together.presence[person], atol=1e-6)

    def test_open_reports_missing_metadata_before_it_runs_anything(self, write_onnx: Callable[..., Path]) -> None:
        with pytest.raises(MetadataError, match="carries no probpose-edge metadata"):
            PoseEstimator.open(write_onnx(metadata=None))


class TestLiteRT:
    @pytest.fixture(autouse=True)
    def _needs_litert(self) -> None:
        pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

    @pytest.mark.parametrize("n", [0, 1, 3])
    @pytest.mark.parametrize("signature", [True, False])
    def test_outputs_by_name(self, write_tflite: Callable[..., Path], signature: bool, n: int) -> None:
        runtime = open_runtime(write_tflite(signature=signature), threads=1)
        crops = crops_of(n, (16, 12))
        assert_outputs(runtime.run(crops), expected_outputs(crops, 1))

    def test_numbered_outputs_of_a_signature(self, write_tflite: Callable[..., Path]) -> None:
        names = ("output_0", "output_1", "output_2", "output_3")
        crops = crops_of(2, (16, 12))
        runtime = open_runtime(write_tflite(names=names, order=(2, 0, 3, 1)))
        assert_outputs(runtime.run(crops), expected_outputs(crops, 1))

    def test_nameless_outputs_in_the_documented_order(self, write_tflite: Callable[..., Path]) -> None:
        names = ("Identity", "Identity_1", "Identity_2", "Identity_3")
        crops = crops_of(2, (16, 12))
        runtime = open_runtime(write_tflite(names=names, order=(0, 1, 2, 3), signature=False))
        assert_outputs(runtime.run(crops), expected_outputs(crops, 1))

    @pytest.mark.parametrize(("order", "signature"), [((1, 0, 2, 3), False), ((0, 1, 2, 3), True)])
    def test_outputs_that_could_only_be_guessed(
        self, write_tflite: Callable[..., Path], order: tuple[int, ...], signature: bool
    ) -> None:
        path = write_tflite(names=("a", "b", "c", "d"), order=order, signature=signature)
        with pytest.raises(ModelFileError, match=r"has the float outputs logits, presence, visibility and quality"):
            open_runtime(path)

    def test_it_says_what_it_is(self, write_tflite: Callable[..., Path]) -> None:
        runtime = open_runtime(write_tflite())
        assert runtime.name.startswith("ai-edge-litert ")
        assert runtime.provenance == "measured"

    def test_after_closing(self, write_tflite: Callable[..., Path]) -> None:
        runtime = open_runtime(write_tflite())
        runtime.close()
        with pytest.raises(InputError, match="This model was closed"):
            runtime.run(crops_of(1, (16, 12)))

    def test_outputs_are_not_shared_between_runs(self, write_tflite: Callable[..., Path]) -> None:
        runtime = open_runtime(write_tflite())
        first = runtime.run(crops_of(1, (16, 12), seed=1))
        kept = first.logits.copy()
        runtime.run(crops_of(1, (16, 12), seed=2))
        np.testing.assert_array_equal(first.logits, kept)

    def test_the_whole_way_from_a_file(self, write_tflite: Callable[..., Path]) -> None:
        with PoseEstimator.open(write_tflite(), threads=2) as estimator:
            poses = estimator(crops_of(1, (100, 80))[0], [[10, 10, 60, 90], [20, 5, 70, 80]])
        assert poses.keypoints.shape == (2, 5, 2)

    def test_files_that_are_no_models(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.tflite"
        path.write_bytes(b"\x1c\x00\x00\x00TFL3" + b"\x00" * 100)
        with pytest.raises(ModelFileError, match=r"ai-edge-litert cannot load .*bad.tflite: .* Copy the file again"):
            open_runtime(path)

    @pytest.mark.shared
    def test_models_with_another_interface(self, shared: Path) -> None:
        with pytest.raises(ModelFileError, match=r"movenet.*written by `probpose-edge convert`"):
            open_runtime(shared / "models" / "movenet_singlepose_lightning_int8.tflite")

    def test_missing_extra_names_the_successor(
        self, write_tflite: Callable[..., Path], hide: Callable[..., None]
    ) -> None:
        path = write_tflite()
        hide("ai_edge_litert", "tflite_runtime")
        message = r'Running .tflite files needs the package "ai_edge_litert", .* pip install "probpose-edge\[tflite\]"'
        with pytest.raises(MissingExtraError, match=message):
            open_runtime(path)

    def test_tflite_runtime_is_the_fallback(
        self, write_tflite: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        litert = importlib.import_module("ai_edge_litert.interpreter")
        import_module = importlib.import_module

        def only_the_old_one(name: str) -> ModuleType:
            if name.startswith("ai_edge_litert"):
                raise ModuleNotFoundError(name=name)
            return litert if name == "tflite_runtime.interpreter" else import_module(name)

        monkeypatch.setattr("probpose_edge.extras.import_module", only_the_old_one)
        crops = crops_of(1, (16, 12))
        runtime = open_runtime(write_tflite())
        assert runtime.name.startswith("tflite-runtime ")
        assert_outputs(runtime.run(crops), expected_outputs(crops, 1))


class FakeCoreML:
    """Stands for coremltools on macOS: a model whose answer is that of the tiny network."""

    __version__ = "9.0"

    def __init__(self) -> None:
        self.models = SimpleNamespace(MLModel=self.load)
        self.inputs = ["image"]
        self.calls: list[int] = []

    def load(self, path: str) -> Any:
        image = SimpleNamespace(width=48, height=64)
        kind = SimpleNamespace(imageType=image, HasField=lambda name: name == "imageType")
        inputs = [SimpleNamespace(name=name, type=kind) for name in self.inputs]
        outputs = [SimpleNamespace(name=name) for name in ("quality", "logits", "presence", "visibility")]
        spec = SimpleNamespace(description=SimpleNamespace(input=inputs, output=outputs))
        return SimpleNamespace(get_spec=lambda: spec, predict=self.predict)

    def predict(self, feed: Any) -> Any:
        self.calls.append(len(feed) if isinstance(feed, list) else 0)
        return [self.answer(one) for one in feed] if isinstance(feed, list) else self.answer(feed)

    @staticmethod
    def answer(feed: dict[str, Any]) -> dict[str, np.ndarray]:
        raw = expected_outputs(np.asarray(feed["image"])[None], 4)
        return {name: getattr(raw, name).astype(np.float64) for name in ("logits", "presence", "visibility", "quality")}


class TestCoreML:
    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        path = tmp_path / "tiny.mlpackage"
        path.mkdir()
        return path

    def test_elsewhere_it_names_the_remedy(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        message = r"CoreML runs on macOS only, and this is linux. Run the .onnx or .tflite file .* rows are simulated"
        with pytest.raises(RuntimeUnavailableError, match=message):
            open_runtime(package)

    def test_on_macos_crops_go_through_as_pictures(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("PIL", reason="CoreML takes Pillow images")
        monkeypatch.setattr(sys, "platform", "darwin")
        fake = FakeCoreML()
        monkeypatch.setitem(sys.modules, "coremltools", fake)  # type: ignore[arg-type]
        runtime = open_runtime(package)
        assert runtime.name == "CoreML (coremltools 9.0)"
        for n in (0, 1, 3, 35):
            crops = crops_of(n)
            assert_outputs(runtime.run(crops), expected_outputs(crops, 4))
        # One crop by itself, several as CoreML's batch of predictions.
        assert fake.calls == [0, 0, 3, 16, 16, 3]
        runtime.close()
        with pytest.raises(InputError, match="This model was closed"):
            runtime.run(crops_of(1))

    def test_models_with_another_interface(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("PIL", reason="CoreML takes Pillow images")
        monkeypatch.setattr(sys, "platform", "darwin")
        fake = FakeCoreML()
        fake.inputs = ["pixels"]
        monkeypatch.setitem(sys.modules, "coremltools", fake)  # type: ignore[arg-type]
        with pytest.raises(ModelFileError, match="has one image input 'image' and the float outputs logits"):
            open_runtime(package)

    def test_missing_extra(self, package: Path, monkeypatch: pytest.MonkeyPatch, hide: Callable[..., None]) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        hide("coremltools")
        with pytest.raises(MissingExtraError, match=r'pip install "probpose-edge\[coreml\]"'):
            open_runtime(package)

    def test_threads_are_not_for_coreml(self, package: Path) -> None:
        with pytest.raises(InputError, match="CoreML chooses its threads itself, got threads=2"):
            open_runtime(package, threads=2)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_threads_are_counted(write_onnx: Callable[..., Path], threads: Any) -> None:
    with pytest.raises(InputError, match="threads must be a whole number of at least 1, or None, got"):
        open_runtime(write_onnx(), threads=threads)


def test_providers_are_for_onnx_only(write_tflite: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"providers are for .onnx files only"):
        open_runtime(write_tflite(), providers=["CPUExecutionProvider"])
