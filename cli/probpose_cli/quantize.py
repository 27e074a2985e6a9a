"""`probpose-edge quantize`: how a checkpoint becomes int8, found by calibration or by training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from probpose_cli.console import err, out, progress_bar
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import InputError, TrainingError
from probpose_edge.extras import import_extra

if TYPE_CHECKING:
    from probpose_quant.qat import QuantizationAwareTraining
    from probpose_quant.quantization import Quantization
    from probpose_quant.recipe import Recipe
    from probpose_train.boxed_crops import BoxedCrops

NARROWED = "outputs"
STEPS = "Ex-AP by number of blocks in float"
CORRECTED = 48
"""Crops that mean outputs are taken from; all are kept in memory at once."""
COMPARED = 32
"""Crops that training is judged on before its report."""
SAVE_EVERY = 25
"""Steps between two saved states of a training."""


def command(
    checkpoint: Path = typer.Argument(..., help="A .safetensors checkpoint in full precision, or a published .pth."),
    out_dir: Path = typer.Option(..., "--out", help="Folder for the quantized checkpoint and what was measured."),
    qat: bool = typer.Option(False, "--qat", help="Train: the network learns to give in int8 what it gives in float."),
    data: list[str] = typer.Option(
        [],
        "--data",
        help="annotations.json:images/[:share] or synth[:share] to train on; boxes are enough. Repeatable.",
    ),
    calib: str = typer.Option(
        "", "--calib", help="annotations.json:images/ to take ranges from; else --data, or drawn people without."
    ),
    calib_crops: int = typer.Option(256, "--calib-crops", min=8, help="Number of calibration crops."),
    ranges: str = typer.Option(
        NARROWED,
        "--ranges",
        help="How ranges follow from the values seen: mse (least squared error), percentile, entropy, minmax, or "
        "outputs: those of mse, then narrowed in the heads where that brings the outputs closer to full precision.",
    ),
    float_block: list[str] = typer.Option([], "--float-block", help="Block that stays in float. Repeatable."),
    check: str = typer.Option("", "--check", help="annotations.json:images/ on whose cropped version Ex-AP is held."),
    max_drop: float | None = typer.Option(
        None, "--max-drop", min=0, help="Points of Ex-AP that int8 may cost on --check; blocks go back to float for it."
    ),
    steps: int | None = typer.Option(None, help="Optimizer steps of --qat."),
    batch_size: int | None = typer.Option(None, help="Crops per step of --qat."),
    learning_rate: float | None = typer.Option(None, help="Peak rate of the weights in --qat."),
    seed: int | None = typer.Option(None, help="Of the samples of --qat."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    threads: int = typer.Option(0, help="CPU threads; 0 leaves torch's default."),
    resume: bool = typer.Option(
        False, "--resume", help="Continue the training in --out; give the same settings again."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print what was found as JSON."),
) -> None:
    """Write <model>-int8.safetensors: weights, ranges and recipe, which `convert` turns into int8 files alike."""
    torch = import_extra("Quantizing", "torch", "convert")
    from probpose_convert.quiet import quiet_libraries
    from probpose_models import open_checkpoint
    from probpose_models.confidence_head import without_confidence_head
    from probpose_quant.quantization import save_quantized

    with quiet_libraries():
        import_extra("Quantizing", "torchao.quantization.pt2e.quantize_pt2e", "convert")
    if threads:
        torch.set_num_threads(threads)
    settings = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    given = {name: value for name, value in settings.items() if value is not None}
    _check_arguments(qat, data, given, resume, check, max_drop)
    chosen = _device(device, torch.cuda.is_available())
    recipe = _recipe(ranges, tuple(float_block), trained=qat)
    # The features change, so a head fitted on them goes: `calibrate --scores ccnet` fits one on what comes out.
    reference, contract = without_confidence_head(*open_checkpoint(checkpoint))
    model = reference
    out_dir.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    if qat:
        model, quantization, found = _train(
            model, contract, out_dir, data, calib, calib_crops, recipe, given, chosen, resume
        )
    else:
        quantization = _calibrate(model, contract, calib, calib_crops, recipe)
        model = _correct(model, contract, quantization, calib, calib_crops)
    if max_drop is not None and check:
        quantization, gate = _keep_accuracy(reference, model, contract, quantization, check, max_drop, calib)
        found |= gate
    path = out_dir / f"{contract.model}-int8.safetensors"
    save_quantized(path, model, contract, quantization)
    found |= {"path": str(path), **quantization.origin, "float_blocks": quantization.reasons}
    _write_json(out_dir / "quantization.json", found)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        if not isinstance(value, (dict, list)):
            err.print(f"{name}: {value}")
    for block, reason in quantization.reasons.items():
        err.print(f"{block} stays in float: {reason}")
    out.print(str(path))


def _check_arguments(
    qat: bool, data: list[str], given: dict[str, Any], resume: bool, check: str, max_drop: float | None
) -> None:
    if qat and not data:
        raise InputError(
            "Training needs pictures. Pass --data annotations.json:images/ (boxes are enough), or --data synth."
        )
    if not qat and (data or given or resume):
        raise InputError("--data, --steps, --batch-size, --learning-rate, --seed and --resume belong to --qat. Add it.")
    _check_gate(check, max_drop)


def _device(wanted: str, gpu: bool) -> str:
    if wanted not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device takes one of auto, cpu, cuda, got {wanted!r}. Choose one.")
    if wanted == "cuda" and not gpu:
        raise InputError("--device cuda needs a GPU that torch can use, and there is none. Use cpu or auto.")
    return wanted if wanted != "auto" else "cuda" if gpu else "cpu"


def _check_gate(check: str, max_drop: float | None) -> None:
    if (max_drop is None) != (not check):
        raise InputError("--max-drop is held on the pictures of --check. Give both, or neither.")


def hold_accuracy(
    model: Any,
    contract: ModelContract,
    quantization: Quantization | None,
    calib: str,
    count: int,
    check: str,
    max_drop: float | None,
) -> Quantization:
    """The quantization of a checkpoint, or one found by calibration, with the blocks in float that Ex-AP needs."""
    from probpose_models.confidence_head import without_confidence_head

    _check_gate(check, max_drop)
    assert max_drop is not None
    model, contract = without_confidence_head(model, contract)
    quantization = quantization or _calibrate(model, contract, calib, count, _recipe(NARROWED))
    quantization, found = _keep_accuracy(model, model, contract, quantization, check, max_drop, calib)
    err.print(f"Ex-AP {found['Ex-AP in full precision']:.2f} in float, int8: {found[STEPS]}")
    for block, reason in quantization.reasons.items():
        err.print(f"{block} stays in float: {reason}")
    return quantization


def _calibration(contract: ModelContract, calib: str, count: int) -> tuple[Any, Any, dict[str, float | str]]:
    from probpose_convert.calibration_crops import read_calibration_crops
    from probpose_quant.calibrate import crops_hash

    with progress_bar("reading calibration crops") as update:
        crops, others = read_calibration_crops(
            calib, count, input_wh=contract.input_wh, padding=contract.padding, progress=update
        )
    return crops, others, {"calibration_crops": len(crops), "calibration_sha256": crops_hash(crops)}


def _calibrate(model: Any, contract: ModelContract, calib: str, count: int, recipe: Recipe) -> Quantization:
    from probpose_quant.blocks import check_blocks
    from probpose_quant.finite_weights import refuse_broken_weights
    from probpose_quant.narrow_ranges import recipe_ranges
    from probpose_quant.quantization import Quantization

    check_blocks(model, recipe.float_blocks)
    refuse_broken_weights(model, contract)
    crops, _, origin = _calibration(contract, calib, count)
    with progress_bar("finding ranges") as update:
        # Ranges of everything, so that blocks can change sides later.
        everything = dataclasses.replace(recipe, float_blocks=())
        ranges = recipe_ranges(model, contract, crops, everything, progress=update)
    return Quantization(
        recipe=recipe,
        ranges=ranges,
        reasons=dict.fromkeys(recipe.float_blocks, "asked for"),
        origin={"method": "calibration", **origin},
    )


def _correct(model: Any, contract: ModelContract, quantization: Quantization, calib: str, count: int) -> Any:
    """The network with biases that make up for what rounding adds to them."""
    from probpose_quant.correct_biases import correct_biases

    crops, _, _ = _calibration(contract, calib, count)
    with progress_bar("correcting biases"):
        return correct_biases(model, contract, crops[:CORRECTED], quantization.recipe, quantization.ranges)


def _recipe(ranges: str, float_blocks: tuple[str, ...] = (), *, trained: bool = False) -> Recipe:
    from probpose_quant.recipe import OBSERVERS, Recipe

    if ranges not in (NARROWED, *OBSERVERS):
        raise InputError(f"--ranges takes one of {NARROWED}, {', '.join(OBSERVERS)}, got {ranges!r}. Choose one.")
    name = "mixed" if float_blocks else "int8-static"
    return Recipe(
        name=f"{name}-qat" if trained else name,
        observer="mse" if ranges == NARROWED else ranges,
        narrowed=ranges == NARROWED,
        float_blocks=float_blocks,
    )


def _train(
    model: Any,
    contract: ModelContract,
    out_dir: Path,
    data: list[str],
    calib: str,
    count: int,
    recipe: Recipe,
    given: dict[str, Any],
    device: str,
    resume: bool,
) -> tuple[Any, Quantization, dict[str, Any]]:
    from probpose_quant.qat import QuantizationAwareTraining
    from probpose_quant.qat_config import QatConfig
    from probpose_quant.qat_state import load_state, refuse_other_state, save_state
    from probpose_train import parse_source
    from probpose_train.boxed_crops import BoxedCrops

    sources = tuple(parse_source(text) for text in data)
    config = QatConfig(**given)
    run = QuantizationAwareTraining(model, contract, recipe, config, device=device)
    stream = BoxedCrops(sources, contract, config.seed)
    saved = load_state(out_dir) if resume else None
    if saved is None:
        refuse_other_state(out_dir)
    if calib:
        crops, others, origin = _calibration(contract, calib, count)
    else:
        crops, others, origin = _own_crops(BoxedCrops(sources, contract, config.seed + 1), count)
    if saved is None:
        with progress_bar("finding ranges") as update:
            run.prepare(crops, progress=update)
    else:
        run.restore(saved)
    _steps(run, stream, out_dir, save_state)
    report = run.report(others)
    network, quantization = run.finalize()
    found = {
        "map overlap before training": report.before.map_overlap,
        "map overlap after training": report.now.map_overlap,
        "mean shift of a probability before": report.before.probability,
        "mean shift of a probability after": report.now.probability,
        "crops compared": len(others),
    }
    return network, dataclasses.replace(quantization, origin={**quantization.origin, **origin}), found


def _own_crops(stream: BoxedCrops, count: int) -> tuple[Any, Any, dict[str, float | str]]:
    """Calibration crops and crops to compare on from the sets to train on: other windows and cuts than in training."""
    from probpose_quant.calibrate import crops_hash

    crops = stream.crops(0, count + COMPARED)
    return crops[COMPARED:], crops[:COMPARED], {
        "calibration_crops": count,
        "calibration_sha256": crops_hash(crops[COMPARED:]),
    }  # fmt: skip


def _steps(run: QuantizationAwareTraining, stream: Any, out_dir: Path, save_state: Any) -> None:
    import torch

    size, total = run.config.batch_size, run.config.steps
    try:
        with progress_bar("training") as update:
            while run.steps_done < total:
                run.step(torch.from_numpy(stream.crops(run.steps_done * size, size)))
                update(run.steps_done, total)
                if run.steps_done % SAVE_EVERY == 0 or run.steps_done == total:
                    save_state(out_dir, run.state())
    except KeyboardInterrupt:
        raise TrainingError(
            f"Training was interrupted after {run.steps_done} steps. Continue from its last saved state with the same "
            "command and --resume."
        ) from None


def _keep_accuracy(
    reference: Any,
    model: Any,
    contract: ModelContract,
    quantization: Quantization,
    check: str,
    max_drop: float,
    calib: str,
) -> tuple[Quantization, dict[str, Any]]:
    from probpose_convert.keep_accuracy import keep_accuracy

    _, others, _ = _calibration(contract, calib, 8)
    with progress_bar("blocks") as update:
        kept = keep_accuracy(
            model,
            contract,
            quantization,
            check,
            max_drop,
            crops=others,
            reference_model=reference,
            progress=update,
        )
    return kept.quantization, {
        "Ex-AP in full precision": kept.reference,
        STEPS: list(kept.steps),
        "drift of a block quantized alone": {
            entry.block: {"map_overlap": entry.drift.map_overlap, "probability": entry.drift.probability}
            for entry in kept.sensitivity
        },
    }


def _write_json(path: Path, document: dict[str, Any]) -> None:
    from probpose_edge.atomic_write import write_text_atomically

    write_text_atomically(path, json.dumps(document, indent=2) + "\n")
