"""Files that grow while they are written and appear under their name when they are complete."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from probpose_edge.atomic_write import permissions_of_new_files


class PartFile:
    """A temporary file beside `path`, renamed to it by `finish` and removed by `discard`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        # The suffix is kept: writers of videos choose the format by it.
        handle, temporary = tempfile.mkstemp(
            dir=self.path.parent, prefix=f".{self.path.stem}.", suffix=f".part{self.path.suffix}"
        )
        os.close(handle)
        self.temporary = Path(temporary)

    def finish(self) -> None:
        """Give the file its name; it must have been closed."""
        os.chmod(self.temporary, permissions_of_new_files())
        os.replace(self.temporary, self.path)

    def discard(self) -> None:
        """Remove what was written."""
        self.temporary.unlink(missing_ok=True)
