"""Size and hash of a model file, which may be a folder (a CoreML package)."""

from __future__ import annotations

import hashlib
from pathlib import Path


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(part.stat().st_size for part in _parts(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content; of a folder, that of the names and hashes of its files, sorted by name."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for part in _parts(path):
        content = hashlib.sha256(part.read_bytes()).hexdigest()
        whole.update(f"{part.relative_to(path).as_posix()} {content}\n".encode())
    return whole.hexdigest()


def _parts(path: Path) -> list[Path]:
    return sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
