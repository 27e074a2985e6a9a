"""`probpose-edge train`: train or fine-tune a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from probpose_cli.console import err, out
from probpose_edge.exceptions import InputError, TrainingError
from probpose_edge.extras import import_extra


def command(
    data: list[str] = typer.Option(
        [], "--data", help="annotations.json:images/[:share[:no-visibility]] or synth[:share]; repeat for several sets."
    ),
    run_dir: Path = typer.Option(..., "--out", help="Folder of the run: weights, log, curves."),
    val: str = typer.Option("", "--val", help="annotations.json:images/ that chooses the best checkpoint."),
    model: str = typer.Option("probpose-m", help="probpose-m or probpose-s."),
    backbone_weights: str = typer.Option("", help=".npz of MobileNetV2 ImageNet weights, torchvision names."),
    init_from: str = typer.Option("", help="Checkpoint to fine-tune."),
    samples: int = typer.Option(100_000, help="Training crops over the whole run."),
    samples_per_epoch: int = typer.Option(4_000, help="Crops between two reports and checkpoints."),
    batch_size: int = typer.Option(32),
    learning_rate: float = typer.Option(1e-3, help="Peak rate; half of it for the backbone, cosine decay."),
    freeze: int = typer.Option(0, help="Leading backbone blocks to keep as they are."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    bf16: str = typer.Option("auto", help="auto, on or off."),
    workers: int = typer.Option(0, help="Processes that prepare samples."),
    threads: int = typer.Option(0, help="CPU threads; 0 leaves torch's default."),
    seed: int = typer.Option(0),
    resume: bool = typer.Option(False, "--resume", help="Continue the run in --out; its own settings apply."),
) -> None:
    """Train on COCO-format sets; the best checkpoint by mean OKS on --val becomes best.safetensors."""
    torch = import_extra("Training", "torch", "train")
    from probpose_train import TrainConfig, parse_source
    from probpose_train import resume as resume_run
    from probpose_train import train as train_run

    if threads:
        torch.set_num_threads(threads)
    if resume:
        best = _interruptible(lambda: resume_run(run_dir, console=err), run_dir)
    else:
        if not data:
            raise InputError("Training needs data. Pass --data annotations.json:images/ (repeat it), or --data synth.")
        val_source = parse_source(val) if val else None
        config = TrainConfig(
            sources=tuple(parse_source(text) for text in data),
            val_annotations=val_source.annotations if val_source else "",
            val_images=val_source.images if val_source else "",
            model=model,
            backbone_weights=backbone_weights,
            init_from=init_from,
            samples=samples,
            samples_per_epoch=samples_per_epoch,
            batch_size=batch_size,
            learning_rate=learning_rate,
            freeze=freeze,
            device=device,
            bf16=bf16,
            workers=workers,
            seed=seed,
        )
        best = _interruptible(lambda: train_run(config, run_dir, console=err), run_dir)
    out.print(str(best))


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
