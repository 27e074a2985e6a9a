"""Which pictures of a set a model was calibrated on: on those its probabilities look better than they are."""

from __future__ import annotations

import os
from collections.abc import Mapping

from probpose_edge import ModelContract
from probpose_edge.exceptions import InputError
from probpose_eval.annotations.coco import AnnotationSet, image_path, labelled_persons
from probpose_eval.calibration.picture_hashes import PICTURE_HASHES_KEY, SHORT, content_hash

_NAMED = 3
"""File names in the error; the rest is counted."""


def shared_pictures(
    contracts: Mapping[str, ModelContract], annotations: AnnotationSet, images_dir: str | os.PathLike[str]
) -> dict[str, tuple[str, ...]]:
    """Per model the file names of the set's pictures that it was calibrated on, by the content of the files.

    contracts: by any name. Pictures without a labelled person are left out: nothing is judged on them. A cropped or
    otherwise changed version of a picture has another content and is not found: give the set it was made from.

    Raises `AnnotationError` for pictures that are missing.
    """
    known = {name: set(str(each.calibration.get(PICTURE_HASHES_KEY, "")).split()) for name, each in contracts.items()}
    if not any(known.values()):
        return dict.fromkeys(contracts, ())
    entries = [annotations.images[i] for i in dict.fromkeys(p.image_id for p in labelled_persons(annotations))]
    hashes = {each.file_name: content_hash(image_path(images_dir, each).read_bytes())[:SHORT] for each in entries}
    return {name: tuple(file for file, short in hashes.items() if short in own) for name, own in known.items()}


def count_shared_pictures(
    contracts: Mapping[str, ModelContract],
    annotations: AnnotationSet,
    images_dir: str | os.PathLike[str],
    *,
    allow: bool = False,
) -> dict[str, int]:
    """Per model the number of `shared_pictures`.

    Raises `InputError`, naming the first model that has any and the pictures, unless they are allowed.
    """
    shared = shared_pictures(contracts, annotations, images_dir)
    name, files = next(((name, files) for name, files in shared.items() if files), ("", ()))
    if files and not allow:
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        raise InputError(
            f"A model must not be judged on pictures that it was calibrated on, but {name} was calibrated on "
            f"{len(files)} of this set: {', '.join(files[:_NAMED])}{more}. Give other pictures, calibrate it on "
            "others, or add --allow-calibration-pictures, which marks its row."
        )
    return {name: len(files) for name, files in shared.items()}
