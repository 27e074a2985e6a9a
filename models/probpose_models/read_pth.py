"""Read a published ``.pth`` without executing anything in it."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy._core import multiarray
from torch import Tensor

from probpose_edge.exceptions import CheckpointError

# The description of the data set beside the weights holds small numpy arrays (sigmas, colours). These are the parts of
# an array; rebuilding one runs no code of the file. Older files name numpy's modules without the underscore.
_NUMPY_PARTS: list[Any] = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"},
    *(
        (getattr(multiarray, function), f"{module}.multiarray.{function}")
        for module in ("numpy.core", "numpy._core")
        for function in ("_reconstruct", "scalar")
    ),
]


class PthContent(NamedTuple):
    """Tensors by name in float32 (whole numbers as they are), and the ``meta`` dictionary, empty if there is none."""

    state: dict[str, Tensor]
    meta: dict[str, Any]


def read_pth(path: Path) -> PthContent:
    """Read a file with ``state_dict`` and ``meta``, or with the bare state dictionary; half precision becomes float32.

    Raises `CheckpointError`: missing, truncated or foreign file, one that needs code to be read, or weights that are
    not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"A published checkpoint must be an existing .pth file, got {path}. Check the path.")
    document = _load(path)
    state = document.get("state_dict", document) if isinstance(document, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        found = ", ".join(sorted(map(str, document))[:5]) if isinstance(document, dict) else type(document).__name__
        raise CheckpointError(
            f"A published checkpoint must hold a state_dict of tensors, but {path} holds: {found or 'nothing'}. "
            "Pass the published .pth, or a .safetensors file of this project."
        )
    meta = document.get("meta")
    tensors = {str(name): value.float() if value.is_floating_point() else value for name, value in state.items()}
    spoiled = [name for name, value in tensors.items() if not value.isfinite().all()]
    if spoiled:
        raise CheckpointError(
            f"Weights must be finite, but {path} has NaN or infinity in {', '.join(spoiled[:3])}"
            f"{' …' if len(spoiled) > 3 else ''}. Take a checkpoint from before the training broke."
        )
    return PthContent(tensors, meta if isinstance(meta, dict) else {})


def _load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_NUMPY_PARTS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"(?:GLOBAL|unsupported class|load) (\w+(?:\.\w+)+)", str(error))
        if wanted is None:
            raise _unreadable(path, error) from error
        raise CheckpointError(
            f"A checkpoint must hold weights and plain values only, but {path} asks to run code on loading "
            f"({wanted[1]}), which is refused. Where you trust its origin, load it there with torch and save "
            '{"state_dict": …} alone.'
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, struct.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = re.split(r"\.\s|\n", str(error).strip(), maxsplit=1)[0].rstrip(".")
    if len(reason) < 10 or isinstance(error, pickle.UnpicklingError):
        reason = "it is cut off, or not such a file"
    return CheckpointError(
        f"A published checkpoint must be a complete file written by torch.save; reading {path} failed: {reason}. "
        "Download it again."
    )
