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
