"""`probpose-edge demo`: the whole journey on pictures it draws itself, with the shipped weights."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from probpose_cli.console import out, progress_bar
from probpose_cli.pictures import write_picture
from probpose_cli.report import DEFAULT_MAX_DROP, make_report
from probpose_edge.draw import draw_poses
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_edge.extras import import_extra

DRAWN_SEED = 7
"""Pictures of the demo; training and calibration draw from other seeds."""
TILE_WH = (320, 240)


def command(
    out_dir: Path = typer.Option(Path("demo"), "--out", help="New or empty folder, or the one of an earlier demo."),
    pictures: int = typer.Option(40, min=4, help="Pictures to draw and to evaluate on."),
) -> None:
    """Draw people, convert the shipped weights to three INT8 formats, evaluate them, draw the results."""
    import_extra("The demo's conversion", "torch", "convert")
    from probpose_convert.calibration_crops import read_calibration_crops
    from probpose_convert.convert_all import convert_all
    from probpose_eval.synth_set import write_synth_set
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
        crop_seed=0,
        max_drop=DEFAULT_MAX_DROP,
        definition="paper",
        threads=1,
        latency_rounds=20,
        typed="probpose-edge demo",
    )
    images = sorted((out_dir / "drawn" / "images").iterdir())
    int8_onnx = files[2]
    with PoseEstimator.open(int8_onnx) as estimator:
        sheet = contact_sheet(estimator, annotations, images[:12])
    write_picture(out_dir / "poses.png", sheet)
    for file in report.files:
        out.print(f"{file.label}: {file.verdict}")
    out.print(f"{out_dir / 'report.md'} and {out_dir / 'poses.png'}, made in {time.monotonic() - started:.0f} s")


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


def contact_sheet(estimator: PoseEstimator, annotations: Path, images: list[Path]) -> NDArray[np.uint8]:
    """Pictures with their poses from the true boxes, in rows of four."""
    from probpose_eval.coco import read_annotations

    data = read_annotations(annotations)
    people = data.persons_of()
    by_name = {entry.file_name: entry.id for entry in data.images.values()}
    tiles = []
    for path in images:
        image = cv2.imread(str(path))
        boxes = np.array([person.bbox_xyxy for person in people[by_name[path.name]]]).reshape(-1, 4)
        drawn = draw_poses(image, estimator(image, boxes), estimator.contract)
        tiles.append(cv2.resize(drawn, TILE_WH, interpolation=cv2.INTER_AREA))
    rows = [np.hstack(tiles[start : start + 4]) for start in range(0, len(tiles) - 3, 4)]
    return np.vstack(rows).astype(np.uint8)
