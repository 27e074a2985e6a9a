"""What another person needs to understand a run: where it ran, on which data, and what lies in its folder."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from probpose_edge.atomic_write import write_text_atomically
from probpose_edge.version import __version__
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons
from probpose_train.config import TrainConfig
from probpose_train.distributed import Group
from probpose_train.prepare import Prepared
from probpose_train.run_folder import BEST, CONFIG, CURVES, DATA, ENVIRONMENT, LAST, LOG, MAPS, README, SAMPLES, STATE
from probpose_train.sources import PersonSet


def write_environment(folder: Path, group: Group, step: int) -> None:
    """Add this start, or resume at a step, to ``environment.json``."""
    path = folder / ENVIRONMENT
    starts = json.loads(path.read_text()) if path.exists() else []
    write_text_atomically(path, json.dumps([*starts, describe_environment(group, step)], indent=1))


def describe_environment(group: Group, step: int) -> dict[str, Any]:
    """Versions, machine, command and revision of the code."""
    versions = {"python": platform.python_version(), "probpose-edge": __version__}
    for name in ("torch", "numpy", "opencv-python-headless", "safetensors"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpu = group.device.type == "cuda"
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "from_step": step,
        "command": shlex.join(sys.argv),
        "revision": _git_revision(),
        "versions": versions,
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(group.device) if gpu else "cpu",
        "processes": group.size,
    }


def describe_data(config: TrainConfig, prepared: Prepared) -> dict[str, Any]:
    """Every annotation file with its hash, and what it holds."""
    training = []
    for source, people in zip(config.sources, prepared.stream.sets, strict=True):
        entry: dict[str, Any] = {"annotations": source.annotations, "share": source.share}
        if isinstance(people, PersonSet):
            entry |= {"images": source.images, "sha256": _sha256(source.annotations)}
            entry |= {"persons": len(people), "pictures": len({person.image_id for person in people.persons})}
        training.append(entry)
    paths = {"val": config.val_annotations, "val_crop": config.val_crop_annotations}
    judging = {
        name: {"annotations": paths[name], "sha256": _sha256(paths[name]), **_count(data.annotations)}
        for name, data in prepared.validation.items()
    }
    return {"training": training, "validation": judging}


def write_data(folder: Path, data: dict[str, Any]) -> list[str]:
    """Write ``data.json``, or compare with the one of an earlier start: returns the annotation files that differ."""
    path = folder / DATA
    before = _hashes(json.loads(path.read_text())) if path.exists() else {}
    now = _hashes(data)
    write_text_atomically(path, json.dumps(data, indent=1))
    return sorted(name for name in now if name in before and before[name] != now[name])


def write_readme(folder: Path, config: TrainConfig, rows: list[dict[str, float]]) -> None:
    """``README.md`` of the run: what was trained, how far it is, and what each file is."""
    write_text_atomically(folder / README, readme(config, rows))


def readme(config: TrainConfig, rows: list[dict[str, float]]) -> str:
    """Text of the folder's README; rows are those of the log."""
    sets = "\n".join(f"- {source.annotations}, share {source.share:g}" for source in config.sources)
    lines = [
        f"# Training of {config.model}",
        "",
        f"{config.total_steps} steps of {config.batch_size} samples, reported every {config.steps_per_epoch}. Sets:",
        "",
        sets,
        "",
    ]
    if rows:
        last = rows[-1]
        lines += [f"At step {last['step']:.0f} of {config.total_steps}: " + _figures(last) + ".", ""]
        judged = [row for row in rows if "val_mean_oks" in row]
        if judged:
            name = "val_Ex-AP" if config.select_by == "Ex-AP" else "val_mean_oks"
            best = max(judged, key=lambda row: (row.get(name, -1.0), row["val_mean_oks"]))
            lines += [f"Best by {config.select_by}: step {best['step']:.0f}, " + _figures(best) + ".", ""]
    lines += [
        "| file | what |",
        "| --- | --- |",
        f"| `{BEST}` | averaged weights of the best report by {config.select_by}; without validation, of the last |",
        f"| `{LAST}` | averaged weights of the last report |",
        f"| `{STATE}` | all that `probpose-edge train --out … --resume` needs to go on |",
        f"| `{CONFIG}` | every setting; `{ENVIRONMENT}`: machine, versions and command of each start |",
        f"| `{DATA}` | annotation files with their SHA-256 and what they hold |",
        f"| `{LOG}` | one row per report: learning rate, loss terms (means), validation, samples per second |",
        f"| `{CURVES}` | the log as a picture; `tensorboard/` holds the same |",
        f"| `{SAMPLES}` | the first training crops with their truth. Disc: in the window, white rim where visible; "
        "ring with a cross: known to be outside, drawn on the border next to it; unknown keypoints are not drawn |",
        f"| `{MAPS}` | crops of the validation set (else of training): truth on the left, beside it the maps and "
        "keypoints of the averaged weights at the last report |",
        "",
        "AP, Ex-AP and mean OKS are shares of 1, from true boxes, without flipping.",
        "",
    ]
    return "\n".join(lines)


def _figures(row: dict[str, float]) -> str:
    names = [name for name in row if name == "total" or name.startswith("val")]
    return ", ".join(f"{name} {row[name]:.4g}" for name in names)


def _count(annotations: AnnotationSet) -> dict[str, int]:
    persons = labelled_persons(annotations)
    return {"persons": len(persons), "pictures": len({person.image_id for person in persons})}


def _hashes(data: dict[str, Any]) -> dict[str, str]:
    entries = [*data["training"], *data["validation"].values()]
    return {entry["annotations"]: entry["sha256"] for entry in entries if "sha256" in entry}


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _git_revision() -> str:
    """Revision of the code, with a plus where files were changed; empty outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
