"""The kit for a Mac: packed, run, and taken back as measured rows; every change on the way is refused.

CoreML runs on a Mac only, so that a template stands in its place here: what is tested is everything around it.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import PoseEstimator
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_eval import load_evaluation_set
from probpose_eval.benchmark.latency import describe_machine
from probpose_eval.evaluation_set import EvaluationSet
from probpose_eval.mac.mac_kit import write_mac_kit
from probpose_eval.mac.measure_kit import measure_kit
from probpose_eval.mac.measured_files import RuntimeElsewhere, read_measured
from probpose_eval.model_file import sha256_of
from probpose_eval.observations.observe import observe_set

Make = Callable[..., PoseEstimator]
REFERENCE = "a" * 64


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "m.mlpackage"
    (folder / "Data").mkdir(parents=True)
    (folder / "Manifest.json").write_text("{}")
    (folder / "Data" / "weights.bin").write_bytes(b"weights")
    return folder


@pytest.fixture
def kit(
    photographed: tuple[Path, Path], template_estimator: Make, package: Path, tmp_path: Path
) -> tuple[Path, EvaluationSet]:
    """The unpacked kit, and the set as the report knows it."""
    packed = tmp_path / "kit.zip"
    write_mac_kit(
        packed,
        [package],
        reference=template_estimator(),
        reference_sha256=REFERENCE,
        sets={"plain": photographed},
        latency_rounds=2,
    )
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "on the mac")
    return tmp_path / "on the mac", load_evaluation_set(*photographed, name="photographed")


def run_it(folder: Path, monkeypatch: pytest.MonkeyPatch, estimator: PoseEstimator) -> Path:
    with monkeypatch.context() as patched:
        patched.setattr(PoseEstimator, "open", lambda path: estimator)
        measure_kit(folder, folder / "measured.json")
    return folder / "measured.json"


def test_a_kit_comes_back_as_what_the_file_said(
    kit: tuple[Path, EvaluationSet],
    template_estimator: Make,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, data = kit
    estimator = template_estimator(shift=3)
    path = run_it(folder, monkeypatch, estimator)
    read = read_measured(
        path, files={"ours.mlpackage": sha256_of(package)}, sets={"plain": data}, reference_sha256=REFERENCE
    )
    assert list(read) == ["ours.mlpackage"]
    row = read["ours.mlpackage"]
    assert (row.file_name, row.runtime) == ("m.mlpackage", "template (shift 3)")
    assert row.machine == describe_machine()
    assert row.latency is not None
    assert row.latency.rounds == 2
    observations, maps = row.observed["plain"]
    here, maps_here = observe_set(
        [template_estimator(), template_estimator(shift=3)], data.annotations, data.images_dir, reference=0
    )[1]
    for name in ("annotation_ids", "keypoints", "windows", "presence", "quality", "scores", "standing"):
        there = getattr(observations, name)
        assert np.allclose(there, getattr(here, name), rtol=1e-7, equal_nan=True), name
    assert observations.presence_threshold == here.presence_threshold
    assert maps is not None
    assert maps_here is not None
    # Maps of the reference travel as float16.
    assert np.allclose(maps.kl, maps_here.kl, rtol=2e-3)
    assert np.allclose(maps.overlap, maps_here.overlap, atol=1e-3)
    assert maps.kl.min() > 1
    elsewhere = RuntimeElsewhere(row)
    assert (elsewhere.name, elsewhere.provenance) == ("template (shift 3)", "measured")
    with pytest.raises(InputError, match=r"measured on another machine, on template \(shift 3\); it cannot be run"):
        elsewhere.run(np.zeros((1, 256, 192, 3), dtype=np.uint8))


def test_measurements_of_something_else_are_refused(
    kit: tuple[Path, EvaluationSet], template_estimator: Make, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = kit
    path = run_it(folder, monkeypatch, template_estimator())
    asked: dict[str, Any] = {
        "files": {"m.mlpackage": sha256_of(package)},
        "sets": {"plain": data},
        "reference_sha256": REFERENCE,
    }
    other = {"plain": replace(data, pictures_sha256="0" * 64)}
    for change, message in (
        (
            {"files": {"m.mlpackage": "0" * 64}},
            r"of files of the report, but m\.mlpackage of .* is none of them\. Name",
        ),
        (
            {"sets": other},
            r"same pictures and annotations, but the plain set of .* is not that of this report, photogr",
        ),
        ({"sets": {"plain": data, "cropped": data}}, r"but the cropped set of .* is not that of this report"),
        ({"reference_sha256": "b" * 64}, r"beside the reference of the report, but .* was made beside another file"),
    ):
        with pytest.raises(InputError, match=message):
            read_measured(path, **{**asked, **change})
    document = json.loads(path.read_text())
    for changed, message in (
        ([], r"must have the schema 1, but .* has 'list'\. Make the kit"),
        ({**document, "schema": 9}, r"must have the schema 1, but .* has 9"),
        ({**document, "version": "9.9"}, r"this version of probpose-edge, .* is by '9\.9'"),
        ({**document, "files": [{"sha256": sha256_of(package)}]}, r"has a missing or wrong field: "),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=message):
            read_measured(path, **asked)
    fewer = json.loads(json.dumps(document))
    seen = fewer["files"][0]["observed"]["plain"]["observations"]
    seen["annotation_ids"] = seen["annotation_ids"][1:]
    path.write_text(json.dumps(fewer))
    with pytest.raises(InputError, match=r"of each of the \d+ labelled persons, but m\.mlpackage of .* or other ones"):
        read_measured(path, **asked)
    path.write_text("x")
    with pytest.raises(InputError, match="Measurements must be JSON"):
        read_measured(path, **asked)
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        read_measured(folder / "none.json", **asked)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("files/m.mlpackage/Data/weights.bin", r"files of a kit must be as they were packed, but m\.mlpackage is not"),
        ("files/m.mlpackage/.DS_Store", r"files of a kit must be as they were packed"),
        ("sets/plain/annotations.json", r"Pictures and annotations of a kit .* those of its plain set are not"),
    ],
)
def test_a_changed_kit_is_refused(
    kit: tuple[Path, EvaluationSet],
    template_estimator: Make,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
    message: str,
) -> None:
    path = kit[0] / changed
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b" ")
    with pytest.raises(InputError, match=message):
        run_it(kit[0], monkeypatch, template_estimator())
    assert not (kit[0] / "measured.json").exists()


def test_a_kit_of_another_version_says_what_to_install(kit: tuple[Path, EvaluationSet]) -> None:
    path = kit[0] / "kit.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "version": "9.9"}))
    with pytest.raises(InputError, match=r'made it, 9\.9, but .* pip install "probpose-edge\[coreml\]==9\.9"'):
        measure_kit(kit[0], kit[0] / "measured.json")
    path.write_text(json.dumps({**document, "schema": 2}))
    with pytest.raises(InputError, match="runs kits of schema 1"):
        measure_kit(kit[0], kit[0] / "measured.json")
    path.unlink()
    with pytest.raises(InputError, match=r"must hold kit\.json"):
        measure_kit(kit[0], kit[0] / "measured.json")


def test_the_kit_holds_what_is_needed_and_nothing_else(kit: tuple[Path, EvaluationSet]) -> None:
    folder, data = kit
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    pictures = {name for name in names if name.startswith("sets/plain/images/")}
    assert names - pictures == {
        "README.txt",
        "run_on_mac.py",
        "kit.json",
        "files/m.mlpackage/Manifest.json",
        "files/m.mlpackage/Data/weights.bin",
        "sets/plain/annotations.json",
        "reference/plain.npz",
    }
    of_labelled = {
        person.image_id for person in data.annotations.persons if person.num_keypoints and not person.iscrowd
    }
    assert len(pictures) == len(of_labelled)
    assert "probpose-edge[coreml]" in (folder / "README.txt").read_text()


def test_the_script_of_the_kit_runs_it(
    kit: tuple[Path, EvaluationSet],
    template_estimator: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = kit[0] / "run_on_mac.py"
    failed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "error: " in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (kit[0] / "measured.json").exists()
    monkeypatch.setattr(PoseEstimator, "open", lambda path: template_estimator())
    runpy.run_path(str(script), run_name="__main__")
    assert "wrote" in capsys.readouterr().out
    assert (kit[0] / "measured.json").exists()


def test_what_makes_no_kit(
    photographed: tuple[Path, Path], template_estimator: Make, package: Path, tmp_path: Path
) -> None:
    def make(packages: list[Path]) -> None:
        write_mac_kit(
            tmp_path / "kit.zip",
            packages,
            reference=template_estimator(),
            reference_sha256=None,
            sets={"plain": photographed},
        )

    with pytest.raises(InputError, match=r"takes \.mlpackage files to a Mac, but got none\. Name at least one"):
        make([])
    with pytest.raises(InputError, match=r"but got m\.onnx\. Name at least one"):
        make([tmp_path / "m.onnx"])
    with pytest.raises(InputError, match=r"must have different names, but got m\.mlpackage, m\.mlpackage"):
        make([package, package])
    document = json.loads(photographed[0].read_text())
    for annotation in document["annotations"]:
        annotation["iscrowd"] = 1
    photographed[0].write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=r"needs labelled persons to measure on, but .* has none"):
        make([package])
    assert not (tmp_path / "kit.zip").exists()


def test_the_same_contents_give_the_same_kit(
    photographed: tuple[Path, Path], template_estimator: Make, package: Path, tmp_path: Path
) -> None:
    for name in ("a.zip", "b.zip"):
        write_mac_kit(
            tmp_path / name,
            [package],
            reference=template_estimator(),
            reference_sha256=REFERENCE,
            sets={"plain": photographed},
        )
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_mac_is_named_by_its_processor_and_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def sysctl(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[-1] == "machdep.cpu.brand_string"
        return subprocess.CompletedProcess(command, 0, stdout="Apple M2\n")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr(subprocess, "run", sysctl)
    machine = describe_machine()
    assert (machine.processor, machine.system) == ("Apple M2", "macOS 15.1 arm64")

    def missing(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", missing)
    assert describe_machine().processor == "arm64"
