"""The examples for devices run here, on drawn videos and without cameras; the notebook runs, too."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from probpose_edge import box_to_window, cells_to_image, window_to_crop_matrix
from probpose_eval.synth.clip import draw_clip

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FRAMES = 6


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of one person who walks."""
    path = tmp_path_factory.mktemp("clip") / "walk.avi"
    way = np.stack([np.linspace(150, 170, FRAMES), np.full(FRAMES, 130.0)], axis=1)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 240))
    for frame in draw_clip(np.random.default_rng(5), [way], [190], width=320, height=240):
        writer.write(frame.image)
    writer.release()
    return path


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return {**kept, "OMP_NUM_THREADS": "1", **changes}


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, capture_output=True, text=True, check=False, env=environment()
    )


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_webcam_without_a_display_prints_and_writes_a_video(clip: Path, tmp_path: Path) -> None:
    done = run(tmp_path, EXAMPLES / "webcam" / "webcam.py", clip, "--out", "poses.avi")
    assert done.returncode == 0, done.stderr
    assert "A live window needs a display" in done.stdout
    assert done.stdout.count("person 1: ") == FRAMES
    assert f"{FRAMES} frames processed, 0 dropped" in done.stdout
    assert cv2.VideoCapture(str(tmp_path / "poses.avi")).get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES


