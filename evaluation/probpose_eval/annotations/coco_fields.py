"""Fields of a decoded JSON document, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import AnnotationError


def integer_field(record: Any, name: str, where: str) -> int:
    """A whole number of a JSON object; `where` names the object in messages. Raises `AnnotationError`."""
    value = record.get(name) if isinstance(record, dict) else None
    if isinstance(value, bool) or not isinstance(value, int):
        raise AnnotationError(f"{name!r} must be a whole number, but {where} has {value!r}. Correct the entry.")
    return value


def number_array(values: Any) -> NDArray[np.float64] | None:
    """(n,) float64 copy of a flat list of numbers, or None if it is anything else."""
    if not isinstance(values, list) or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return None
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return None
