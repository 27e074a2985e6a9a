"""What `probpose-edge doctor` looks at: each check says what it found and, of a problem, what to do."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import cv2

from probpose_cli.models import open_for_evaluation
from probpose_edge import PoseEstimator, shipped_model
from probpose_edge.contract.self_test import KEYPOINT_TOLERANCE, PROBABILITY_TOLERANCE, recorded_numbers, run_self_test
from probpose_edge.exceptions import ProbPoseError
from probpose_edge.extras import import_extra
from probpose_edge.sinks.show_window import check_display
from probpose_edge.sources.camera_source import camera_frames
from probpose_edge.version import __version__

_MODULES = (
    ("onnxruntime", "onnx"), ("ai_edge_litert", "tflite"), ("tflite_runtime", "tflite-runtime"),
    ("coremltools", "coreml"), ("torch", "train"), ("torchao", "convert"), ("onnx", "convert"),
    ("litert_torch", "convert"), ("matplotlib", "eval"), ("supervision", "supervision"), ("picamera2", ""),
)  # fmt: skip
"""Import name and the extra that brings it."""
_NOT_TRIED = {
    "TensorrtExecutionProvider": "it takes minutes to prepare a file",
    "NvTensorRTRTXExecutionProvider": "it takes minutes to prepare a file",
    "AzureExecutionProvider": "it runs nothing here",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was tried.

    Attributes
    ----------
    what: its name. state: "ok", "remark" (nothing is broken) or "problem". said: what was found.
    remedy: what to do about it; every problem has one.
    """

    what: str
    state: Literal["ok", "remark", "problem"]
    said: str
    remedy: str = ""


def installed() -> dict[str, Any]:
    """Versions, providers, delegates, back ends of OpenCV and cameras of this machine, ready for JSON."""
    registry = cv2.videoio_registry
    distributions = packages_distributions()
    packages = {}
    for module, _ in (("numpy", ""), ("cv2", ""), *_MODULES):
        if find_spec(module) is not None:
            packages[module] = [f"{name} {_version(name)}" for name in sorted(set(distributions.get(module, [])))]
    return {
        "probpose-edge": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "packages": packages,
        "missing": {module: extra for module, extra in _MODULES if extra and find_spec(module) is None},
        "onnxruntime providers": _providers(),
        "delegate libraries": [
            name for name in ("edgetpu", "QnnTFLiteDelegate", "armnnDelegate") if find_library(name)
        ],
        "opencv cameras and streams": sorted({registry.getBackendName(i) for i in registry.getCameraBackends()}),
        "opencv files": sorted({registry.getBackendName(i) for i in registry.getStreamBackends()}),
        "cameras": [str(path) for path in _cameras()],
    }


def runtime_checks() -> Iterator[Check]:
    """Open and run the shipped files on every runtime and provider that is installed."""
    runtimes = [module for module in ("onnxruntime", "ai_edge_litert", "tflite_runtime") if find_spec(module)]
    if not runtimes and not (sys.platform == "darwin" and find_spec("coremltools")):
        yield Check(
            what="runtime",
            state="problem",
            said="none is installed that could run a model here",
            remedy='pip install "probpose-edge[onnx]", or [tflite]',
        )
    if "onnxruntime" in runtimes:
        for provider in _providers() or ["CPUExecutionProvider"]:
            what = f"onnxruntime, {provider}"
            if provider in _NOT_TRIED:
                yield Check(what=what, state="remark", said=f"not tried: {_NOT_TRIED[provider]}")
            else:
                yield _guarded(what, lambda provider=provider, what=what: _provider_check(what, provider))  # type: ignore[misc]
    if {"ai_edge_litert", "tflite_runtime"} & set(runtimes):
        what = "LiteRT" if "ai_edge_litert" in runtimes else "tflite-runtime"
        yield _guarded(what, lambda: _litert_check(what))
    if find_spec("coremltools") and sys.platform == "darwin":
        yield _guarded("CoreML", _coreml_check)


def file_check(path: Path) -> Check:
    """Open a file as `evaluate` does and run its self-test."""

    def check() -> Check:
        with _quiet_stderr(), open_for_evaluation(path) as estimator:
            return _tested(str(path), estimator, path)

    return _guarded(str(path), check)


def camera_checks(camera: str | None) -> Iterator[Check]:
    """Whether cameras may be opened; `camera` is opened and gives a frame."""
    if camera is not None:
        yield _guarded(f"camera {camera}", lambda: _camera_check(camera))
    if not sys.platform.startswith("linux"):
        return
    found = _cameras()
    if not found and camera is None:
        yield Check(
            what="camera", state="remark", said="there is none (/dev/video*)", remedy="plug one in if you need it"
        )
    for path in found:
        if os.access(path, os.R_OK | os.W_OK):
            yield Check(what=str(path), state="ok", said="this user may open it")
        else:
            yield Check(
                what=str(path),
                state="problem",
                said="this user may not open it",
                remedy='sudo usermod -aG video "$USER", then log in again',
            )