class TestRaspberryPi:
    SCRIPT = EXAMPLES / "raspberry-pi" / "pose_service.py"

    @pytest.fixture(autouse=True)
    def _needs_litert(self) -> None:
        pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

    def test_lines_of_json_and_remarks_apart(self, clip: Path, tmp_path: Path) -> None:
        done = run(tmp_path, self.SCRIPT, "--camera", clip, "--threads", "1", "--report-every", "0")
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["frame"] for line in lines] == list(range(FRAMES))
        assert all(line["persons"][0]["id"] == 1 for line in lines)
        assert "ai-edge-litert" in done.stderr
        assert "frames per second, slowest" in done.stderr
        assert f"ended after {FRAMES} frames, 0 dropped" in done.stderr

    def test_a_missing_camera_ends_it_with_an_error(self, tmp_path: Path) -> None:
        done = run(tmp_path, self.SCRIPT, "--camera", "missing.avi")
        assert done.returncode == 1
        assert "error: There is no video missing.avi. Check the path." in done.stderr
        assert "Traceback" not in done.stderr

    def test_sigterm_ends_it_cleanly_and_frees_the_camera(self, tmp_path: Path) -> None:
        (tmp_path / "picamera2.py").write_text(FAKE_PICAMERA2)
        process = subprocess.Popen(
            [sys.executable, str(self.SCRIPT), "--threads", "1", "--size", "320x240"],
            cwd=tmp_path,
            env=environment(PYTHONPATH=str(tmp_path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert first["size"] == [320, 240]
        assert all(json.loads(line) for line in out.splitlines())
        assert "camera closed" in err
        assert "dropped" in err

    def test_the_unit_is_one(self, tmp_path: Path) -> None:
        unit = EXAMPLES / "raspberry-pi" / "pose-service.service"
        text = unit.read_text()
        for line in ("Restart=always", "SupplementaryGroups=video", "Environment=PYTHONUNBUFFERED=1"):
            assert line in text.splitlines()
        tool = shutil.which("systemd-analyze")
        if tool is None:
            pytest.skip("systemd-analyze, which checks units, is not here")
        # The paths of the device are not on this machine.
        runnable = tmp_path / unit.name
        runnable.write_text(text.replace("/opt/pose/venv/bin/python", sys.executable))
        done = subprocess.run([tool, "verify", str(runnable)], capture_output=True, text=True, check=False)
        assert unit.name not in done.stderr, done.stderr


FAKE_PICAMERA2 = """
import sys, time
import numpy as np

class Picamera2:
    def __enter__(self):
        return self
    def __exit__(self, *_):
        print("camera closed", file=sys.stderr)
    def create_video_configuration(self, main):
        return {"main": main}
    def configure(self, configuration):
        self.configuration = configuration
    def camera_configuration(self):
        return self.configuration
    def start(self):
        self.started = True
    def capture_array(self):
        assert self.started
        time.sleep(0.03)
        width, height = self.configuration["main"]["size"]
        return np.full((height, width, 3), 90, np.uint8)
"""


class TestJetson:
    SCRIPT = EXAMPLES / "jetson" / "jetson.py"

    def test_it_falls_back_to_the_processor_and_says_so(self, clip: Path, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime", reason="needs onnxruntime")
        done = run(tmp_path, self.SCRIPT, clip, "--most-persons", "2")
        assert done.returncode == 0, done.stderr
        assert "(CPUExecutionProvider)" in done.stdout
        assert "first run of 2 crop(s)" in done.stdout
        assert done.stdout.count("persons [1]") == FRAMES

    def test_what_is_needed_is_refused_where_it_is_missing(self, tmp_path: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this machine has what is said to be missing")
        done = run(tmp_path, self.SCRIPT, "--need", "cuda")
        assert done.returncode == 1
        assert "cuda is needed, but onnxruntime runs this file with CPUExecutionProvider" in done.stderr

    def test_the_order_of_providers(self, tmp_path: Path) -> None:
        choose = load(self.SCRIPT).provider_choice
        everything = ["CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]
        tensorrt, cuda, cpu = choose(everything, tmp_path)
        assert tensorrt[0] == "TensorrtExecutionProvider"
        assert tensorrt[1]["trt_engine_cache_path"] == str(tmp_path)
        assert cuda[0] == "CUDAExecutionProvider"
        assert cpu == "CPUExecutionProvider"
        assert choose(["AzureExecutionProvider", "CPUExecutionProvider"], tmp_path) == ["CPUExecutionProvider"]


def test_the_notebook_runs_and_holds_no_outputs(tmp_path: Path) -> None:
    path = EXAMPLES / "quickstart.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert path.stat().st_size < 20_000
    program = "\n\n".join("".join(cell["source"]) for cell in code)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment(MPLBACKEND="Agg"),
    )
    assert done.returncode == 0, done.stderr
    assert "not there" in done.stdout
    assert "standard deviations" in done.stdout
    assert "(2, 17, 2)" in done.stdout


@pytest.mark.parametrize("phone", ["ios", "android"])
def test_the_numbers_to_test_an_app_with_are_those_of_the_sdk(phone: str) -> None:
    text = (EXAMPLES / phone / "README.md").read_text(encoding="utf-8")
    input_wh, picture_height = (192, 256), 480
    windows = box_to_window([200, 80, 320, 440], input_wh, 1.25)
    ((scale_x, _, shift_x), (_, scale_y, shift_y)) = window_to_crop_matrix(windows, input_wh)[0].tolist()
    # Matrices of phones take edges of pixels, half a pixel from their centers, and those of iOS count from the bottom.
    edge_x, edge_y = (0.5 + shift - 0.5 * scale for shift, scale in ((shift_x, scale_x), (shift_y, scale_y)))
    from_bottom = input_wh[1] - scale_y * picture_height - edge_y
    place = cells_to_image(np.array([[[40.0, 100.0]]]), windows, input_wh)[0, 0]
    left, top = windows[0, :2] - windows[0, 2:] / 2
    numbers = {
        "size": f"{windows[0, 2]:.2f} × {windows[0, 3]:.2f}",
        "corner": f"({left:.2f}, {top:.2f})",
        "place": f"({place[0]:.2f}, {place[1]:.2f})",
        "transform": f"a = {scale_x:.5f}, d = {scale_y:.5f}, tx = {edge_x:.5f}, ty = {from_bottom:.5f}"
        if phone == "ios"
        else f"the scales {scale_x:.5f} and {scale_y:.5f} and the translation ({edge_x:.5f}, {edge_y:.5f})",
    }
    assert {name: number for name, number in numbers.items() if number not in text.replace("\n", " ")} == {}


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
def test_every_example_says_what_it_needs_and_where_it_ran(name: str) -> None:
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert "**Run on**" in text
    assert "**Not run on**" in text
    assert "pip install" in text or "probpose-edge convert" in text


@pytest.mark.parametrize(
    ("script", "arguments", "error"),
    [
        ("quickstart/quickstart.py", ["none.jpg"], "error: There is no picture none.jpg. Check the path."),
        ("webcam/webcam.py", ["none.mp4"], "error: There is no video none.mp4. Check the path."),
        ("jetson/jetson.py", ["--model", "none.onnx"], "error: There is no model file none.onnx. Check the path."),
        ("safety-zone/safety_zone.py", ["a.jpg", "--zone", "0,0", "9,0,3"], "2 numbers with commas between are needed"),
        ("raspberry-pi/pose_service.py", [], "Install it with apt, make the environment with --system-site-packages"),
    ],
)
def test_a_wrong_argument_is_one_line(script: str, arguments: list[str], error: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("picamera2") is not None:
        pytest.skip("this machine has the cameras that are said to be missing")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    done = run(tmp_path, EXAMPLES / script, *arguments)
    assert done.returncode != 0
    assert error in done.stderr
    assert "Traceback" not in done.stderr
