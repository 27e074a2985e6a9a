"""`probpose-edge router`: train a router for a small and a large model."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from probpose_cli.console import err, out, progress_bar
from probpose_cli.models import open_for_evaluation
from probpose_cli.routed import FLIP
from probpose_edge.exceptions import InputError
from probpose_edge.extras import import_extra

if TYPE_CHECKING:
    from probpose_train.router_fit import RouterFit


def command(
    small: Path = typer.Option(..., "--small", help="Model file or checkpoint that estimates most persons."),
    large: str = typer.Option(
        FLIP, "--large", help="Model file or checkpoint for the hard ones; `flip` is the small model with a flip test."
    ),
    data: list[str] = typer.Option([], "--data", help="annotations.json:images/[:share] to learn from; repeatable."),
    out_path: Path = typer.Option(..., "--out", help="Checkpoint of the router, .safetensors."),
    size_of: str = typer.Option("small", "--size-of", help="Whose crops the router sees: small or large."),
    samples: int = typer.Option(12_000, min=1, help="Disturbed crops on which both models are run."),
    epochs: int = typer.Option(12, min=1, help="Rounds over the samples."),
    targets: Path | None = typer.Option(
        None, "--targets", help="Where collected samples are kept for the next time; else beside --out."
    ),
    threads: int = typer.Option(1, min=1, help="CPU threads of every model and of the training."),
    seed: int = typer.Option(0),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON."),
) -> None:
    """Train a router: which persons are worth the large model. Convert it with `probpose-edge convert`."""
    if out_path.suffix != ".safetensors":
        raise InputError(f"--out must name a .safetensors file, got {out_path.name!r}. Convert it afterwards.")
    if size_of not in ("small", "large"):
        raise InputError(f"--size-of must be small or large, got {size_of!r}. A router sees the crops of one of them.")
    if not data:
        raise InputError("A router learns from annotated pictures and got none. Pass --data annotations.json:images/.")
    torch = import_extra("Training a router", "torch", "train")
    torch.set_num_threads(threads)
    from probpose_edge.routing.check_members import check_pair
    from probpose_edge.routing.flip_test import flip_test
    from probpose_models.router import ProbPoseRouter
    from probpose_train import parse_source
    from probpose_train.router_cache import load_samples, samples_key, save_samples
    from probpose_train.router_fit import fit_router
    from probpose_train.router_run import save_router
    from probpose_train.router_samples import collect_router_samples

    sources = tuple(parse_source(text) for text in data)
    kept = targets or out_path.with_suffix(".targets.npz")
    out_path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        first = stack.enter_context(open_for_evaluation(small, threads=threads))
        flips = large == FLIP
        second = flip_test(first) if flips else stack.enter_context(open_for_evaluation(Path(large), threads=threads))
        check_pair(first.contract, second.contract)
        input_wh = (first if size_of == "small" else second).contract.input_wh
        ProbPoseRouter(input_wh)
        files = [small] if flips else [small, Path(large)]
        key = samples_key(
            first, second, sources, samples=samples, seed=seed, files=files, passes=FLIP if flips else "one"
        )
        collected = load_samples(kept, key)
        if collected is None:
            with progress_bar("running both models") as update:
                collected = collect_router_samples(first, second, sources, samples=samples, seed=seed, progress=update)
            save_samples(kept, collected, key)
        else:
            err.print(f"Taking the targets from {kept}: same models, data and settings.")
        with progress_bar("training the router") as update:
            fit = fit_router(collected, input_wh, epochs=epochs, seed=seed, progress=update)
        names = (small.name, f"{small.name}, flip test" if flips else Path(large).name)
        save_router(out_path, fit, first.contract, names)
    if as_json:
        typer.echo(json.dumps({"path": str(out_path), "epochs": fit.epochs, **fit.figures}, indent=2))
        return
    _print(out_path, fit)


def _print(path: Path, fit: RouterFit) -> None:
    figures = fit.figures
    table = Table("held-out disturbed crops", "")
    for label, name in (
        ("correlation of the score with the target", "correlation"),
        ("… of their ranks", "rank_correlation"),
        ("correlation of the score with the gain in OKS", "gain_correlation"),
        ("… of their ranks", "gain_rank_correlation"),
    ):
        table.add_row(label, f"{figures[name]:.3f}" if name in figures else "–")
    for label, name in (("random", "gain_random_half"), ("routed", "gain_routed_half")):
        table.add_row(f"gain in OKS, half to the large model, {label}", f"{100 * figures[name]:+.2f}")
    out.print(table)
    out.print(f"{path}  best after {fit.epochs} epochs, {figures['samples']:.0f} crops held out")
