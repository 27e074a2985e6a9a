"""`probpose-edge inspect`: what a file says about itself, and in which type it computes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from probpose_cli.console import out
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.exceptions import MissingExtraError, ModelFileError, RuntimeUnavailableError
from probpose_edge.extras import import_extra

if TYPE_CHECKING:
    from probpose_eval.benchmark.operator_profile import OperatorProfile


def command(
    model: Path = typer.Argument(..., help="A .onnx, .tflite, .mlpackage or .safetensors file, or a published .pth."),
    as_json: bool = typer.Option(False, "--json", help="Print the whole contract, and `operators`, as JSON."),
) -> None:
    """Print the metadata of a model file, and how many multiply-adds it does in int8 and in float."""
    contract = contract_of(model)
    profile, unknown = _profile(model, contract)
    if as_json:
        operators = None if profile is None else dataclasses.asdict(profile)
        typer.echo(json.dumps({**dataclasses.asdict(contract), "operators": operators}, indent=2))
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
    for line in [unknown] if profile is None else work_lines(profile, contract):
        out.print(line, markup=False)
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


def work_lines(profile: OperatorProfile, contract: ModelContract) -> list[str]:
    """What a file computes in which type, and what lies off its fast path, in sentences."""
    total = max(profile.macs, 1)
    lines = [
        f"{profile.macs / 1e6:.0f} M multiply-adds a crop: {profile.int8_macs / 1e6:.0f} M in int8 "
        f"({profile.int8_macs / total:.1%}), {profile.float_macs / 1e6:.0f} M in float"
    ]
    if contract.precision == "int8" and profile.float_products:
        parts = [f"{count} {name} ({macs / 1e6:.1f} M)" for name, (count, macs) in profile.float_products.items()]
        lines.append(f"in float: {', '.join(parts)}")
    if contract.precision == "int8" and not profile.int8_macs:
        lines.append("its weights alone are stored in 8 bits or fewer: the products are float")
    if profile.partitions is not None:
        left_out = ", ".join(profile.slow) or "nothing outside the delegate"
        lines.append(f"XNNPACK takes it in {profile.partitions} part{'s' * (profile.partitions != 1)}; {left_out}")
    elif profile.slow:
        lines.append(f"off the fast path: {', '.join(profile.slow)}")
    if contract.format == "coreml":
        lines.append("by the program; which unit of a device takes a layer, and in which type, is decided there")
    return lines


def _profile(model: Path, contract: ModelContract) -> tuple[OperatorProfile | None, str]:
    """Of a deployable file; else None and why there is none."""
    from probpose_edge.runtimes.open_runtime import open_runtime
    from probpose_eval.benchmark.operator_profile import profile_operators

    if contract.format not in ("onnx", "tflite", "coreml"):
        return None, "multiply-adds in int8 and in float are counted of .onnx, .tflite and .mlpackage files"
    try:
        if contract.format == "coreml":
            from probpose_convert.mil_profile import profile_package

            return profile_package(model), ""
        open_runtime(model, threads=1).close()
        profile = profile_operators(model, contract.input_wh, threads=1)
    except (MissingExtraError, ModelFileError, RuntimeUnavailableError) as error:
        return None, f"multiply-adds were not counted: {error}"
    return profile, "" if profile else "multiply-adds were not counted: this runtime does not tell what it does"


def contract_of(model: Path) -> ModelContract:
    """Contract of a deployable file or a checkpoint."""
    if model.suffix in (".safetensors", ".pth", ".pt"):
        import_extra("Reading checkpoints", "torch", "train")
        from probpose_models.open_checkpoint import open_checkpoint

        return open_checkpoint(model)[1]
    return read_contract(model)
