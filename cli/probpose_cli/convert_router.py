"""`probpose-edge convert` of the checkpoint of a router."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from probpose_cli.console import err, out, progress_bar
from probpose_edge.contract.metadata import METADATA_KEY, ROUTER_KIND
from probpose_edge.exceptions import InputError


def is_router(checkpoint: Path) -> bool:
    """Whether the file is the checkpoint of a router; False for one that cannot be read, too."""
    if checkpoint.suffix != ".safetensors" or not checkpoint.is_file():
        return False
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint, framework="pt") as file:
            document = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
    except (SafetensorError, OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("kind") == ROUTER_KIND


def convert_router_checkpoint(
    checkpoint: Path,
    formats: Sequence[str],
    precisions: Sequence[str],
    out_dir: Path,
    calib: str,
    calib_crops: int,
    refused: Mapping[str, object],
    *,
    as_json: bool,
) -> None:
    """Convert a router; every file is compared with the network before it gets its name.

    refused: options of pose networks and what they were set to.
    """
    if given := [option for option, value in refused.items() if value]:
        raise InputError(f"{', '.join(given)} is for pose networks, and {checkpoint} is a router. Leave it out.")
    if "safetensors" in formats:
        raise InputError(f"{checkpoint} is a checkpoint already. Ask for onnx, tflite or coreml.")
    from probpose_convert.calibration_crops import read_calibration_crops
    from probpose_convert.convert_router import convert_router
    from probpose_models.router_checkpoint import load_router
    from probpose_quant.ranges import check_enough_crops

    model, contract = load_router(checkpoint)
    with progress_bar("reading calibration crops") as update:
        calibration, parity = read_calibration_crops(
            calib, calib_crops, input_wh=contract.input_wh, padding=contract.padding, progress=update
        )
    if any(precision.startswith("int8") for precision in precisions):
        check_enough_crops(calibration)
        if not calib:
            err.print("No --calib given: ranges come from drawn people. Photographs give better INT8 files.")
    with progress_bar("converting") as update:
        results = convert_router(
            model,
            contract,
            [(form, precision) for form in formats for precision in precisions],
            out_dir,
            name=checkpoint.stem,
            calibration_crops=calibration,
            parity_crops=parity,
            progress=update,
        )
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(r) | {"path": str(r.path)} for r in results], indent=2))
        return
    for r in results:
        order = "" if r.parity.rank_correlation is None else f", rank correlation {r.parity.rank_correlation:.4f}"
        out.print(
            f"{r.path}  {r.size_bytes / 1e3:.0f} kB  {r.recipe}  scores within {r.parity.score_max_abs:.2g}{order} "
            f"({r.parity.crops} crops, {r.provenance} on {r.runtime})"
        )
