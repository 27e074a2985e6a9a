"""The training loop."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from probpose_edge.decode import published_spread
from probpose_edge.exceptions import InputError, TrainingError
from probpose_edge.metadata import ModelContract
from probpose_edge.skeleton import Skeleton
from probpose_models.checkpoint import build_model, checkpoint_contract, load_checkpoint, save_checkpoint
from probpose_models.deploy import Deployable
from probpose_models.mobilenet_v2 import MobileNetV2, load_imagenet_weights
from probpose_train.augment import WindowFrame
from probpose_train.config import TrainConfig
from probpose_train.dataset import SampleStream, make_loader
from probpose_train.losses import LossKernels, Targets, compute_losses
from probpose_train.optimizer import make_optimizer, set_learning_rate
from probpose_train.run_folder import (
    BEST,
    LAST,
    append_log,
    create_run_folder,
    load_state,
    read_config,
    save_state,
)
from probpose_train.validate import ValidationSet, read_validation_set, validate


def train(config: TrainConfig, folder: Path, *, console: Console | None = None) -> Path:
    """Train from the start; returns the best checkpoint. The folder must not hold another run."""
    prepared = _prepare(config)
    create_run_folder(folder, config)
    return _run(config, folder, prepared, None, console or Console())


def resume(folder: Path, *, console: Console | None = None) -> Path:
    """Continue the run in a folder where its last checkpoint was written; on the CPU without extra workers the
    weights become those of an uninterrupted run."""
    config = read_config(folder)
    state = load_state(folder)
    return _run(config, folder, _prepare(config), state, console or Console())


def _prepare(config: TrainConfig) -> tuple[Any, ModelContract, SampleStream, ValidationSet | None]:
    """Model, contract and data of a run: everything that can be wrong with the input shows up here."""
    torch.manual_seed(config.seed)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' needs a GPU that torch can use, and there is none. Use device 'cpu' or 'auto'.")
    if config.init_from:
        model, contract = load_checkpoint(Path(config.init_from))
        if model.name != config.model:
            raise InputError(
                f"--init-from must hold a {config.model}, but {config.init_from} holds a {model.name}. Pass another."
            )
        contract = contract.replace(precision="fp32", checkpoint_sha256="", accuracy={})
    else:
        model = build_model(config.model)
        contract = checkpoint_contract(model)
        if config.backbone_weights:
            if not isinstance(model.backbone, MobileNetV2):
                raise InputError(f"--backbone-weights fit MobileNetV2 only, and {config.model} has another backbone.")
            load_imagenet_weights(model.backbone, Path(config.backbone_weights))
    frame = WindowFrame(
        input_wh=contract.input_wh,
        heatmap_wh=contract.heatmap_wh,
        padding=contract.padding,
        flip_permutation=Skeleton(
            keypoint_names=contract.keypoint_names,
            edges=contract.skeleton,
            flip_pairs=contract.flip_pairs,
            sigmas=contract.sigmas,
        ).flip_permutation,
    )
    stream = SampleStream(config, frame, contract.keypoint_names)
    validation = read_validation_set(config.val_annotations, config.val_images) if config.val_annotations else None
    return model, contract, stream, validation


def make_kernels(contract: ModelContract, device: torch.device) -> LossKernels:
    """Constants of the losses: sigmas, published kernel variances, and Gaussian factors for the decode."""
    variances = torch.tensor([published_spread(sigma, contract.heatmap_wh) for sigma in contract.sigmas])

    def gaussian(size: int) -> torch.Tensor:
        distance = torch.arange(size)[:, None] - torch.arange(size)[None]
        return torch.exp(-(distance[None] ** 2) / (2 * variances.view(-1, 1, 1)))

    width, height = contract.heatmap_wh
    kernels = (torch.tensor(contract.sigmas), variances, gaussian(width), gaussian(height))
    return LossKernels(*(kernel.to(device) for kernel in kernels))


def freeze_blocks(model: Any, count: int) -> list[torch.nn.Module]:
    """Stop the gradient of the first `count` backbone blocks and return them; they belong in eval mode."""
    blocks = list(getattr(model.backbone, "features", ()))[:count]
    for block in blocks:
        block.requires_grad_(False)
    return blocks


def choose_device(config: TrainConfig) -> tuple[torch.device, bool]:
    """Device, and whether to compute in bfloat16: on CUDA, and on processors with native bf16 instructions."""
    kind = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    native = kind == "cuda" or bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return torch.device(kind), native if config.bf16 == "auto" else config.bf16 == "on"


def _run(
    config: TrainConfig,
    folder: Path,
    prepared: tuple[Any, ModelContract, SampleStream, ValidationSet | None],
    state: dict[str, Any] | None,
    console: Console,
) -> Path:
    model, contract, stream, validation = prepared
    device, use_bf16 = choose_device(config)
    deployable = Deployable(model).to(device=device, memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
    frozen = freeze_blocks(model, config.freeze)
    optimizer = make_optimizer(model, config)
    kernels = make_kernels(contract, device)
    step, best = 0, -math.inf
    if state is not None:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        step, best = int(state["step"]), float(state["best"])
    console.print(
        f"{config.model} on {device}{' in bf16' if use_bf16 else ''}: {stream.describe()}; "
        f"{config.total_steps} steps of {config.batch_size}, from step {step}; run folder {folder}"
    )
    board = _tensorboard(folder, console)
    loader = iter(make_loader(stream, config, step))
    with _progress(console) as progress:
        task = progress.add_task("training", total=config.total_steps, completed=step)
        while step < config.total_steps:
            model.train()
            for block in frozen:
                block.eval()
            start, steps = time.perf_counter(), min(config.steps_per_epoch, config.total_steps - step)
            sums: dict[str, float] = {}
            for _ in range(steps):
                crops, targets = next(loader)
                rate = set_learning_rate(optimizer, config, step)
                terms = _step(deployable, optimizer, crops, targets, kernels, contract, config, use_bf16)
                average.update_parameters(model)
                step += 1
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value
                if not math.isfinite(terms["total"]):
                    raise TrainingError(
                        f"The loss must stay finite, but became {terms['total']} at step {step}. The last "
                        f"checkpoint in {folder} is from before; lower the learning rate and start with "
                        f"--init-from {folder / LAST}."
                    )
                progress.update(task, completed=step, description=f"loss {terms['total']:.3f}")
            seconds = time.perf_counter() - start
            row: dict[str, float | int] = {"step": step, "learning_rate": rate}
            row |= {name: value / steps for name, value in sums.items()}
            row["samples_per_s"] = steps * config.batch_size / seconds
            score = float(step)
            if validation is not None:
                row |= validate(average.module, contract, validation)
                score = float(row["val_mean_oks"])
            try:
                save_checkpoint(folder / LAST, average.module, contract)
                if score > best:
                    best = score
                    save_checkpoint(folder / BEST, average.module, contract)
                save_state(folder, _state(model, average, optimizer, step, best))
                append_log(folder, row)
            except OSError as error:
                raise TrainingError(
                    f"The run folder {folder} must take a checkpoint at step {step}, but writing failed: "
                    f"{error.strerror or error}. Free some space and continue with --resume "
                    "from the checkpoint before, which is whole, or start again if there was none."
                ) from error
            for name, value in row.items():
                board(name, float(value), step)
            console.print("  ".join(f"{k} {v:.4g}" for k, v in row.items()))
    return folder / BEST


def _step(
    deployable: Deployable,
    optimizer: torch.optim.Optimizer,
    crops: torch.Tensor,
    targets: Targets,
    kernels: LossKernels,
    contract: ModelContract,
    config: TrainConfig,
    use_bf16: bool,
) -> dict[str, float]:
    device = kernels.sigmas.device
    x = deployable.normalise(crops.to(device, non_blocking=True)).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16):
        outputs = deployable.model(x)
    on_device = Targets(*(value.to(device, non_blocking=True) for value in targets))
    terms = compute_losses(outputs, on_device, kernels, contract.temperature, config.loss)
    optimizer.zero_grad(set_to_none=True)
    terms["total"].backward()
    torch.nn.utils.clip_grad_norm_(deployable.model.parameters(), config.clip_norm)
    optimizer.step()
    return {name: value.item() for name, value in terms.items()}


def _state(model: Any, average: Any, optimizer: Any, step: int, best: float) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "step": step,
        "best": best,
    }


def _tensorboard(folder: Path, console: Console) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        console.print("TensorBoard is not installed; the log is in log.csv only.")
        return lambda *_: None
    writer = SummaryWriter(folder / "tensorboard")

    def add(name: str, value: float, step: int) -> None:
        writer.add_scalar(name, value, step)
        writer.flush()

    return add


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress
