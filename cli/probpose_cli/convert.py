"""`probpose-edge convert`: a checkpoint to ONNX, TFLite and CoreML."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from probpose_cli.console import err, out, progress_bar
from probpose_cli.convert_router import convert_router_checkpoint, is_router
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import InputError
from probpose_edge.extras import import_extra
from probpose_edge.skeletons.skeleton_file import read_skeleton

if TYPE_CHECKING:
    from probpose_convert.export_result import ExportResult
    from probpose_quant.quantization import Quantization

CHECKPOINT = "safetensors"
FORMATS = ("onnx", "tflite", "coreml", CHECKPOINT)
PRECISIONS = ("fp32", "fp16", "int8", "int8-static", "int8-dynamic", "int8-weights", "palette6", "mixed")


def command(
    checkpoint: Path = typer.Argument(..., help="A .safetensors checkpoint, or a published ProbPose or ViTPose .pth."),
    formats: str = typer.Option(
        "onnx,tflite,coreml",
        "--format",
        help="Comma-separated: onnx, tflite, coreml, safetensors (the checkpoint itself, in full precision).",
    ),
    precisions: str = typer.Option(
        "int8", "--precision", help="Comma-separated: fp32, fp16, int8, or a named recipe such as int8-static."
    ),
    skeleton: str = typer.Option(
        "",
        "--skeleton",
        help="Keypoints of a .pth that does not describe them: coco-17, another preset, or a JSON file.",
    ),
    out_dir: Path = typer.Option(Path("converted"), "--out", help="Folder for the files."),
    calib: str = typer.Option(
        "", "--calib", help="annotations.json:images/ to take ranges from; drawn people without."
    ),
    calib_crops: int = typer.Option(256, "--calib-crops", min=8, help="Number of calibration crops."),
    check: str = typer.Option("", "--check", help="annotations.json:images/ on whose cropped version Ex-AP is held."),
    max_drop: float | None = typer.Option(
        None, "--max-drop", min=0, help="Points of Ex-AP that int8 may cost on --check; blocks stay in float for it."
    ),
    decoded: bool = typer.Option(
        False, "--decoded", help="Files that decode their maps inside and give keypoints, for use without Python."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the results as JSON."),
) -> None:
    """Convert a checkpoint; every file is compared with the network before it gets its name."""
    wanted_formats = _choices(formats, FORMATS, "--format")
    wanted_precisions = _choices(precisions, PRECISIONS, "--precision")
    if decoded and CHECKPOINT in wanted_formats:
        raise InputError("--decoded is for onnx, tflite and coreml; a checkpoint gives maps. Drop one of the two.")
    import_extra("Converting", "torch", "convert")
    from probpose_convert.pending_output import check_writable

    check_writable(out_dir)
    if is_router(checkpoint):
        refused = {"--decoded": decoded, "--check": check, "--max-drop": max_drop is not None, "--skeleton": skeleton}
        convert_router_checkpoint(
            checkpoint, wanted_formats, wanted_precisions, out_dir, calib, calib_crops, refused, as_json=as_json
        )
        return
    from probpose_cli.quantize import hold_accuracy
    from probpose_quant.quantization import read_quantization

    jobs = [(form, precision) for form in wanted_formats if form != CHECKPOINT for precision in wanted_precisions]
    model, contract = _open(checkpoint, skeleton)
    saved = [_save(model, contract, out_dir)] if CHECKPOINT in wanted_formats else []
    quantization = read_quantization(checkpoint)
    if max_drop is not None or check:
        quantization = hold_accuracy(model, contract, quantization, calib, calib_crops, check, max_drop)
    results = _export(model, contract, jobs, out_dir, calib, calib_crops, quantization, decoded) if jobs else []
    if as_json:
        files = [{"path": str(path), "size_bytes": path.stat().st_size, "recipe": "fp32"} for path in saved]
        typer.echo(json.dumps(files + [dataclasses.asdict(r) | {"path": str(r.path)} for r in results], indent=2))
        return
    for path in saved:
        out.print(f"{path}  {path.stat().st_size / 1e6:.1f} MB  fp32")
    for r in results:
        out.print(
            f"{r.path}  {r.size_bytes / 1e6:.1f} MB  {r.recipe}  {_overlap(r)}"
            f"keypoint shift {r.parity.keypoint_shift_cell:.3f} cells, presence within {r.parity.presence_max_abs:.3f} "
            f"({r.parity.crops} crops, {r.provenance} on {r.runtime})"
        )


def _overlap(result: ExportResult) -> str:
    if result.parity.map_overlap is None:
        return "decoded, "
    return f"map overlap {result.parity.map_overlap:.4f}, "


def _open(checkpoint: Path, skeleton: str) -> tuple[Any, ModelContract]:
    """Network and contract; says what of a published checkpoint was left out."""
    from probpose_models.checkpoint import load_checkpoint
    from probpose_models.open_checkpoint import RELEASE_SUFFIXES
    from probpose_models.release import load_release

    if checkpoint.suffix not in RELEASE_SUFFIXES:
        if skeleton:
            raise InputError(
                f"--skeleton describes the keypoints of a .pth; {checkpoint} carries its own. Leave it out."
            )
        return load_checkpoint(checkpoint)
    model, contract, dropped = load_release(checkpoint, skeleton=read_skeleton(skeleton) if skeleton else None)
    if dropped:
        err.print(f"Left out the error head of {checkpoint} ({len(dropped)} parameters): no result depends on it.")
    if contract.map_kind == "heatmap":
        err.print(f"{checkpoint} has no presence head: it becomes a heatmap model whose peaks are confidences.")
    return model, contract


def _save(model: Any, contract: ModelContract, out_dir: Path) -> Path:
    from probpose_models.checkpoint import save_checkpoint

    path = out_dir / f"{contract.model}.safetensors"
    save_checkpoint(path, model, contract.replace(precision="fp32"))
    return path


def _export(
    model: Any,
    contract: ModelContract,
    jobs: list[tuple[str, str]],
    out_dir: Path,
    calib: str,
    calib_crops: int,
    quantization: Quantization | None,
    decoded: bool,
) -> list[ExportResult]:
    from probpose_convert.calibration_crops import read_calibration_crops
    from probpose_convert.convert_all import convert_network
    from probpose_quant.finite_weights import refuse_broken_weights
    from probpose_quant.ranges import check_enough_crops

    refuse_broken_weights(model, contract)
    with progress_bar("reading calibration crops") as update:
        calibration, parity = read_calibration_crops(
            calib, calib_crops, input_wh=contract.input_wh, padding=contract.padding, progress=update
        )
    takes_ranges = quantization is None and any(precision in ("int8", "int8-static") for _, precision in jobs)
    if takes_ranges:
        check_enough_crops(calibration)
    if not calib and takes_ranges:
        err.print("No --calib given: ranges come from drawn people. Photographs of your own give better INT8 files.")
    with progress_bar("converting") as update:
        return convert_network(
            model,
            contract,
            jobs,
            out_dir,
            calibration_crops=calibration,
            parity_crops=parity,
            quantization=quantization,
            decoded=decoded,
            progress=update,
        )


def _choices(text: str, allowed: tuple[str, ...], option: str) -> list[str]:
    chosen = [item.strip() for item in text.split(",") if item.strip()]
    unknown = [item for item in chosen if item not in allowed]
    if unknown or not chosen:
        raise InputError(f"{option} takes a comma-separated choice of {', '.join(allowed)}, got {text!r}.")
    return list(dict.fromkeys(chosen))
