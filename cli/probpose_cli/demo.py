"""`probpose-edge demo`: the whole journey on pictures it draws itself, with the shipped weights."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from probpose_cli.console import out, progress_bar
from probpose_cli.report import make_report
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.draw import draw_poses
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_edge.extras import import_extra
from probpose_edge.poses import Poses
from probpose_edge.sinks.write_picture import write_picture

DRAWN_SEED = 7
"""Pictures of the demo; training and calibration draw from other seeds."""
TILE_WH = (210, 280)
TILES_PER_ROW = 6
BEYOND_BGR = (70, 70, 70)


def command(
    out_dir: Path = typer.Option(Path("demo"), "--out", help="New or empty folder, or the one of an earlier demo."),
    pictures: int = typer.Option(40, min=4, help="Pictures to draw and to evaluate on."),
) -> None:
    """Draw people, convert the shipped weights to three INT8 formats, evaluate them, draw the results."""
    import_extra("The demo's conversion", "torch", "convert")
    from probpose_convert.calibration_crops import read_calibration_crops
    from probpose_convert.convert_all import convert_all
    from probpose_eval import ReportConfig
    from probpose_eval.annotations.crop_set import write_crop_set
    from probpose_eval.synth.set import write_synth_set
    from probpose_models.shipped import shipped_checkpoint

    started = time.monotonic()
    prepare_folder(out_dir)
    checkpoint = shipped_checkpoint()
    with progress_bar("drawing people") as update:
        annotations = write_synth_set(out_dir / "drawn", count=pictures, seed=DRAWN_SEED, progress=update)
    with progress_bar("calibration crops") as update:
        calibration, parity = read_calibration_crops("", 128, progress=update)
    # The first file is the full-precision reference of the report.
    jobs = [("onnx", "fp32"), ("tflite", "fp32"), ("onnx", "int8"), ("tflite", "int8"), ("coreml", "int8")]
    with progress_bar("converting") as update:
        results = convert_all(
            checkpoint, jobs, out_dir / "models", calibration_crops=calibration, parity_crops=parity, progress=update
        )
    files = [result.path for result in results]
    report = make_report(
        files,
        annotations,
        out_dir / "drawn" / "images",
        out_dir,
        config=ReportConfig(latency_rounds=20, command="probpose-edge demo"),
    )
    write_crop_set(annotations, out_dir / "drawn" / "images", out_dir / "cropped", seed=0)
    with PoseEstimator.open(files[2]) as estimator:
        sheet = contact_sheet(estimator, [out_dir / "drawn", out_dir / "cropped"])
    write_picture(out_dir / "poses.png", sheet)
    for file in report.files:
        out.print(f"{file.label}: {file.verdict}")
    out.print(f"{out_dir / 'report.html'} and {out_dir / 'poses.png'}, made in {time.monotonic() - started:.0f} s")


def prepare_folder(out_dir: Path) -> None:
    """Make the folder; one of an earlier demo is emptied, anything else is refused."""
    import shutil

    mark = out_dir / ".probpose-edge-demo"
    if out_dir.exists() and any(out_dir.iterdir()):
        if not mark.exists():
            raise InputError(
                f"The demo needs a new or empty folder, but {out_dir} holds other files. Choose another --out."
            )
        for child in out_dir.iterdir():
            if child != mark:
                shutil.rmtree(child) if child.is_dir() else child.unlink()
    out_dir.mkdir(parents=True, exist_ok=True)
    mark.touch()


def contact_sheet(estimator: PoseEstimator, folders: list[Path]) -> NDArray[np.uint8]:
    """One row per set: its largest persons in pictures of one person, with their poses from the true boxes."""
    from probpose_eval.annotations.coco import labelled_persons, read_annotations
    from probpose_eval.pictures import read_picture

    rows = []
    for folder in folders:
        data = read_annotations(folder / "annotations.json")
        people = labelled_persons(data)
        count = Counter(person.image_id for person in people)
        chosen = sorted(people, key=lambda person: (count[person.image_id], -person.area))[:TILES_PER_ROW]
        tiles = []
        for person in chosen:
            image = read_picture(folder / "images", data.images[person.image_id])
            tiles.append(window_tile(image, estimator(image, person.bbox_xyxy), estimator.contract))
        rows.append(np.hstack(tiles + [np.zeros_like(tiles[0])] * (TILES_PER_ROW - len(tiles))))
    return np.vstack(rows).astype(np.uint8)


def window_tile(image_bgr: NDArray[np.uint8], poses: Poses, contract: ModelContract) -> NDArray[np.uint8]:
    """The activation window of the first person with its pose; what lies beyond the picture is grey."""
    center_x, center_y, width, height = poses.windows[0]
    margin = int(max(width, height)) + 1
    canvas = cv2.copyMakeBorder(image_bgr, *[margin] * 4, cv2.BORDER_CONSTANT, value=BEYOND_BGR)
    shifted = dataclasses.replace(
        poses, keypoints=poses.keypoints + margin, windows=poses.windows + np.array([margin, margin, 0, 0])
    )
    drawn = draw_poses(canvas.astype(np.uint8), shifted, contract)
    left, top = int(center_x - width / 2) + margin, int(center_y - height / 2) + margin
    cut = drawn[max(top, 0) : top + int(height), max(left, 0) : left + int(width)]
    return cv2.resize(cut, TILE_WH, interpolation=cv2.INTER_AREA).astype(np.uint8)
