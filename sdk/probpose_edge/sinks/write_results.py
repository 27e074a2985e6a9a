"""Write the poses of many frames: JSON lines, or one COCO result file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.poses import Poses
from probpose_edge.sinks.coco_results import poses_to_coco
from probpose_edge.sinks.part_file import PartFile
from probpose_edge.sources.frames import Frame

Identities = NDArray[np.int64] | None
"""(N,) identities of the persons of a frame, None if they were not tracked."""


class _TextSink:
    """A text file that appears when it is complete, or a stream of the caller's, which is left open."""

    _first, _last = "", ""

    def __init__(self, target: str | os.PathLike[str] | TextIO) -> None:
        self._part: PartFile | None = None
        if isinstance(target, (str, os.PathLike)):
            self._part = PartFile(target)
            self._stream: TextIO = open(self._part.temporary, "w", encoding="utf-8")  # noqa: SIM115
        else:
            self._stream = target
        self._open = True
        self._stream.write(self._first)

    def _write(self, text: str) -> None:
        if not self._open:
            raise InputError("This result file was closed. Open another one for more frames.")
        self._stream.write(text)

    def close(self) -> None:
        """Complete the file and give it its name; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        self._stream.write(self._last)
        self._stream.flush()
        if self._part is not None:
            self._stream.close()
            self._part.finish()

    def discard(self) -> None:
        """Remove what was written, if it is not complete yet."""
        if self._open and self._part is not None:
            self._stream.close()
            self._part.discard()
        self._open = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()


class JsonLines(_TextSink):
    """One line of JSON per frame, written as soon as it is known: see `frame_record`.

    target: a path, whose file appears when it is complete, or an open text stream such as ``sys.stdout``, which gets
        every line at once and is not closed.
    """

    def __enter__(self) -> JsonLines:
        return self

    def write(self, frame: Frame, poses: Poses, identities: Identities = None) -> None:
        """Write the persons of one frame."""
        self._write(json.dumps(frame_record(frame, poses, identities)) + "\n")
        self._stream.flush()


class CocoResults(_TextSink):
    """COCO keypoint results of all frames, one JSON array, as `poses_to_coco` makes them.

    Each has ``file_name`` besides, and ``frame``, ``time_s`` and ``track_id`` where they are known. ``image_id`` counts
    the frames as they are written, over all sources; `image_id_of` may give another.

    target: a path, whose file appears when it is complete, or an open text stream, which is not closed.
    """

    _first, _last = "[", "]"

    def __init__(
        self,
        target: str | os.PathLike[str] | TextIO,
        *,
        image_id_of: Callable[[Frame], int] | None = None,
    ) -> None:
        super().__init__(target)
        self._image_id_of = image_id_of
        self.frames = 0
        """Number of frames so far."""
        self.count = 0
        """Number of results so far."""

    def __enter__(self) -> CocoResults:
        return self

    def write(self, frame: Frame, poses: Poses, identities: Identities = None) -> None:
        """Write the persons of one frame."""
        image_id = self.frames if self._image_id_of is None else self._image_id_of(frame)
        self.frames += 1
        place: dict[str, Any] = {"file_name": frame.path.name if frame.path else frame.name}
        if frame.time_s or frame.index:
            place |= {"frame": frame.index, "time_s": round(frame.time_s, 6)}
        for person, result in enumerate(poses_to_coco(poses, image_id)):
            tracked = {} if identities is None else {"track_id": int(identities[person])}
            self._write((", " if self.count else "") + json.dumps({**result, **place, **tracked}))
            self.count += 1


def frame_record(frame: Frame, poses: Poses, identities: Identities = None) -> dict[str, Any]:
    """The persons of one frame as plain Python, ready for `json.dumps`.

    ``frame``, ``time_s``, ``source``, ``size`` [width, height] and ``persons``, of which each has ``id`` if it is
    tracked, ``score``, ``box`` [x1, y1, x2, y2], and K values each of ``keypoints`` [x, y] in image pixels,
    ``present``, ``presence``, ``visibility`` and ``quality``. An absent keypoint keeps its best
    guess and has ``present`` false.
    """
    persons = []
    for person in range(len(poses)):
        record: dict[str, Any] = {} if identities is None else {"id": int(identities[person])}
        record |= {"score": float(poses.scores[person]), "box": _rounded(poses.boxes[person], 2)}
        record |= {"keypoints": _rounded(poses.keypoints[person], 2), "present": poses.present[person].tolist()}
        for name in ("presence", "visibility", "quality"):
            record[name] = _rounded(getattr(poses, name)[person], 4)
        persons.append(record)
    return {
        "frame": frame.index,
        "time_s": round(frame.time_s, 6),
        "source": str(frame.path) if frame.path else frame.name.partition(" #")[0],
        "size": [frame.image.shape[1], frame.image.shape[0]],
        "persons": persons,
    }


def _rounded(values: NDArray[np.floating], digits: int) -> Any:
    return np.round(values.astype(np.float64), digits).tolist()
