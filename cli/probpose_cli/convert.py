"""`probpose-edge convert`: a checkpoint to ONNX, TFLite and CoreML."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import typer

from probpose_cli.console import err, out, progress_bar
from probpose_edge.exceptions import InputError
from probpose_edge.extras import import_extra

FORMATS = ("onnx", "tflite", "coreml")
PRECISIONS = ("fp32", "fp16", "int8", "int8-static", "int8-dynamic", "int8-weights")


def command(
    checkpoint: Path = typer.Argument(..., help="A .safetensors checkpoint of this project."),
    formats: str = typer.Option("onnx,tflite,coreml", "--format", help="Comma-separated: onnx, tflite, coreml."),
    precisions: str = typer.Option(
        "int8", "--precision", help="Comma-separated: fp32, fp16, int8, or a named recipe such as int8-static."
    ),
    out_dir: Path = typer.Option(Path("converted"), "--out", help="Folder for the files."),
    calib: str = typer.Option(
        "", "--calib", help="annotations.json:images/ to take ranges from; drawn people without."
    ),
    calib_crops: int = typer.Option(256, "--calib-crops", min=8, help="Number of calibration crops."),
    as_json: bool = typer.Option(False, "--json", help="Print the results as JSON."),
) -> None:
    """Convert a checkpoint; every file is compared with the network before it gets its name."""
    wanted_formats = _choices(formats, FORMATS, "--format")
    wanted_precisions = _choices(precisions, PRECISIONS, "--precision")
    import_extra("Converting", "torch", "convert")
    jobs = [(form, precision) for form in wanted_formats for precision in wanted_precisions]
    from probpose_convert.calibration_crops import read_calibration_crops
    from probpose_convert.convert_all import convert_all

    with progress_bar("reading calibration crops") as update:
        calibration, parity = read_calibration_crops(calib, calib_crops, progress=update)
    if not calib and any(precision.startswith("int8") for precision in wanted_precisions):
        err.print("No --calib given: ranges come from drawn people. Photographs of your own give better INT8 files.")
    with progress_bar("converting") as update:
        results = convert_all(
            checkpoint, jobs, out_dir, calibration_crops=calibration, parity_crops=parity, progress=update
        )
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(r) | {"path": str(r.path)} for r in results], indent=2))
        return
    for r in results:
        out.print(
            f"{r.path}  {r.size_bytes / 1e6:.1f} MB  {r.recipe}  map overlap {r.parity.map_overlap:.4f}, "
            f"keypoint shift {r.parity.keypoint_shift_cell:.3f} cells, presence within {r.parity.presence_max_abs:.3f} "
            f"({r.parity.crops} crops, {r.provenance} on {r.runtime})"
        )


def _choices(text: str, allowed: tuple[str, ...], option: str) -> list[str]:
    chosen = [item.strip() for item in text.split(",") if item.strip()]
    unknown = [item for item in chosen if item not in allowed]
    if unknown or not chosen:
        raise InputError(f"{option} takes a comma-separated choice of {', '.join(allowed)}, got {text!r}.")
    return list(dict.fromkeys(chosen))
