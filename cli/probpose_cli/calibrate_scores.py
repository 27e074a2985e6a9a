"""`probpose-edge calibrate --scores`: scores of persons that foretell their OKS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from probpose_cli.console import out, progress_bar
from probpose_cli.models import open_for_evaluation

if TYPE_CHECKING:
    from probpose_eval.calibration.fit_score_head import ScoreFit


def calibrate_scores(
    models: list[Path],
    choice: str,
    annotations: Path,
    images: Path,
    *,
    rounds: int,
    out_dir: Path | None,
    as_json: bool,
) -> None:
    """Fit the scores of every file by itself, or set them, and leave everything else in its metadata as it is."""
    from probpose_convert.write_contract import write_contract
    from probpose_eval import load_evaluation_set
    from probpose_eval.annotations.coco import image_path, labelled_persons
    from probpose_eval.calibration.calibrate_scores import check_choice, with_scores
    from probpose_eval.calibration.calibration_samples import PicturedSet
    from probpose_eval.calibration.fit_score_head import fit_score_head
    from probpose_eval.calibration.picture_hashes import PICTURE_HASHES_KEY, short_hashes
    from probpose_eval.calibration.score_samples import collect_score_samples

    check_choice(choice)
    learned = choice == "learned"
    if out_dir is not None:
        out_dir.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {}
    if learned:
        whole = load_evaluation_set(annotations, images, name=annotations.name)
        used = {person.image_id for person in labelled_persons(whole.annotations)}
        record = {
            "data": annotations.name,
            "rounds": rounds,
            "annotations_sha256": whole.annotations_sha256,
            "pictures_sha256": whole.pictures_sha256,
            PICTURE_HASHES_KEY: short_hashes(image_path(images, whole.annotations.images[i]) for i in sorted(used)),
        }
        data = PicturedSet(annotations=whole.annotations, images_dir=images)
    found: dict[str, Any] = {}
    for path in models:
        fit = None
        with open_for_evaluation(path) as estimator:
            before = estimator.contract
            if learned:
                with progress_bar(path.name) as update:
                    samples = collect_score_samples(estimator, data, rounds=rounds, progress=update)
                fit = fit_score_head(samples)
        after = with_scores(before, choice, fit, record)
        write_contract(path, after, None if out_dir is None else out_dir / path.name)
        found[path.name] = {
            "scores": choice,
            "calibration": {name: value for name, value in after.calibration.items() if name.startswith("scores_")},
        }
        if not as_json:
            _print(path.name, choice, fit)
    if as_json:
        typer.echo(json.dumps(found, indent=2))


def _print(name: str, choice: str, fit: ScoreFit | None) -> None:
    out.print(f"{name}: scores are {choice}")
    if fit is None:
        return
    table = Table("held-out disturbed crops", "before", "learned")
    for label, field in (("correlation with the true OKS", "pearson"), ("AUSE (less is better)", "ause")):
        values = [getattr(scores, field) for scores in (fit.before, fit.held_out)]
        table.add_row(label, *("–" if value is None else f"{100 * value:.1f}" for value in values))
    out.print(table)
    out.print(f"fitted on {fit.pictures} pictures, one of five held out; best after {fit.epochs} epochs")