def display_check() -> Check:
    """Whether `predict --show` can open a window."""
    try:
        check_display()
    except ProbPoseError as error:
        said, remedy = _split(str(error))
        return Check(what="display", state="remark", said=said, remedy=remedy)
    return Check(what="display", state="ok", said="windows can be opened")


def _provider_check(what: str, provider: str) -> Check:
    import_extra("Running .onnx files", "onnxruntime", "onnx")
    path = shipped_model("onnx")
    with PoseEstimator.open(path, providers=[provider]) as estimator:
        if provider not in estimator.runtime.name:
            return Check(
                what=what,
                state="problem",
                said=f"it is listed but did not start, and the file ran with {estimator.runtime.name}",
                remedy="install the drivers and libraries of the version this onnxruntime was built for, or choose the "
                "CPU",
            )
        return _tested(what, estimator, path)


def _litert_check(what: str) -> Check:
    path = shipped_model("tflite")
    with _quiet_stderr() as log, PoseEstimator.open(path) as estimator:
        check = _tested(what, estimator, path)
    delegate = "; XNNPACK delegate" if "XNNPACK" in log[0] else ""
    return Check(what=check.what, state=check.state, said=check.said + delegate, remedy=check.remedy)


def _coreml_check() -> Check:
    import_extra("Running .mlpackage files", "coremltools", "coreml")
    import_extra("Running .mlpackage files", "PIL.Image", "coreml")
    return Check(what="CoreML", state="ok", said="coremltools and Pillow load; give a .mlpackage to run one")


def _tested(what: str, estimator: PoseEstimator, path: Path) -> Check:
    found = run_self_test(estimator, recorded_numbers(path, estimator))
    ran = f"{estimator.runtime.name}, {estimator.runtime.provenance}, {1000 * found.seconds:.0f} ms per crop"
    if found.passed is None:
        return Check(
            what=what,
            state="remark",
            said=f"it runs ({ran}), but no numbers were recorded to compare with",
            remedy=f"where it is known to be right: probpose-edge doctor {path} --record"
            if path.suffix in (".onnx", ".tflite", ".mlpackage")
            else "convert it: numbers are recorded in the files that devices run",
        )
    moved = f"{found.compared} keypoints within {100 * (found.moved or 0):.2f} % of the crop's height"
    shifted = "" if found.shifted is None else f", probabilities within {found.shifted:.3f}"
    if found.passed:
        return Check(what=what, state="ok", said=f"as recorded: {moved}{shifted} ({ran})")
    return Check(
        what=what,
        state="problem",
        said=f"the drawn picture gives other answers than recorded: {moved} (allowed: {100 * KEYPOINT_TOLERANCE:.1f})"
        f"{shifted} (allowed: {PROBABILITY_TOLERANCE}) ({ran})",
        remedy="copy the file again, update the runtime, or run another file of the same model (.onnx, .tflite)",
    )


def _camera_check(camera: str) -> Check:
    source = camera_frames(int(camera) if camera.isdecimal() else camera, patience_s=5.0)
    try:
        frame = next(iter(source))
    finally:
        source.close()
    height, width = frame.image.shape[:2]
    return Check(what=f"camera {camera}", state="ok", said=f"it gives frames of {width} x {height}")


def _guarded(what: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except ProbPoseError as error:
        said, remedy = _split(str(error))
    except Exception as error:  # runtimes raise whatever they like while they run
        said = f"it fails with {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        remedy = "update the runtime, copy the file again, or run another file of the same model"
    return Check(what=what, state="problem", said=said, remedy=remedy)


def _split(message: str) -> tuple[str, str]:
    """An error of this project in two: what is wrong, and its last sentence, the remedy."""
    parts = re.split(r"(?<=[^.])\.\s+(?=[A-Z])", message.strip())
    return ". ".join(parts[:-1]) or message, parts[-1].rstrip(".")


def _providers() -> list[str]:
    if find_spec("onnxruntime") is None:
        return []
    try:
        return list(import_extra("Running .onnx files", "onnxruntime", "onnx").get_available_providers())
    except (ProbPoseError, AttributeError):
        return []


def _cameras() -> list[Path]:
    return sorted(Path("/dev").glob("video*")) if sys.platform.startswith("linux") else []


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(unknown version)"


@contextmanager
def _quiet_stderr() -> Iterator[list[str]]:
    """Keep what libraries write to the error stream off the terminal; at the end the list has it."""
    written: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        kept = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield written
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            log.seek(0)
            written.append(log.read().decode(errors="replace"))
