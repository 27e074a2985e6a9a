"""`probpose-edge predict`: poses on pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import typer

from probpose_cli.console import out, progress_bar
from probpose_edge.atomic_write import write_text_atomically
from probpose_edge.coco_results import poses_to_coco
from probpose_edge.draw import draw_poses
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_edge.images import read_image
from probpose_edge.write_picture import write_picture

MODEL_SUFFIXES = (".onnx", ".tflite", ".mlpackage")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def command(
    arguments: list[str] = typer.Argument(
        ..., metavar="[MODEL] SOURCE...", help="A model file first, if not the shipped one; then pictures or folders."
    ),
    box: list[str] = typer.Option([], "--box", help="Person box x1,y1,x2,y2 in pixels; repeat for several persons."),
    out_dir: Path = typer.Option(Path("poses"), "--out", help="Folder for the drawn pictures and results.json."),
    draw: bool = typer.Option(True, help="Write a picture with the poses for every source."),
    draw_maps: bool = typer.Option(False, "--draw-maps", help="Show the probability maps, beyond the border too."),
    threshold: float | None = typer.Option(None, help="Presence threshold; the model's own without."),
    threads: int | None = typer.Option(None, min=1, help="Threads of one inference."),
    as_json: bool = typer.Option(False, "--json", help="Print the COCO results instead of a summary."),
) -> None:
    """Estimate poses; without --box the one main person of each picture is found in two passes."""
    model = Path(arguments[0]) if Path(arguments[0]).suffix in MODEL_SUFFIXES else None
    pictures = list_pictures(arguments[1:] if model else arguments)
    boxes = np.array([parse_box(text) for text in box]) if box else None
    results = []
    with PoseEstimator.open(model, threads=threads, presence_threshold=threshold) as estimator:
        out_dir.mkdir(parents=True, exist_ok=True)
        with progress_bar("predicting") as update:
            for index, path in enumerate(pictures):
                image = read_image(path)
                poses = estimator(image, boxes, return_maps=draw_maps)
                results += [{**r, "file_name": path.name} for r in poses_to_coco(poses, index)]
                if draw:
                    drawn = draw_poses(image, poses, estimator.contract, expand=draw_maps, maps=draw_maps)
                    write_picture(drawn_path(out_dir, path, index, pictures), drawn)
                update(index + 1, len(pictures))
                if not as_json:
                    names = np.array(estimator.contract.keypoint_names)
                    for person, present in enumerate(poses.present):
                        absent = ", ".join(names[~present]) or "none"
                        out.print(
                            f"{path}: score {poses.scores[person]:.2f}, {present.sum()} present; absent: {absent}"
                        )
    if as_json:
        typer.echo(json.dumps(results))
    else:
        write_text_atomically(out_dir / "results.json", json.dumps(results))
        out.print(f"{len(results)} poses of {len(pictures)} pictures in {out_dir}")


def list_pictures(sources: list[str]) -> list[Path]:
    """Pictures named one by one or by their folder, in order; raises `InputError` if there are none."""
    pictures: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            pictures += sorted(p for p in source.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        else:
            pictures.append(source)
    if not pictures:
        raise InputError(
            f"predict needs pictures ({', '.join(PICTURE_SUFFIXES)}), found none in {sources}. Name files or folders."
        )
    return pictures


def parse_box(text: str) -> list[float]:
    """``x1,y1,x2,y2`` to four numbers; raises `InputError`."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise InputError(f"A box is four numbers x1,y1,x2,y2 in pixels, got {text!r}. Write for example 10,20,110,320.")
    return values


def drawn_path(out_dir: Path, path: Path, index: int, pictures: list[Path]) -> Path:
    """Name of the drawn picture; pictures of the same name from different folders are told apart by number."""
    twins = sum(other.stem == path.stem for other in pictures) > 1
    return out_dir / (f"{path.stem}-{index}.png" if twins else f"{path.stem}.png")
