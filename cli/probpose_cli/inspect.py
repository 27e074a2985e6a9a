"""`probpose-edge inspect`: what a file says about itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import typer

from probpose_cli.console import out
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.extras import import_extra


def command(
    model: Path = typer.Argument(..., help="A .onnx, .tflite, .mlpackage or .safetensors file, or a published .pth."),
    as_json: bool = typer.Option(False, "--json", help="Print the whole contract as JSON."),
) -> None:
    """Print the metadata of a model file."""
    contract = contract_of(model)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(contract), indent=2))
        return
    k = len(contract.keypoint_names)
    width, height = contract.input_wh
    out.print(
        f"{contract.model}, {contract.format} {contract.precision} ({contract.recipe}), licence {contract.licence}"
    )
    out.print(
        f"input {width}x{height} uint8 RGB, {k} keypoints, maps {contract.heatmap_wh[0]}x{contract.heatmap_wh[1]}"
    )
    out.print(f"outputs {', '.join(contract.output_names)}")
    if contract.output_kind == "decoded":
        out.print(
            "decoded inside: keypoints in pixels of the input crop, presence and quality calibrated; it gives no maps"
        )
    if contract.map_kind == "heatmap":
        out.print("plain heatmaps: the peak value is the confidence, in place of presence, visibility and quality")
    if contract.window_ratio > 1:
        out.print(
            f"two maps: logits over {contract.window_ratio:g} times the input window (padding "
            f"{contract.activation_padding:g}), expert_logits over the input window"
        )
    out.print(
        f"padding {contract.padding}, temperature {contract.temperature}, kernel {contract.decode_kernel}, "
        f"presence threshold {contract.presence_threshold}"
    )
    out.print(f"scores of persons: {contract.scores.get('kind', 'mean quality of the present keypoints')}")
    out.print(f"checkpoint sha256 {contract.checkpoint_sha256 or 'of the file itself'}")
    for name, value in contract.accuracy.items():
        out.print(f"measured at full precision: {name} = {value:g}")
    for name, value in contract.calibration.items():
        # The hashes of the pictures, the rates by threshold and the figures before are in --json.
        if name in ("picture_hashes", "presence_rates") or name.endswith("_before"):
            continue
        out.print(f"calibration: {name} = {value}")
    for name, value in contract.versions.items():
        out.print(f"made with {name} {value}")


def contract_of(model: Path) -> ModelContract:
    """Contract of a deployable file or a checkpoint."""
    if model.suffix in (".safetensors", ".pth", ".pt"):
        import_extra("Reading checkpoints", "torch", "train")
        from probpose_models.open_checkpoint import open_checkpoint

        return open_checkpoint(model)[1]
    return read_contract(model)
