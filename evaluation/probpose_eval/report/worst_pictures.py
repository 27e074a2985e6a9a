"""The pictures on which files differ most from the reference, drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2

from probpose_edge.skeletons.skeleton import Skeleton
from probpose_eval.calibration.score_files import ScoredFiles
from probpose_eval.evaluation_set import EvaluationSet
from probpose_eval.observations.drift import PictureDrift
from probpose_eval.report.draw_drift import draw_drift
from probpose_eval.report.report import Report

_HEIGHT_PX = 280
_JPEG_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class WorstPicture:
    """One picture for one file: where it is from, how far the two models differ there, and the drawing as JPEG."""

    label: str
    set_name: str
    drift: PictureDrift
    jpeg: bytes


def draw_worst(
    report: Report,
    sets: Mapping[str, EvaluationSet],
    scored: Mapping[str, ScoredFiles],
    skeleton: Skeleton,
    *,
    count: int,
) -> tuple[WorstPicture, ...]:
    """The `count` worst pictures over all files and sets (by name), the worst first; each person once."""
    found = [
        (picture.agreement, index, name, picture)
        for index, file in enumerate(report.files)
        for name, scores in file.sets().items()
        if scores.drift is not None
        for picture in scores.drift.worst_pictures
    ]
    base = next(index for index, file in enumerate(report.files) if file.label == report.protocol.reference)
    seen: set[tuple[str, int]] = set()
    drawn: list[WorstPicture] = []
    for _, index, name, picture in sorted(found, key=lambda each: each[0]):
        if len(drawn) == count or (name, picture.annotation_id) in seen:
            continue
        seen.add((name, picture.annotation_id))
        observations = scored[name].observations
        drawing = draw_drift(
            sets[name].annotations,
            sets[name].images_dir,
            picture,
            observations[base],
            observations[index],
            skeleton,
            height_px=_HEIGHT_PX,
        )
        _, jpeg = cv2.imencode(".jpg", drawing, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        drawn.append(WorstPicture(label=report.files[index].label, set_name=name, drift=picture, jpeg=jpeg.tobytes()))
    return tuple(drawn)
