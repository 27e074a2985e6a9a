"""Which pictures two sets share: what was trained on must not be judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from probpose_eval.checks.check_findings import Findings
from probpose_eval.checks.check_pictures import CheckedPicture

ALIKE_BITS = 4
"""Pictures whose looks differ in at most so many of 64 bits are near-duplicates."""
_ROWS_AT_ONCE = 256


def check_leakage(one: Sequence[CheckedPicture], other: Sequence[CheckedPicture], findings: Findings) -> None:
    """Note pictures with the same content, of the same name, or that look alike, in two sets.

    The same content is broken. So is the same name on pictures that look alike; on others it is a remark (a cropped
    version, or files that are just numbered), and so are near-duplicates with different names.
    """
    by_content = {picture.content: picture for picture in other}
    by_name = {PurePosixPath(picture.file_name).name: picture for picture in other}
    rest = []
    for picture in one:
        same, named = by_content.get(picture.content), by_name.get(PurePosixPath(picture.file_name).name)
        if same is not None:
            findings.broken("leakage: the same picture", f"{picture.file_name} and {same.file_name}")
        elif named is not None:
            alike = (picture.look ^ named.look).bit_count() <= ALIKE_BITS
            (findings.broken if alike else findings.remark)(
                "leakage: the same name and look" if alike else "the same name, another picture", picture.file_name
            )
        else:
            rest.append(picture)
    for a, b in _near_duplicates(rest, other):
        findings.remark("leakage: pictures that look alike", f"{a.file_name} and {b.file_name}")


def _near_duplicates(
    one: Sequence[CheckedPicture], other: Sequence[CheckedPicture]
) -> list[tuple[CheckedPicture, CheckedPicture]]:
    """Pairs that look alike; pictures with next to no structure are left out, because they all do."""
    one, other = [p for p in one if _has_structure(p)], [p for p in other if _has_structure(p)]
    looks = _bits(other)
    pairs = []
    for first in range(0, len(one), _ROWS_AT_ONCE):
        part = one[first : first + _ROWS_AT_ONCE]
        # Bits as ±1: their product counts equal bits minus different ones.
        for a, b in zip(*np.nonzero(_bits(part) @ looks.T >= 64 - 2 * ALIKE_BITS), strict=True):
            pairs.append((part[a], other[b]))
    return pairs


def _has_structure(picture: CheckedPicture) -> bool:
    return 8 <= picture.look.bit_count() <= 56


def _bits(pictures: Sequence[CheckedPicture]) -> NDArray[np.float32]:
    """(N, 64) looks as -1 and 1."""
    looks = np.array([picture.look for picture in pictures], dtype=np.uint64)
    bits = (looks[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    return bits.astype(np.float32) * 2 - 1
