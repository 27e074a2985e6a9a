"""`probpose-edge train`: train or fine-tune a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from probpose_cli.console import err, out
from probpose_edge.exceptions import InputError, TrainingError
from probpose_edge.extras import import_extra


def command(
    data: list[str] = typer.Option(
        [], "--data", help="annotations.json:images/[:share[:no-visibility]] or synth[:share]; repeat for several sets."
    ),
    run_dir: Path = typer.Option(..., "--out", help="Folder of the run: weights, log, curves, pictures."),
    val: str = typer.Option("", "--val", help="annotations.json:images/ that chooses the best checkpoint."),
    val_crop: str = typer.Option("", "--val-crop", help="annotations.json:images/ of a cropped set, reported as well."),
    model: str = typer.Option("probpose-m", help="probpose-m, probpose-s, probpose-m-dh or probpose-s-dh."),
    skeleton: str = typer.Option(
        "", help="Keypoints: coco-17, mpii-16, crowdpose-14, wholebody-133 or a JSON file; else those of the first set."
    ),
    window_ratio: float | None = typer.Option(None, help="Larger window over the input window, for -dh models."),
    input_size: str = typer.Option(
        "",
        metavar="WxH",
        help="Crops a probpose-m sees: 192x256, or 96x128 for a quarter of the work; also with --init-from.",
    ),
    backbone_weights: str = typer.Option("", help=".npz of MobileNetV2 ImageNet weights, torchvision names."),
    init_from: str = typer.Option("", help="Checkpoint to fine-tune."),
    teacher: str = typer.Option(
        "", help="Model to learn from: .safetensors for its maps, .onnx or .tflite for labels that are missing."
    ),
    samples: int | None = typer.Option(None, help="Training crops over the whole run."),
    samples_per_epoch: int | None = typer.Option(None, help="Crops between two reports and checkpoints."),
    batch_size: int | None = typer.Option(None, help="Crops per optimizer step, over all processes and parts."),
    accumulate: int | None = typer.Option(None, help="Parts of its batch that a process computes one after another."),
    learning_rate: float | None = typer.Option(None, help="Peak rate of the heads."),
    alignment: float | None = typer.Option(None, help="Weight of the alignment loss; 1 helps where data is scarce."),
    freeze: int | None = typer.Option(None, help="Leading backbone blocks to keep as they are."),
    select_by: str | None = typer.Option(None, help="Ex-AP or mean-OKS: what makes a checkpoint the best."),
    patience: int | None = typer.Option(None, help="Stop after so many reports without a better one; 0 never does."),
    device: str | None = typer.Option(None, help="auto, cpu or cuda."),
    bf16: str | None = typer.Option(None, help="auto, on or off."),
    compile_network: bool = typer.Option(False, "--compile", help="Let torch.compile fuse the network."),
    augment_on: str | None = typer.Option(None, help="cpu, or device: make the pixels where the network computes."),
    workers: int | None = typer.Option(None, help="Processes that prepare samples, for each process that trains."),
    threads: int = typer.Option(0, help="CPU threads; 0 leaves torch's default."),
    seed: int | None = typer.Option(None),
    resume: bool = typer.Option(False, "--resume", help="Continue the run in --out; its own settings apply."),
) -> None:
    """Train on COCO-format sets; what is not set here comes from the recipe of the model.

    The best checkpoint on --val becomes best.safetensors. Several GPUs: torchrun --nproc-per-node 4 --no-python
    probpose-edge train ...
    """
    torch = import_extra("Training", "torch", "train")
    from probpose_train import parse_source, recommended_config
    from probpose_train import resume as resume_run
    from probpose_train import train as train_run

    if threads:
        torch.set_num_threads(threads)
    if resume:
        best = _interruptible(lambda: resume_run(run_dir, console=err), run_dir)
    else:
        if not data:
            raise InputError("Training needs data. Pass --data annotations.json:images/ (repeat it), or --data synth.")
        settings: dict[str, Any] = {
            "samples": samples,
            "samples_per_epoch": samples_per_epoch,
            "batch_size": batch_size,
            "accumulate": accumulate,
            "learning_rate": learning_rate,
            "window_ratio": window_ratio,
            "input_wh": _size(input_size),
            "freeze": freeze,
            "select_by": select_by,
            "patience": patience,
            "device": device,
            "bf16": bf16,
            "augment_on": augment_on,
            "workers": workers,
            "seed": seed,
        }
        config = recommended_config(
            sources=tuple(parse_source(text) for text in data),
            model=model,
            skeleton=skeleton,
            backbone_weights=backbone_weights,
            init_from=init_from,
            teacher=teacher,
            compile=compile_network,
            **_annotated("val", val),
            **_annotated("val_crop", val_crop),
            **{name: value for name, value in settings.items() if value is not None},
        )
        if alignment is not None:
            config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, alignment=alignment))
        best = _interruptible(lambda: train_run(config, run_dir, console=err), run_dir)
    out.print(str(best))


def _size(text: str) -> tuple[int, int] | None:
    """(width, height) of "192x256"; None of nothing."""
    width, cross, height = text.partition("x")
    if not text:
        return None
    if not (cross and width.isdigit() and height.isdigit()):
        raise InputError(f"--input-size is width x height in pixels, got {text!r}. Write for example 96x128.")
    return int(width), int(height)


def _annotated(name: str, text: str) -> dict[str, str]:
    """Settings of an annotated set given as annotations.json:images/."""
    from probpose_train import parse_source

    if not text:
        return {}
    source = parse_source(text)
    if source.annotations == "synth":
        option = "--" + name.replace("_", "-")
        raise InputError(f"{option} needs an annotated set, annotations.json:images/. Make one with data synth.")
    return {f"{name}_annotations": source.annotations, f"{name}_images": source.images}


def _interruptible(run: Callable[[], Path], run_dir: Path) -> Path:
    """Turn Ctrl-C into a sentence that says how to go on."""
    try:
        return run()
    except KeyboardInterrupt:
        from probpose_train.run_folder import STATE

        remedy = (
            f"Continue from its last checkpoint with: probpose-edge train --out {run_dir} --resume"
            if (run_dir / STATE).exists()
            else f"There was no checkpoint yet: remove {run_dir} and start again."
        )
        raise TrainingError(f"Training was interrupted. {remedy}") from None
