"""Collected samples on the disk: running both members takes longer than training, and is done once."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probpose_edge.atomic_write import write_bytes_atomically
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_train.config import DataSource
from probpose_train.router_samples import RouterSamples

_PLANE = "plane_"
_FIGURES = ("small_okd", "large_okd", "small_oks", "large_oks", "pictures")


def samples_key(
    small: PoseEstimator,
    large: PoseEstimator,
    sources: Sequence[DataSource],
    *,
    samples: int,
    seed: int,
    files: Sequence[Path],
    passes: str,
) -> str:
    """Hash of all that samples depend on: bytes of the members' `files`, their contracts, annotations, settings."""
    parts: list[str] = [small.contract.to_json(), large.contract.to_json(), passes, f"{samples} {seed}"]
    for file in files:
        members = sorted(file.rglob("*")) if file.is_dir() else [file]
        parts += [hashlib.sha256(part.read_bytes()).hexdigest() for part in members if part.is_file()]
    for source in sources:
        parts.append(f"{source.share} {hashlib.sha256(Path(source.annotations).read_bytes()).hexdigest()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def save_samples(path: Path, samples: RouterSamples, key: str) -> None:
    """Write samples to an .npz file that appears complete or not at all."""
    arrays: dict[str, Any] = {name: getattr(samples, name) for name in _FIGURES}
    arrays |= {f"{_PLANE}{width}x{height}": plane for (width, height), plane in samples.planes.items()}
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, key=np.array(key), **arrays)
    write_bytes_atomically(path, content.getvalue())


def load_samples(path: Path, key: str) -> RouterSamples | None:
    """Samples of that key; None if there is no such file or it was collected of something else.

    Raises `InputError` for a file that is damaged or no cache of samples.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            planes = {
                (int(name.removeprefix(_PLANE).split("x")[0]), int(name.split("x")[-1])): stored[name]
                for name in stored.files
                if name.startswith(_PLANE)
            }
            return RouterSamples(planes=planes, **{name: stored[name] for name in _FIGURES})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"The targets of a router must be a complete .npz that `probpose-edge router` wrote, but reading {path} "
            f"failed: {error}. Delete it to collect them again."
        ) from error
