"""Skeletons in small JSON files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probpose_edge.atomic_write import write_text_atomically
from probpose_edge.exceptions import InputError
from probpose_edge.skeletons.skeleton import Skeleton, infer_flip_pairs
from probpose_edge.skeletons.skeleton_presets import PRESETS, known_skeleton

KEYS = ("keypoints", "sigmas", "edges", "flip_pairs")


def read_skeleton(source: str | os.PathLike[str]) -> Skeleton:
    """The preset of this name (``coco-17``, ``mpii-16``, ``crowdpose-14``, ``wholebody-133``), or the skeleton of a
    JSON file::

        {"keypoints": ["nose", "left_hand", "right_hand"],
         "sigmas": [0.026, 0.06, 0.06],
         "edges": [["nose", "left_hand"], ["nose", "right_hand"]],
         "flip_pairs": [["left_hand", "right_hand"]]}

    Pairs are written by name; a flip pair is (left, right). Where the keypoints are those of a preset, the other
    keys may be missing. Else ``sigmas`` must be there, without ``edges`` nothing is joined, and without ``flip_pairs``
    they are read from the names (see `infer_flip_pairs`).

    Raises `InputError` for a file that cannot be read or breaks these rules.
    """
    if str(source) in PRESETS:
        return PRESETS[str(source)]
    path = Path(source)
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"A skeleton is {', '.join(PRESETS)} or a JSON file, but {path} cannot be read: {error.strerror}. "
            "Check the path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"A skeleton file must be JSON, but {path} is not: {error}. Correct it.") from error
    return skeleton_from_document(document, source=str(path))


def skeleton_from_document(document: object, *, source: str = "the skeleton") -> Skeleton:
    """Check an already decoded skeleton document; `source` names it in messages. Errors as `read_skeleton`."""
    if not isinstance(document, dict) or "keypoints" not in document or not set(document) <= set(KEYS):
        came = sorted(document) if isinstance(document, dict) else type(document).__name__
        raise InputError(
            f"A skeleton must be a JSON object with 'keypoints' and optionally {', '.join(KEYS[1:])}, but {source} has "
            f"{came}. Correct it."
        )
    names = document["keypoints"]
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise InputError(
            f"The keypoints of a skeleton must be a list of names, but {source} has {names!r}. Correct them."
        )
    known = known_skeleton(tuple(names))
    sigmas = document.get("sigmas", list(known.sigmas) if known is not None else None)
    if not (isinstance(sigmas, list) and all(type(value) in (int, float) for value in sigmas)):
        raise InputError(
            f"The sigmas of a skeleton must be a list of one number per keypoint ({len(names)}), but {source} has "
            f"{sigmas!r}. Add them; COCO's lie between 0.025 (eyes) and 0.107 (hips)."
        )
    if "edges" in document:
        edges = pairs_by_name(document["edges"], names, "edges", source)
    else:
        edges = known.edges if known is not None else ()
    if "flip_pairs" in document:
        flips = pairs_by_name(document["flip_pairs"], names, "flip_pairs", source)
    else:
        flips = known.flip_pairs if known is not None else infer_flip_pairs(names)
    try:
        return Skeleton(keypoint_names=tuple(names), edges=edges, flip_pairs=flips, sigmas=tuple(map(float, sigmas)))
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def pairs_by_name(pairs: Any, names: Sequence[str], field: str, source: str) -> tuple[tuple[int, int], ...]:
    """Pairs of names as pairs of indices; raises `InputError`."""
    valid = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) and name in names for name in pair)
        for pair in pairs
    )
    if not valid:
        raise InputError(
            f"{field!r} must be pairs of keypoint names, but {source} has {pairs!r}. Write for example "
            f"[[{names[0]!r}, {names[-1]!r}]]."
        )
    return tuple((names.index(a), names.index(b)) for a, b in pairs)


def write_skeleton(path: str | os.PathLike[str], skeleton: Skeleton) -> None:
    """Write a file that `read_skeleton` reads back; it appears only when complete."""
    names = skeleton.keypoint_names
    document = {
        "keypoints": list(names),
        "sigmas": list(skeleton.sigmas),
        "edges": [[names[a], names[b]] for a, b in skeleton.edges],
        "flip_pairs": [[names[a], names[b]] for a, b in skeleton.flip_pairs],
    }
    write_text_atomically(Path(path), json.dumps(document, indent=1))
