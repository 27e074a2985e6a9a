"""Example crops that calibration takes ranges from, and others that conversions are compared on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.window import box_to_window, crop_windows
from probpose_eval.annotations.coco import AnnotationSet, read_annotations
from probpose_eval.annotations.crop_set import crop_annotations
from probpose_eval.pictures import read_picture
from probpose_eval.synth import draw_scene

PARITY_CROPS = 16
CALIBRATION_SEED = 20_251
"""Drawn people and crop rectangles for calibration come from this seed, far from those used for evaluation."""

Crops = NDArray[np.uint8]


def read_calibration_crops(
    source: str,
    count: int,
    *,
    input_wh: tuple[int, int] = (192, 256),
    padding: float = 1.25,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Crops, Crops]:
    """Calibration crops (M, H, W, 3) and parity crops (P, H, W, 3), uint8 RGB, from different persons.

    source: ``annotations.json:images/``, or empty for drawn people. Half of the crops of an annotated set show its
    persons in randomly cropped pictures, because what the network sees at a picture's border must be in range too.
    M is at most `count`, fewer if the set has fewer persons. Raises as `read_annotations` and `read_picture`, and
    `InputError` for a source of another form or a set with fewer than two labelled persons.
    """
    report = progress or (lambda done, total: None)
    if not source:
        return _drawn(count + PARITY_CROPS, input_wh, padding, report)
    path, separator, images = source.partition(":")
    if not separator or not images:
        raise InputError(f"A calibration set is written annotations.json:images/, got {source!r}. Name both parts.")
    annotations = read_annotations(path)
    return _annotated(annotations, Path(images), count, input_wh, padding, report)


def _annotated(
    annotations: AnnotationSet,
    images: Path,
    count: int,
    input_wh: tuple[int, int],
    padding: float,
    report: Callable[[int, int], None],
) -> tuple[Crops, Crops]:
    cropped = crop_annotations(annotations, seed=CALIBRATION_SEED)
    jobs = [
        (person, rectangles.get(person.image_id))
        for members, rectangles in ((annotations.persons, {}), (cropped.annotations.persons, cropped.rectangles_xyxy))
        for person in members
        if not person.iscrowd and (person.keypoints[:, 2] > 0).any()
    ]
    if len(jobs) < 2:
        raise InputError("A calibration set needs at least two labelled persons. Give a larger one.")
    order = np.random.default_rng(CALIBRATION_SEED).permutation(len(jobs))[: count + PARITY_CROPS]
    # Whole pictures are read once: jobs are visited picture by picture and put back in their random order.
    crops: dict[int, Crops] = {}
    picture_id, picture = -1, np.empty((0, 0, 3), np.uint8)
    for done, index in enumerate(sorted(order, key=lambda i: jobs[i][0].image_id)):
        person, rectangle = jobs[index]
        if person.image_id != picture_id:
            picture_id, picture = person.image_id, read_picture(images, annotations.images[person.image_id])
        x0, y0, x1, y1 = rectangle or (0, 0, picture.shape[1], picture.shape[0])
        window = box_to_window(person.bbox_xyxy[None], input_wh, padding)
        crops[int(index)] = crop_windows(picture[y0:y1, x0:x1], window, input_wh)[0]
        report(done + 1, len(order))
    stacked = np.stack([crops[int(index)] for index in order])
    kept = min(PARITY_CROPS, len(stacked) // 2)
    return stacked[kept:], stacked[:kept]


def _drawn(
    count: int, input_wh: tuple[int, int], padding: float, report: Callable[[int, int], None]
) -> tuple[Crops, Crops]:
    crops: list[Crops] = []
    index = 0
    while len(crops) < count:
        scene = draw_scene(np.random.default_rng((CALIBRATION_SEED, index)), persons=(1, 2))
        index += 1
        for person in scene.persons:
            window = box_to_window(np.asarray(person.bbox_xyxy, dtype=np.float64)[None], input_wh, padding)
            crops.append(crop_windows(scene.image, window, input_wh)[0])
        report(min(len(crops), count), count)
    stacked = np.stack(crops[:count])
    return stacked[PARITY_CROPS:], stacked[:PARITY_CROPS]
