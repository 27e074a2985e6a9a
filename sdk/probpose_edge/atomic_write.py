"""Write a file so that it is either the old one or the complete new one. For the packages that write; the SDK reads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name in the folder of `path`, then rename; nothing is left behind on failure."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, permissions_of_new_files())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """The same for UTF-8 text."""
    write_bytes_atomically(path, text.encode("utf-8"))


def permissions_of_new_files() -> int:
    """What this process gives to files that it creates."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
