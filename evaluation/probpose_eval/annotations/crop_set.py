"""Make a CropCOCO of one's own: cut the pictures of an annotated set so that known keypoints end up out of view.

The paper (section 4.2, appendix A) crops COCO pictures at random and recomputes the boxes; what it crops with is not
published, so the recipe here is ours, chosen so that the shares of `domain_shares` come near the paper's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import AnnotationError, InputError
from probpose_eval.annotations.coco import AnnotationSet, ImageEntry, Person, annotations_to_document, read_annotations
from probpose_eval.annotations.windows import inside_windows, person_windows
from probpose_eval.metrics.domain_areas import AREAS, areas_of_keypoints, points_between
from probpose_eval.pictures import read_picture


@dataclass(frozen=True, kw_only=True)
class CropRecipe:
    """How the rectangle of one picture is drawn.

    One labelled person of the picture is chosen; one edge of the picture moves into this person's box, so that a share
    of the box, uniform in `lost_share`, is cut off. With probability `sideways` the left or right edge moves, else the
    top or bottom one. On 538 completely annotated pictures of COCO val2017 (1,354 labelled persons) the defaults give
    domain shares A to E of 68.0, 2.3, 22.1, 0.0, 7.5 percent; the paper's CropCOCO has 68.8, 2.2, 23.5, 0.1, 5.3.

    A person stays if at least `min_kept_share` of the box and `min_side_px` of both its sides are left; one whose box
    stays but none of whose labelled keypoints do is kept without labels, which the metric ignores. A rectangle must be
    `min_image_side_px` long on both sides (or as long as the picture) and leave a labelled person; it is drawn again
    up to `attempts` times, then the picture is left out. So are pictures without any labelled person.

    padding, input_wh: of the activation window, outside of which keypoints lose their place. For models with larger
    windows than the usual 1.25 (a contract's `activation_padding`) give the largest, or what they look for is lost.
    """

    lost_share: tuple[float, float] = (0.3, 0.7)
    sideways: float = 0.9
    min_kept_share: float = 0.1
    min_side_px: float = 8.0
    min_image_side_px: int = 64
    attempts: int = 20
    input_wh: tuple[int, int] = (192, 256)
    padding: float = 1.25

    def __post_init__(self) -> None:
        low, high = self.lost_share
        if not 0 <= low <= high < 1:
            raise InputError(f"lost_share must lie in [0, 1), got {self.lost_share}. Use for example (0.3, 0.7).")
        for name in ("sideways", "min_kept_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {getattr(self, name)}. Give a share.")
        for name in ("min_side_px", "min_image_side_px", "attempts", "padding"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}. Give a larger number.")


@dataclass(frozen=True, kw_only=True, eq=False)
class CropSet:
    """A cropped set: its annotations and, per image id, the whole-pixel rectangle x0, y0, x1, y1 it shows."""

    annotations: AnnotationSet
    rectangles_xyxy: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)


def crop_annotations(annotations: AnnotationSet, *, seed: int, recipe: CropRecipe | None = None) -> CropSet:
    """Crop every picture of a set on paper; deterministic for a seed, each picture independent of the others.

    Boxes are clipped to the rectangle and areas scaled by the kept share of the box (segmentations are dropped).
    Labelled keypoints outside the activation window of the clipped box get v = 3 and (0, 0), as in CropCOCO; those
    outside the picture but inside the window keep v and their place, which may be negative. ``num_keypoints`` counts
    v = 1 and 2. Image entries get ``crop_xyxy``, their rectangle in the source picture.

    Raises `InputError` for a negative seed.
    """
    if seed < 0:
        raise InputError(f"The seed must be a whole number of at least 0, got {seed}. Use for example 0.")
    recipe = recipe or CropRecipe()
    images: dict[int, ImageEntry] = {}
    persons: list[Person] = []
    rectangles: dict[int, tuple[int, int, int, int]] = {}
    for image_id, group in annotations.persons_of().items():
        entry = annotations.images[image_id]
        rng = np.random.default_rng((seed, image_id % 2**64))
        drawn = _crop_image(entry, group, rng, recipe)
        if drawn is None:
            continue
        rectangle, kept = drawn
        x0, y0, x1, y1 = rectangle
        images[image_id] = dataclasses.replace(
            entry, width=x1 - x0, height=y1 - y0, extra={**entry.extra, "crop_xyxy": list(rectangle)}
        )
        rectangles[image_id] = rectangle
        persons.extend(kept)
    order = {person.id: index for index, person in enumerate(annotations.persons)}
    persons.sort(key=lambda person: order[person.id])
    info = {**annotations.info, "crop_seed": seed, "crop_recipe": dataclasses.asdict(recipe)}
    cropped = dataclasses.replace(annotations, images=images, persons=tuple(persons), info=info)
    return CropSet(annotations=cropped, rectangles_xyxy=rectangles)


def write_crop_set(
    annotations_path: str | os.PathLike[str],
    images_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    seed: int,
    recipe: CropRecipe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CropSet:
    """Write a cropped set: ``out_dir/annotations.json`` and the pictures in ``out_dir/images``.

    Pictures keep their names; JPEG is written with quality 95. `progress` is called with (done, total) pictures.
    `out_dir` must be new or empty, and appears only when everything is written. Raises `InputError` for another
    `out_dir`, `AnnotationError` for bad annotations or pictures that do not match them, `ImageReadError` for
    unreadable ones.
    """
    out = Path(out_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"The output folder of a cropped set must be new or empty, but {out} is not. Choose another.")
    source = read_annotations(annotations_path)
    crop_set = crop_annotations(source, seed=seed, recipe=recipe)
    if not crop_set.annotations.images:
        raise AnnotationError(
            f"A cropped set needs pictures with labelled persons, but {annotations_path} has none that can be cropped. "
            "Give a set with labelled keypoints."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp"))
    try:
        total = len(crop_set.rectangles_xyxy)
        for done, (image_id, (x0, y0, x1, y1)) in enumerate(crop_set.rectangles_xyxy.items(), start=1):
            picture = read_picture(images_dir, source.images[image_id])
            _write_picture(temporary / "images" / source.images[image_id].file_name, picture[y0:y1, x0:x1])
            if progress is not None:
                progress(done, total)
        document = annotations_to_document(crop_set.annotations)
        (temporary / "annotations.json").write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
        os.chmod(temporary, 0o755)
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return crop_set


def domain_shares(
    annotations: AnnotationSet, *, input_wh: tuple[int, int] = (192, 256), padding: float = 1.25
) -> dict[str, float]:
    """Percent of the labelled keypoints in each area of appendix A: the domain of a set, as in table 3 of the paper.

    See `areas_of_keypoints`. Crowds are left out.
    """
    persons = [p for p in annotations.persons if not p.iscrowd]
    areas = areas_of_keypoints(annotations, persons, input_wh=input_wh, padding=padding)
    counts = {area: int((areas == area).sum()) for area in AREAS}
    total = max(sum(counts.values()), 1)
    return {area: 100 * count / total for area, count in counts.items()}


def _crop_image(
    entry: ImageEntry, group: tuple[Person, ...], rng: np.random.Generator, recipe: CropRecipe
) -> tuple[tuple[int, int, int, int], list[Person]] | None:
    targets = [p for p in group if not p.iscrowd and _labelled(p).any() and _box_area(p.bbox_xyxy) > 0]
    if not targets:
        return None
    shortest = np.minimum(recipe.min_image_side_px, [entry.width, entry.height])
    for _ in range(recipe.attempts):
        rectangle = _draw_rectangle(entry, targets[rng.integers(len(targets))].bbox_xyxy, rng, recipe)
        if (rectangle[2:] - rectangle[:2] < shortest).any():
            continue
        kept = [cropped for p in group if (cropped := _crop_person(p, rectangle, recipe)) is not None]
        if any(p.num_keypoints > 0 and not p.iscrowd for p in kept):
            x0, y0, x1, y1 = rectangle.tolist()
            return (x0, y0, x1, y1), kept
    return None


def _draw_rectangle(
    entry: ImageEntry, box_xyxy: NDArray[np.float64], rng: np.random.Generator, recipe: CropRecipe
) -> NDArray[np.int64]:
    rectangle = np.array([0, 0, entry.width, entry.height], dtype=np.int64)
    axis = 0 if rng.random() < recipe.sideways else 1
    lost = rng.uniform(*recipe.lost_share) * (box_xyxy[2 + axis] - box_xyxy[axis])
    limit = entry.height if axis else entry.width
    if rng.random() < 0.5:
        rectangle[axis] = np.clip(round(box_xyxy[axis] + lost), 0, limit)
    else:
        rectangle[2 + axis] = np.clip(round(box_xyxy[2 + axis] - lost), 0, limit)
    return rectangle


def _crop_person(person: Person, rectangle: NDArray[np.int64], recipe: CropRecipe) -> Person | None:
    low, high = rectangle[:2], rectangle[2:]
    box = np.concatenate(
        [np.maximum(person.bbox_xyxy[:2], low) - low, np.minimum(person.bbox_xyxy[2:], high) - low]
    ).astype(np.float64)
    sides = box[2:] - box[:2]
    whole = _box_area(person.bbox_xyxy)
    kept_share = float(sides[0] * sides[1] / whole) if whole > 0 else 0.0
    if (sides < recipe.min_side_px).any() or kept_share < recipe.min_kept_share:
        return None
    keypoints = person.keypoints.copy()
    labelled = _labelled(person)
    keypoints[labelled, :2] -= low
    in_picture = points_between(keypoints[:, :2], np.zeros(2), high - low)
    window = person_windows(box[None], input_wh=recipe.input_wh, padding=recipe.padding)
    in_window = inside_windows(keypoints[None, :, :2], window)[0]
    keypoints[labelled & ~in_window] = (0, 0, 3)
    if not (labelled & in_picture & in_window).any():
        keypoints[:] = 0
    box.flags.writeable = False
    keypoints.flags.writeable = False
    dropped = ("segmentation", "area_source")
    return dataclasses.replace(
        person,
        bbox_xyxy=box,
        area=person.area * kept_share,
        keypoints=keypoints,
        num_keypoints=int(np.isin(keypoints[:, 2], (1, 2)).sum()),
        extra={name: value for name, value in person.extra.items() if name not in dropped},
    )


def _labelled(person: Person) -> NDArray[np.bool_]:
    return np.isin(person.keypoints[:, 2], (1, 2))


def _box_area(box_xyxy: NDArray[np.float64]) -> float:
    return float(np.prod(np.maximum(box_xyxy[2:] - box_xyxy[:2], 0)))


def _write_picture(path: Path, picture_bgr: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    parameters = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix in (".jpg", ".jpeg") else []
    try:
        done, encoded = cv2.imencode(suffix, picture_bgr, parameters)
    except cv2.error:
        done = False
    if not done:
        raise AnnotationError(
            f"Pictures must have a name that ends in a format that can be written, such as .jpg or .png, but one is "
            f"called {path.name}. Rename it in the set."
        )
    path.write_bytes(encoded.tobytes())
