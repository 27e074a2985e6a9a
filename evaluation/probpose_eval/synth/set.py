"""Write a data set of drawn people in COCO keypoints form."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.skeletons.skeleton import COCO_17, Skeleton
from probpose_eval.annotations.windows import inside_windows, person_windows
from probpose_eval.synth.scene import DrawnPerson, draw_scene

_JPEG_QUALITY = 92


def write_synth_set(
    out_dir: str | os.PathLike[str],
    *,
    count: int,
    seed: int = 0,
    width: int = 640,
    height: int = 480,
    persons: tuple[int, int] = (1, 3),
    cut_share: float = 0.3,
    occluder_share: float = 0.35,
    image_format: str = "jpg",
    skeleton: Skeleton = COCO_17,
    padding: float = 1.25,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw `count` pictures into `out_dir/images` and their truth into `out_dir/annotations.json`.

    Picture `i` depends on `(seed, i)` and the drawing options alone, so that a longer set begins with a shorter one.
    The folder appears whole or not at all: everything is written beside it and renamed at the end.

    Visibility in the file follows CropCOCO (ProbPose, section 4): a keypoint outside the activation window of its
    box (the box enlarged to 3:4, then by `padding`) has v = 3 and place (0, 0). One inside the window has its true
    place, v = 2 if it can be seen and else v = 1: also where the place lies beyond the border of the picture, which is
    what teaches a map to point out of the picture. `num_keypoints` counts v 1 and 2.

    Parameters
    ----------
    out_dir: must not exist yet, or be an empty folder.
    count: number of pictures, at least 1.
    seed: a non-negative whole number.
    width, height, persons, cut_share, occluder_share: see `draw_scene`.
    image_format: "jpg" or "png".
    skeleton: the keypoints to write, among those of `draw_scene`; the category carries all of it.
    padding: activation window over the box; 1.25 × 1.25 for models that look beyond the crop.
    progress: called with (done, total) pictures.

    Returns the path of `annotations.json`.

    Raises
    ------
    InputError: an argument breaks these rules, or drawn people lack a keypoint of the skeleton.
    OSError: the disk is full, or the folder cannot be written.
    """
    target = Path(out_dir)
    _check(target, count, seed, image_format, padding)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent, suffix=".tmp"))
    try:
        os.chmod(work, 0o755)  # mkdtemp makes folders that only the owner can read
        (work / "images").mkdir()
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if image_format == "jpg" else []
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            scene = draw_scene(
                np.random.default_rng([seed, index]),
                width=width,
                height=height,
                persons=persons,
                cut_share=cut_share,
                occluder_share=occluder_share,
                keypoint_names=skeleton.keypoint_names,
            )
            name = f"{index + 1:06d}.{image_format}"
            # Encoded first and written by Python: a full disk is an OSError here, which cv2.imwrite may miss.
            _, code = cv2.imencode(f".{image_format}", scene.image, quality)
            (work / "images" / name).write_bytes(code.tobytes())
            images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
            annotations += [
                {"id": len(annotations) + 1 + n, "image_id": index + 1, **_annotation(person, padding)}
                for n, person in enumerate(scene.persons)
            ]
            if progress is not None:
                progress(index + 1, count)
        document = {
            "info": {"description": "Drawn people with full truth", "seed": seed},
            "images": images,
            "annotations": annotations,
            "categories": [_category(skeleton)],
        }
        (work / "annotations.json").write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
        if target.exists():
            target.rmdir()  # empty, as checked; a folder cannot be renamed over another on every system
        os.replace(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return target / "annotations.json"


def _check(target: Path, count: int, seed: int, image_format: str, padding: float) -> None:
    if not isinstance(count, (int, np.integer)) or count < 1:
        raise InputError(f"count must be a whole number of at least 1, got {count!r}. Choose for example 100.")
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed must be a whole number, at least 0, got {seed!r}. Choose for example 0.")
    if image_format not in ("jpg", "png"):
        raise InputError(f'image_format must be "jpg" or "png", got {image_format!r}. Choose one of them.')
    if not 0.5 <= padding <= 10:
        raise InputError(f"padding must lie in [0.5, 10], got {padding!r}. Choose for example 1.25.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"The output folder must be new or empty, but {target} is not. Choose another, or remove it.")


def _annotation(person: DrawnPerson, padding: float) -> dict[str, Any]:
    keypoints = windowed_keypoints(person, padding)
    x0, y0, x1, y1 = (float(value) for value in person.bbox_xyxy)
    return {
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": person.area,
        "num_keypoints": int(np.isin(keypoints[:, 2], (1, 2)).sum()),
        "keypoints": [int(v) if i % 3 == 2 else round(float(v), 2) for i, v in enumerate(keypoints.reshape(-1))],
    }


def windowed_keypoints(person: DrawnPerson, padding: float = 1.25) -> NDArray[np.float64]:
    """(K, 3): the keypoints of `person` with v = 3 and place (0, 0) outside the activation window of its box."""
    keypoints = person.keypoints.copy()
    inside = inside_windows(keypoints[None, :, :2], person_windows(person.bbox_xyxy[None], padding=padding))[0]
    keypoints[~inside] = (0.0, 0.0, 3.0)
    return keypoints


def _category(skeleton: Skeleton) -> dict[str, Any]:
    names = skeleton.keypoint_names
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(names),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.edges],
        "sigmas": list(skeleton.sigmas),
        "flip_pairs": [[names[a], names[b]] for a, b in skeleton.flip_pairs],
    }
