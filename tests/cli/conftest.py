"""Run the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from probpose_cli.main import run
from probpose_eval.synth.set import write_synth_set


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Call with arguments; returns exit code and both streams."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["probpose-edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run()
        streams = capsys.readouterr()
        return Outcome(int(stopped.value.code or 0), streams.out, streams.err)

    return call


@pytest.fixture(scope="session")
def drawn_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of six drawn pictures: annotations.json and images/."""
    folder = tmp_path_factory.mktemp("cli") / "drawn"
    write_synth_set(folder, count=6, seed=3, width=320, height=320, persons=(1, 2))
    return folder
