"""`probpose-edge calibrate`: make a file's probabilities mean what they say."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from probpose_cli.console import out, progress_bar
from probpose_cli.models import open_for_evaluation
from probpose_edge.exceptions import InputError

if TYPE_CHECKING:
    from probpose_edge import ModelContract
    from probpose_eval.calibration.calibrate import Calibration
    from probpose_eval.calibration.calibration_samples import PicturedSet


def command(
    models: list[Path] = typer.Argument(..., help=".onnx, .tflite, .mlpackage or .safetensors files."),
    data: list[str] = typer.Option(
        [],
        "--data",
        help="annotations.json:images/; not what the model is judged on later. Needed unless --scores only sets. "
        "--scores learns from several, each written annotations.json:images/[:rounds[:no-visibility]].",
    ),
    crop_seed: int = typer.Option(0, min=0, help="Seed of the cropped version of the set, which is used beside it."),
    threshold: str = typer.Option(
        "balanced",
        help="Stored presence threshold: balanced (as many absent as present), accuracy (as in the set), or a number.",
    ),
    quality: bool = typer.Option(
        True, "--quality/--no-quality", help="Fit the quality too; not on pictures the network was trained on."
    ),
    scores: str | None = typer.Option(
        None,
        help="Only change how persons are scored: ccnet (a head fitted into a checkpoint), closed-form, learned, or "
        "mean-quality; see docs/calibration.md.",
    ),
    rounds: int = typer.Option(
        10, min=1, help="How often learned scores see every person, disturbed; for sets that do not say it."
    ),
    out_dir: Path | None = typer.Option(None, "--out", help="Folder for calibrated copies; else files are changed."),
    plots: Path | None = typer.Option(None, "--plots", help="Folder for the curves as pictures."),
    as_json: bool = typer.Option(False, "--json", help="Print all numbers and curves as JSON."),
) -> None:
    """Fit maps, presence, its threshold and quality on a set and its cropped version; store them in the metadata."""
    from probpose_convert.write_contract import writable_format
    from probpose_eval.calibration.calibrate import check_threshold
    from probpose_eval.calibration.draw_calibration import draw_calibration, require_drawing
    from probpose_eval.data_source import parse_score_source, split_source

    check_threshold(threshold)
    if len({path.name for path in models}) < len(models):
        raise InputError("calibrate needs files of different names, because its results are named after them.")
    for path in models:
        # Said before the network runs over the whole set.
        writable_format(path)
    if scores is not None:
        from probpose_cli.calibrate_scores import calibrate_scores

        sources = [parse_score_source(text, rounds) for text in data]
        calibrate_scores(models, scores, sources, out_dir=out_dir, as_json=as_json)
        return
    if not data:
        raise InputError("Calibration needs labelled persons. Name them: --data annotations.json:images/.")
    if len(data) > 1:
        raise InputError(f"Calibration takes one set, got {len(data)} with --data. Only --scores learns from several.")
    annotations, images = split_source(data[0])
    if plots is not None:
        require_drawing()
    for folder in (out_dir, plots):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        sets = _Sets(annotations, images, crop_seed, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        for path in models:
            calibration, contract = _calibrate(path, sets, threshold, quality, out_dir)
            found[path.name] = _numbers(calibration, contract)
            if plots is not None:
                draw_calibration(plots, path.name, calibration)
            if not as_json:
                _print(path.name, calibration)
    if as_json:
        typer.echo(json.dumps(found, indent=2))


class _Sets:
    """The set and its cropped versions, each cut once for all files with the same activation window."""

    def __init__(self, annotations: Path, images: Path, crop_seed: int, folder: Path) -> None:
        from probpose_eval import load_evaluation_set
        from probpose_eval.annotations.coco import image_path, labelled_persons
        from probpose_eval.calibration.calibration_samples import PicturedSet
        from probpose_eval.calibration.picture_hashes import PICTURE_HASHES_KEY, short_hashes

        self._files, self._crop_seed, self._folder = (annotations, images), crop_seed, folder
        whole = load_evaluation_set(annotations, images, name=annotations.name)
        self._whole = PicturedSet(annotations=whole.annotations, images_dir=images)
        self._cropped: dict[tuple[tuple[int, int], float], PicturedSet] = {}
        used = {person.image_id for person in labelled_persons(whole.annotations)}
        self.record: dict[str, float | str] = {
            "data": annotations.name,
            "crop_seed": crop_seed,
            "annotations_sha256": whole.annotations_sha256,
            "pictures_sha256": whole.pictures_sha256,
            PICTURE_HASHES_KEY: short_hashes(image_path(images, whole.annotations.images[i]) for i in sorted(used)),
        }

    def for_model(self, contract: ModelContract) -> list[PicturedSet]:
        """The set, and its version cropped for the activation window of a model."""
        from probpose_eval.annotations.coco import read_annotations
        from probpose_eval.annotations.crop_set import CropRecipe, write_crop_set
        from probpose_eval.calibration.calibration_samples import PicturedSet

        window = (contract.input_wh, contract.activation_padding)
        if window not in self._cropped:
            folder = self._folder / str(len(self._cropped))
            recipe = CropRecipe(input_wh=contract.input_wh, padding=contract.activation_padding)
            with progress_bar("cropping") as update:
                write_crop_set(*self._files, folder, seed=self._crop_seed, recipe=recipe, progress=update)
            self._cropped[window] = PicturedSet(
                annotations=read_annotations(folder / "annotations.json"), images_dir=folder / "images"
            )
        return [self._whole, self._cropped[window]]


def _calibrate(
    path: Path, sets: _Sets, threshold: str, with_quality: bool, out_dir: Path | None
) -> tuple[Calibration, ModelContract]:
    from probpose_convert.write_contract import write_contract
    from probpose_eval.calibration.calibrate import calibrate
    from probpose_eval.calibration.calibration_samples import collect_samples

    with open_for_evaluation(path) as estimator:
        before = estimator.contract
        with progress_bar(path.name) as update:
            samples = collect_samples(estimator, sets.for_model(before), progress=update)
    with progress_bar("fitting") as update:
        calibration = calibrate(before, samples, threshold=threshold, with_quality=with_quality, progress=update)
    after = calibration.contract(before, sets.record)
    write_contract(path, after, None if out_dir is None else out_dir / path.name)
    return calibration, after


def _numbers(calibration: Calibration, contract: ModelContract) -> dict[str, Any]:
    from probpose_eval.metrics.coverage import LEVELS

    def curve(said, true, count):  # type: ignore[no-untyped-def]
        rows = zip(said.tolist(), true.tolist(), count.tolist(), strict=True)
        return [{"said": s, "true": t, "keypoints": c} for s, t, c in rows if c]

    return {
        "calibration": contract.calibration,
        "presence_scale": contract.presence_scale,
        "presence_bias": contract.presence_bias,
        "presence_threshold": contract.presence_threshold,
        "quality_scale": contract.quality_scale,
        "quality_bias": contract.quality_bias,
        "coverage": {
            "levels": LEVELS.tolist(),
            "before": calibration.coverage_before.tolist(),
            "fitted": calibration.coverage_fitted.tolist(),
            "held_out": calibration.coverage_held_out.tolist(),
        },
        "presence": {
            "before": asdict(calibration.presence_before),
            "fitted": {kind: asdict(quality) for kind, quality in calibration.presence_fitted.items()},
            "held_out": {kind: asdict(quality) for kind, quality in calibration.presence_held_out.items()},
            "reliability_before": curve(*calibration.reliability_before),
            "reliability_held_out": curve(*calibration.reliability_held_out),
        },
        "quality": {
            "before": asdict(calibration.quality_before),
            "fitted": asdict(calibration.quality_fitted),
            "held_out": asdict(calibration.quality_held_out),
        },
    }


def _print(name: str, calibration: Calibration) -> None:
    from probpose_eval.metrics.coverage import coverage_error

    out.print(
        f"{name}: {calibration.persons} persons in {calibration.pictures} pictures and their cropped versions; "
        f"{calibration.present} present and {calibration.absent} absent keypoints"
    )
    fit = calibration.coverage_fit
    out.print(f"maps: softmax at temperature {fit.temperature:.3g}, {100 * fit.lost_share:.0f} % of the mass spread")
    table = Table("%", "before", *(f"held out, {kind}" for kind in calibration.presence_held_out))
    errors = [coverage_error(calibration.coverage_before)] + [coverage_error(calibration.coverage_held_out)] * len(
        calibration.presence_held_out
    )
    table.add_row("coverage error of the maps", *(f"{100 * error:.1f}" for error in errors))
    qualities = [calibration.presence_before, *calibration.presence_held_out.values()]
    for label, field in (
        ("presence ECE", "ece"),
        ("presence Brier score", "brier"),
        ("presence AUROC", "auroc"),
        ("presence threshold", "threshold"),
        ("accuracy", "accuracy"),
        ("balanced accuracy", "balanced_accuracy"),
        ("present keypoints found", "present_found"),
        ("absent keypoints found", "absent_found"),
    ):
        table.add_row(label, *(f"{100 * getattr(quality, field):.1f}" for quality in qualities))
    kinds = len(calibration.presence_held_out)
    scores = [calibration.quality_before, *[calibration.quality_held_out] * kinds]
    for label, field in (
        ("quality ECE", "ece"),
        ("quality, mean", "mean_said"),
        ("true OKS, mean", "mean_true"),
        ("quality, correlation with the true OKS", "pearson"),
    ):
        values = [getattr(each, field) for each in scores]
        table.add_row(label, *("–" if value is None else f"{100 * value:.1f}" for value in values))
    out.print(table)
    out.print(f"stored: the {calibration.chosen} threshold, {calibration.thresholds[calibration.chosen]:.4f}")
