"""The examples run as their READMEs say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_quickstart_draws_its_own_picture(tmp_path: Path) -> None:
    script = EXAMPLES / "quickstart" / "quickstart.py"
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not in view" in done.stdout
    assert "px" in done.stdout
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000


def test_safety_zone_stops_where_it_should(tmp_path: Path) -> None:
    script = EXAMPLES / "safety-zone" / "safety_zone.py"
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = [line.strip() for line in done.stdout.splitlines() if line.startswith("  the robot")]
    assert answers == ["the robot may move", "the robot STOPS", "the robot STOPS"]
    for name in ("far", "near", "cut"):
        assert (tmp_path / f"safety-zone-{name}.png").stat().st_size > 10_000
    picture = tmp_path / "safety-zone-far.png"
    command = [sys.executable, str(script), str(picture), "--box", "257,51,474,448", "--zone", "0,0", "9,9"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "A polygon must have shape (P, 2) with at least 3 corners" in refused.stderr
    command += ["90,9", "--risk", "0.2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "the robot may move" in done.stdout
