"""`probpose-edge evaluate`: AP, Ex-AP and presence accuracy of any number of files."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import typer
from rich.table import Table

from probpose_cli.console import out, progress_bar
from probpose_cli.inspect import contract_of
from probpose_cli.models import open_for_evaluation
from probpose_edge.exceptions import InputError

COLUMNS = ("mean OKS", "AP", "AP50", "AR", "Ex-AP", "Ex-AP50", "presence accuracy")


def command(
    models: list[Path] = typer.Argument(..., help=".onnx, .tflite, .mlpackage or .safetensors files."),
    annotations: Path = typer.Option(..., "--annotations", help="COCO keypoint annotations."),
    images: Path = typer.Option(..., "--images", help="Folder of its pictures."),
    crop: bool = typer.Option(False, "--crop", help="Evaluate on a cropped version of the set (see data crop)."),
    crop_seed: int = typer.Option(0, help="Seed of the cropped version."),
    definition: str = typer.Option("paper", help="Ex-OKS definition: paper or exococotools."),
    results_dir: Path | None = typer.Option(None, "--results", help="Also write COCO results of every file there."),
    as_json: bool = typer.Option(False, "--json", help="Print all metrics as JSON."),
) -> None:
    """Evaluate from the true boxes, padding of the file, no flip.

    The cropped version knows keypoints as far out as the largest activation window of the files reaches.
    """
    from probpose_eval.coco import read_annotations
    from probpose_eval.crop_set import CropRecipe, write_crop_set
    from probpose_eval.predict import predict_set

    if len({path.name for path in models}) < len(models):
        raise InputError("evaluate needs files of different names, because results are named after them. Rename one.")
    with tempfile.TemporaryDirectory() as temporary:
        if crop:
            cropped = Path(temporary) / "set"
            recipe = CropRecipe(padding=max(contract_of(path).activation_padding for path in models))
            with progress_bar("cropping") as update:
                write_crop_set(annotations, images, cropped, seed=crop_seed, recipe=recipe, progress=update)
            annotations, images = cropped / "annotations.json", cropped / "images"
        data = read_annotations(annotations)
        rows: dict[str, dict[str, float | str]] = {}
        for path in models:
            with open_for_evaluation(path) as estimator, progress_bar(path.name) as update:
                results = predict_set(estimator, data, images, progress=update)
                rows[path.name] = figures(data, results, estimator, definition)
            if results_dir is not None:
                from probpose_edge.atomic_write import write_text_atomically

                results_dir.mkdir(parents=True, exist_ok=True)
                write_text_atomically(results_dir / f"{path.name}.json", json.dumps(results))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("file", *COLUMNS, "ran on")
    for name, row in rows.items():
        table.add_row(name, *(f"{100 * float(row[column]):.1f}" for column in COLUMNS), str(row["ran on"]))
    out.print(table)


def figures(data, results, estimator, definition: str) -> dict[str, float | str]:  # type: ignore[no-untyped-def]
    """All named metrics of one result set; sigmas that the set does not name are those of the model."""
    from probpose_edge.skeleton import Skeleton
    from probpose_eval.coco import with_skeleton
    from probpose_eval.evaluate import evaluate, mean_oks
    from probpose_eval.presence import presence_accuracy

    data = with_skeleton(data, Skeleton.of(estimator.contract))
    threshold, padding = estimator.presence_threshold, estimator.contract.activation_padding
    own = {"presence_threshold": threshold, "padding": padding, "input_wh": estimator.contract.input_wh}
    instance = mean_oks(data, results)
    presence = presence_accuracy(
        data, results, thresholds=[threshold], padding=padding, input_wh=estimator.contract.input_wh
    )[0]
    return {
        "mean OKS": instance.mean,
        "OKS > 0.5": instance.share_above_half,
        **evaluate(data, results, **own),
        **evaluate(data, results, extended=True, definition=definition, **own),
        "presence accuracy": float("nan") if presence.accuracy is None else presence.accuracy,
        "ran on": f"{estimator.runtime.name} ({estimator.runtime.provenance})",
    }
