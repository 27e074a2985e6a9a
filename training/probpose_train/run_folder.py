"""The folder of a run: configuration, log, best and last weights, and what is needed to continue."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from probpose_edge.atomic_write import write_bytes_atomically, write_text_atomically
from probpose_edge.exceptions import TrainingError
from probpose_train.config import TrainConfig
from probpose_train.state_file import read_state, write_state

STATE = "training_state.pt"
CONFIG = "config.json"
BEST = "best.safetensors"
LAST = "last.safetensors"
LOG = "log.csv"
ENVIRONMENT = "environment.json"
DATA = "data.json"
README = "README.md"
CURVES = "curves.png"
SAMPLES = "samples.png"
MAPS = "maps.png"


def refuse_other_run(folder: Path) -> None:
    """Raise `TrainingError` if the folder holds a run already."""
    if (folder / CONFIG).exists() or (folder / STATE).exists():
        raise TrainingError(
            f"A new run needs a folder of its own, but {folder} already holds one. Continue it with --resume, "
            "or choose another --out."
        )


def create_run_folder(folder: Path, config: TrainConfig) -> None:
    """Make the folder and write the configuration; refuses to overwrite another run."""
    refuse_other_run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(folder / CONFIG, config.to_json().encode())


def read_config(folder: Path) -> TrainConfig:
    """Configuration of the run in a folder."""
    try:
        return TrainConfig.from_json((folder / CONFIG).read_text())
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"--resume needs a folder with the {CONFIG} of a run; reading {folder / CONFIG} failed: {error}. "
            "Check the path, or start a new run."
        ) from error


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the training state under its name; see `write_state`."""
    write_state(folder / STATE, state)


def load_state(folder: Path) -> dict[str, Any]:
    """Read the training state; raises as `read_state`."""
    return read_state(
        folder / STATE,
        if_missing="The run stopped before its first checkpoint: start it again.",
        if_damaged=f"Start a new run with --init-from {folder / LAST}.",
    )


def append_log(folder: Path, row: dict[str, float | int]) -> None:
    """Add one line to the CSV log; a new set of columns starts with a header line of its own."""
    path = folder / LOG
    names = list(row)
    header = True
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.startswith("step,")]
        header = not lines or lines[-1].split(",") != names
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        if header:
            writer.writerow(names)
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row.values()])
        file.flush()
        os.fsync(file.fileno())


def drop_log_after(folder: Path, step: int) -> None:
    """Take out the rows of steps that a resumed run is about to repeat."""
    path = folder / LOG
    if not path.exists():
        return
    lines = path.read_text().splitlines()
    kept = [line for line in lines if line.startswith("step,") or int(line.split(",")[0] or 0) <= step]
    if kept != lines:
        write_text_atomically(path, "".join(f"{line}\n" for line in kept))


def read_log(folder: Path) -> list[dict[str, float]]:
    """The rows of the CSV log, each with its own columns; an empty list if there is none."""
    path = folder / LOG
    rows: list[dict[str, float]] = []
    names: list[str] = []
    for cells in csv.reader(path.read_text().splitlines()) if path.exists() else ():
        if cells and cells[0] == "step":
            names = cells
        elif len(cells) == len(names):
            rows.append({name: float(cell) for name, cell in zip(names, cells, strict=True)})
    return rows
