from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import probpose_edge
from probpose_edge import InputError, MissingExtraError, ModelFileError, PoseEstimator, shipped_model

PUBLIC = {
    "COCO_17",
    "CROWDPOSE_14",
    "MPII_16",
    "WHOLEBODY_133",
    "AnnotationError",
    "CheckpointError",
    "CocoResults",
    "ConversionError",
    "CredibleRegions",
    "Detections",
    "Detector",
    "Frame",
    "FrameSource",
    "ImageReadError",
    "InputError",
    "JsonLines",
    "LiveResult",
    "LiveStream",
    "LiveWindow",
    "MetadataError",
    "MissingExtraError",
    "ModelContract",
    "ModelFileError",
    "OnnxDetector",
    "PoseEstimator",
    "PoseTracker",
    "Poses",
    "PresenceThreshold",
    "ProbPoseError",
    "RawOutputs",
    "RoutedEstimator",
    "Router",
    "Routing",
    "Runtime",
    "RuntimeUnavailableError",
    "Skeleton",
    "SourceError",
    "TrackedPoses",
    "TrackerSettings",
    "TrainingError",
    "VideoFile",
    "ZoneProbability",
    "__version__",
    "box_to_window",
    "calibrate_presence",
    "calibrated_maps",
    "cells_to_image",
    "credible_regions",
    "crop_windows",
    "decode_heatmaps",
    "decode_maps",
    "detect",
    "draw_poses",
    "expected_oks_maps",
    "flip_test",
    "image_to_cells",
    "map_covariances",
    "open_runtime",
    "open_source",
    "poses_to_coco",
    "presence_threshold_for",
    "read_contract",
    "read_image",
    "read_skeleton",
    "shipped_model",
    "sparsemax_maps",
    "to_bgr",
    "window_to_crop_matrix",
    "write_picture",
    "write_skeleton",
    "zone_probability",
}

HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "coremltools",
    "matplotlib",
    "ai_edge_litert",
    "tflite_runtime",
    "scipy",
    "PIL",
)


def test_public_names_are_these() -> None:
    assert set(probpose_edge.__all__) == PUBLIC
    for name in PUBLIC:
        assert hasattr(probpose_edge, name), name


def test_public_functions_are_documented() -> None:
    for name in PUBLIC:
        thing = getattr(probpose_edge, name)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert inspect.getdoc(thing), name


def test_importing_loads_no_heavy_library() -> None:
    code = f"import sys, probpose_edge; print([m for m in {HEAVY!r} if m in sys.modules])"
    paths = [str(Path(probpose_edge.__file__).parents[1])]
    script = f"import sys; sys.path[:0] = {paths!r}; {code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_the_package_is_typed() -> None:
    assert (Path(probpose_edge.__file__).parent / "py.typed").is_file()


def test_shipped_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probpose_edge.weights.__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ModelFileError, match=r"probpose-m-int8.tflite is missing from this installation. Reinstall"):
        shipped_model("tflite")
    (tmp_path / "probpose-m-int8.onnx").touch()
    assert shipped_model() == tmp_path / "probpose-m-int8.onnx"
    with pytest.raises(InputError, match="Shipped models are of kind 'onnx' or 'tflite', got 'coreml'"):
        shipped_model("coreml")


def test_open_without_a_path_takes_the_shipped_model_of_an_installed_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probpose_edge.weights.__file__", str(tmp_path / "__init__.py"))
    installed: set[str] = set()
    monkeypatch.setattr("probpose_edge.weights.find_spec", lambda name: name if name in installed else None)
    with pytest.raises(MissingExtraError, match=r'Running the shipped model .* pip install "probpose-edge\[onnx\]"'):
        PoseEstimator.open()
    installed.add("tflite_runtime")
    with pytest.raises(ModelFileError, match=r"probpose-m-int8.tflite is missing"):
        PoseEstimator.open()
    installed.add("onnxruntime")
    with pytest.raises(ModelFileError, match=r"probpose-m-int8.onnx is missing"):
        PoseEstimator.open()
