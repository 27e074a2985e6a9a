"""Runs of several processes, killed and resumed: the same weights as one process that is left alone."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from probpose_eval.synth.set import write_synth_set
from probpose_models.checkpoint import load_checkpoint
from probpose_train.config import DataSource, TrainConfig
from probpose_train.run_folder import load_state, read_log
from probpose_train.training_loop import train

pytestmark = pytest.mark.slow

DRIVER = """
import os
import sys
from pathlib import Path
import torch
from probpose_train import TrainConfig, resume, train
torch.set_num_threads(1)
settings, folder = Path(sys.argv[1]), Path(sys.argv[2])
settings.with_name("pid-" + os.environ["RANK"]).write_text(str(os.getpid()))
resume(folder) if sys.argv[3] == "resume" else train(TrainConfig.from_json(settings.read_text()), folder)
"""


def start(tmp_path: Path, folder: Path, what: str) -> subprocess.Popen[bytes]:
    """Two processes on the CPU."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "driver.py"), str(tmp_path / "settings.json"), str(folder), what]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def test_two_processes_killed_and_resumed_give_the_weights_of_one(tmp_path: Path) -> None:
    write_synth_set(tmp_path / "set", count=3, seed=1, width=160, height=160, persons=(1, 1))
    source = DataSource(annotations=str(tmp_path / "set" / "annotations.json"), images=str(tmp_path / "set" / "images"))
    config = TrainConfig(
        sources=(source,),
        val_annotations=source.annotations,
        val_images=source.images,
        input_wh=(96, 128),
        samples=48,
        samples_per_epoch=16,
        batch_size=8,
        device="cpu",
        bf16="off",
    )
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "settings.json").write_text(config.to_json())
    folder = tmp_path / "two"
    process = start(tmp_path, folder, "train")
    deadline = time.monotonic() + 900
    while not (folder / "training_state.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for rank in range(2):
        os.kill(int((tmp_path / f"pid-{rank}").read_text()), signal.SIGKILL)
    assert process.wait(timeout=300) != 0
    step = int(load_state(folder)["step"])
    assert 2 <= step < 6
    assert start(tmp_path, folder, "resume").wait(timeout=900) == 0
    starts = json.loads((folder / "environment.json").read_text())
    assert [entry["from_step"] for entry in starts] == [0, step]
    assert starts[0]["processes"] == 2

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(dataclasses.replace(config, accumulate=2), tmp_path / "one", console=Console(quiet=True))
    finally:
        torch.set_num_threads(threads)
    # Both compute the same parts, and the mean of two gradients has one order only: equal to the last bit, but for the
    # statistics of batch normalisation, which follow both parts in one process and the first in the leading of two.
    one, two = (load_state(tmp_path / name)["model"] for name in ("one", "two"))
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    compared = [name for name in one if not name.endswith(statistics)]
    assert len(compared) > 100
    for name in compared:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=0, msg=name)
    logs = {name: {row["step"]: row for row in read_log(tmp_path / name)} for name in ("one", "two")}
    assert list(logs["one"]) == list(logs["two"]) == [2, 4, 6]
    for number, row in logs["one"].items():
        assert logs["two"][number]["total"] == pytest.approx(row["total"], rel=1e-5)
    load_checkpoint(folder / "best.safetensors")
