"""Install the wheel as a device does, in fresh environments, run the shipped INT8 files, and list what it takes.

    python scripts/check_install.py --python python3.10 python3.12 ... [--out FILE.md]

Builds the wheel, then makes one virtual environment per interpreter, extra and numpy (1.26 and the newest), installs
there, and runs the self-test of the shipped file on drawn crops: the answers must be those recorded for that file.
Needs the package index, some minutes and 1 GB of room for a while. Prints a table of what ran and tables of what is
installed, without the bytecode that Python adds. Exit code 1 if something that can be installed does not run.
Combinations without published wheels are listed as such.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_WHEEL_MB = 15.0
EXTRAS = {"tflite": "tflite", "onnx": "onnx", "tflite-runtime": "tflite"}
"""Extra → the shipped file that it runs."""
NUMPYS = {"1.26": "numpy==1.26.*", "2": "numpy>=2"}

PROGRAM = """
import json, sys
from importlib.metadata import distributions, version
from pathlib import Path
from probpose_edge import PoseEstimator, shipped_model
from probpose_edge.contract.self_test import recorded_numbers, run_self_test

path = shipped_model(sys.argv[1])
with PoseEstimator.open(path, threads=1) as estimator:
    test = run_self_test(estimator, recorded_numbers(path, estimator))
    runtime = estimator.runtime.name
sizes = {}
for distribution in distributions():
    files = [distribution.locate_file(file) for file in distribution.files or () if file.suffix != ".pyc"]
    sizes[distribution.metadata["Name"]] = [
        distribution.version, sum(Path(file).stat().st_size for file in files if Path(file).is_file())
    ]
print(json.dumps({"runtime": runtime, "numpy": version("numpy"), "opencv": version("opencv-python-headless"),
                  "moved": test.moved, "shifted": test.shifted, "passed": test.passed, "sizes": sizes}))
"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One environment and what came of it; error is empty where the file ran, found is what it printed."""

    python: str
    extra: str
    numpy: str
    error: str = ""
    installable: bool = True
    found: dict | None = None

    @property
    def passed(self) -> bool:
        return not self.installable or (self.found is not None and bool(self.found["passed"]))


def build_wheel(folder: Path) -> Path:
    run([sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)])
    return next(folder.glob("*.whl"))


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} … failed:\n{done.stderr[-3000:]}")
    return done


def trials(pythons: list[str], wheel: Path) -> Iterator[Trial]:
    for interpreter in pythons:
        version = run([interpreter, "-c", "import platform; print(platform.python_version())"]).stdout.strip()
        minor = tuple(map(int, version.split(".")[:2]))
        for extra in EXTRAS:
            for numpy in NUMPYS:
                if extra == "tflite-runtime" and (numpy == "2" or minor > (3, 11)):
                    continue  # the extra itself says so
                yield try_one(interpreter, version, extra, numpy, wheel)


def try_one(interpreter: str, version: str, extra: str, numpy: str, wheel: Path) -> Trial:
    names = {"python": version, "extra": extra, "numpy": numpy}
    with tempfile.TemporaryDirectory() as folder:
        run([interpreter, "-m", "venv", "--without-pip", folder])
        python = str(Path(folder, "bin", "python"))
        # Wheels only: a device does not compile.
        install = ["install", "--quiet", "--no-compile", "--only-binary", ":all:", f"{wheel}[{extra}]", NUMPYS[numpy]]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--python", python, *install], capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return Trial(**names, error=" ".join(lines)[-300:], installable=False)
        done = subprocess.run(
            [python, "-I", "-c", PROGRAM, EXTRAS[extra]], capture_output=True, text=True, check=False, cwd=folder
        )
        if done.returncode:
            return Trial(**names, error=done.stderr[-2000:])
        return Trial(**names, found=json.loads(done.stdout.splitlines()[-1]))


def tables(results: list[Trial], wheel: Path) -> str:
    lines = [f"Wheel: {wheel.stat().st_size / 1e6:.1f} MB.", ""]
    lines += [
        "| Python | extra | numpy | OpenCV | runtime | moved | self-test |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for trial in results:
        start = f"| {trial.python} | {trial.extra} |"
        if trial.found is None:
            outcome = "did not run" if trial.installable else "no published wheels"
            lines.append(f"{start} {trial.numpy} | – | – | – | {outcome} |")
            continue
        found = trial.found
        lines.append(
            f"{start} {found['numpy']} | {found['opencv']} | {found['runtime']} | {256 * found['moved']:.2f} px | "
            f"{'passed' if found['passed'] else '**failed**'} |"
        )
    newest = {trial.extra: trial.found for trial in results if trial.found is not None}
    for extra, found in newest.items():
        sizes = found["sizes"]
        total = sum(size for _, size in sizes.values())
        lines += [
            "",
            f"[{extra}], numpy {found['numpy']}: {total / 1e6:.0f} MB installed.",
            "",
            "| package | version | MB |",
            "| --- | --- | --- |",
        ]
        for name, (version, size) in sorted(sizes.items(), key=lambda item: -item[1][1]):
            lines.append(f"| {name} | {version} | {size / 1e6:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters to try")
    parser.add_argument("--out", type=Path, help="write the tables there, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        results = []
        for trial in trials(arguments.python, wheel):
            results.append(trial)
            outcome = "ran" if trial.found else trial.error
            print(f"Python {trial.python} [{trial.extra}] numpy {trial.numpy}: {outcome}", file=sys.stderr, flush=True)
        text = tables(results, wheel)
        size_mb = wheel.stat().st_size / 1e6
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)
    if size_mb > MOST_WHEEL_MB:
        raise SystemExit(f"The wheel must have at most {MOST_WHEEL_MB:.0f} MB, it has {size_mb:.1f}.")
    if not all(trial.passed for trial in results):
        raise SystemExit("Not everything that can be installed runs; see the table.")


if __name__ == "__main__":
    main()
