"""`probpose-edge evaluate`: AP, Ex-AP and presence accuracy of any number of models and of results of other tools."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from probpose_cli.console import out, progress_bar
from probpose_cli.inspect import contract_of
from probpose_cli.models import open_for_evaluation
from probpose_cli.routed import ROUTED_HELP, RoutedFiles, open_routed, parse_routed
from probpose_edge.exceptions import AnnotationError, InputError

if TYPE_CHECKING:
    from probpose_edge.contract.metadata import ModelContract
    from probpose_eval import AnnotationSet, Detections, OksRule

COLUMNS = ("mean OKS", "AP", "AP50", "AP75", "AR", "Ex-AP", "Ex-AP50", "presence accuracy")
SHARED = "shared calibration pictures"
OTHER_TOOLS_THRESHOLD = 0.5
OTHER_TOOLS_PADDING = 1.25
"""Threshold and activation window of results that no model file comes with; the window's aspect is 3:4."""

Figures = dict[str, float | str | None]


def command(
    models: list[Path] = typer.Argument(None, help=".onnx, .tflite, .mlpackage, .safetensors or published .pth files."),
    annotations: Path = typer.Option(..., "--annotations", help="COCO keypoint annotations."),
    images: Path | None = typer.Option(None, "--images", help="Folder of its pictures; predictions alone need none."),
    predictions: list[Path] = typer.Option(
        [], "--predictions", help="COCO keypoint results of another tool, presence in the third value; repeatable."
    ),
    boxes: Path | None = typer.Option(
        None, "--boxes", help="COCO results of a detector: estimate in these boxes instead of the true ones."
    ),
    min_box_score: float = typer.Option(0.0, min=0, max=1, help="Leave out boxes with a lower score."),
    boxes_per_image: int | None = typer.Option(None, min=1, help="Keep only so many boxes of a picture, the best."),
    crop: bool = typer.Option(False, "--crop", help="Evaluate on a cropped version of the set (see data crop)."),
    crop_seed: int = typer.Option(0, help="Seed of the cropped version."),
    definition: str = typer.Option("paper", help="Ex-OKS definition: paper or exococotools."),
    presence_threshold: float | None = typer.Option(
        None, min=0, max=1, help="For every row; else each model's own, and 0.5 for predictions."
    ),
    padding: float | None = typer.Option(
        None, min=0.1, help="Activation window of Ex-OKS for every row; else each model's own, 1.25 for predictions."
    ),
    out_dir: Path | None = typer.Option(
        None, "--out", help="Folder for the results of every model, which pycocotools reads, and metrics.json."
    ),
    allow_calibration_pictures: bool = typer.Option(
        False, "--allow-calibration-pictures", help="Judge models on pictures they were calibrated on too; marks them."
    ),
    routed: list[str] = typer.Option(
        [],
        "--routed",
        metavar="ROUTER:SMALL:LARGE",
        help=f"Also {ROUTED_HELP}; both are named among the models, too. Repeatable.",
    ),
    share: float = typer.Option(0.5, help="Of the persons who go to the large model of --routed."),
    as_json: bool = typer.Option(False, "--json", help="Print all metrics as JSON."),
) -> None:
    """Evaluate models from the true boxes or those of a detector, and results of other tools. No flip test.

    The cropped version knows keypoints as far out as the largest activation window of the files reaches.
    """
    from probpose_eval import labelled_persons, read_annotations, read_detections, read_results
    from probpose_eval.annotations.crop_set import CropRecipe, write_crop_set
    from probpose_eval.calibration.shared_pictures import count_shared_pictures

    models = models or []
    _check_arguments(models, predictions, images, boxes, crop)
    pairs = [parse_routed(text) for text in routed]
    _check_routed(pairs, models)
    data = read_annotations(annotations)
    if not labelled_persons(data):
        raise AnnotationError(
            f"A set to evaluate on must have a person with a labelled keypoint who is no crowd, but {annotations} has "
            f"none among its {len(data.persons)}: every figure would be undefined. Give another set."
        )
    contracts = [contract_of(path) for path in models]
    _check_alike(models, contracts, data)
    data = data if not contracts else _with_sigmas(data, contracts[0])
    shared = count_shared_pictures(
        {path.name: contract for path, contract in zip(models, contracts, strict=True)},
        data,
        images or Path(),
        allow=allow_calibration_pictures,
    )
    # Read before any model runs: a bad file shall not cost an hour.
    others = {path.name: read_results(path) for path in predictions}
    detections = (
        None if boxes is None else read_detections(boxes, data, min_score=min_box_score, most_per_image=boxes_per_image)
    )
    rows: dict[str, Figures] = {}
    for name, results in others.items():
        rule = _rule(definition, presence_threshold, padding)
        rows[name] = {**figures(data, results, rule), "ran on": "predictions of another tool"}
    with tempfile.TemporaryDirectory() as temporary:
        if crop and images is not None:
            cropped = Path(temporary) / "set"
            recipe = CropRecipe(padding=max(contract.activation_padding for contract in contracts))
            with progress_bar("cropping") as update:
                write_crop_set(annotations, images, cropped, seed=crop_seed, recipe=recipe, progress=update)
            images, data = (
                cropped / "images",
                _with_sigmas(read_annotations(cropped / "annotations.json"), contracts[0]),
            )
        for path, contract in zip(models, contracts, strict=True):
            results, ran_on = _run(path, data, images or Path(), detections)
            rule = _rule(definition, presence_threshold, padding, contract)
            rows[path.name] = {**figures(data, results, rule), "ran on": ran_on}
            if shared[path.name]:
                rows[path.name][SHARED] = shared[path.name]
            if out_dir is not None:
                _write(out_dir / f"{path.name}.json", results)
        for files in pairs:
            contract = contracts[models.index(files.large or files.small)]
            results, ran_on = _run_routed(files, share, data, images or Path(), detections)
            rule = _rule(definition, presence_threshold, padding, contract)
            name = f"{files.router.name}, {share:.0%}"
            rows[name] = {**figures(data, results, rule), "ran on": ran_on}
            if out_dir is not None:
                _write(out_dir / f"{name}.json", results)
    if out_dir is not None:
        _write(out_dir / "metrics.json", rows)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("file", *COLUMNS, "threshold", "ran on")
    for name, row in rows.items():
        shown = [_points(row[column]) for column in COLUMNS]
        table.add_row(name + " *" * (SHARED in row), *shown, f"{row['presence threshold']:g}", str(row["ran on"]))
    out.print(table)
    for name, row in rows.items():
        if SHARED in row:
            out.print(f"* {name} was calibrated on {row[SHARED]} of these pictures: its figures are optimistic.")
    if detections is not None:
        out.print(
            f"{len(detections)} of {detections.read} detected boxes; score = box score × pose score. Mean OKS and "
            "presence accuracy need the true boxes."
        )


def figures(data: AnnotationSet, results: list[dict[str, Any]], rule: OksRule) -> Figures:
    """All named metrics of one result set; None where one has no ground.

    Mean OKS and presence accuracy are of results that name their person, one for every labelled one.
    """
    from probpose_eval import evaluate, labelled_persons, mean_oks, presence_accuracy

    own: dict[str, Any] = {
        "presence_threshold": rule.presence_threshold,
        "padding": rule.padding,
        "input_wh": rule.input_wh,
    }
    named: Figures = {
        **evaluate(data, results, **own),
        **evaluate(data, results, extended=True, definition=rule.definition, **own),
    }
    # COCO's -1 says that nobody was to be found.
    row: Figures = {name: None if value == -1 else value for name, value in named.items()}
    of_persons = {result.get("annotation_id") for result in results}
    if {person.id for person in labelled_persons(data)} <= of_persons:
        instance = mean_oks(data, results)
        presence = presence_accuracy(
            data, results, thresholds=[rule.presence_threshold], padding=rule.padding, input_wh=rule.input_wh
        )[0]
        found: Figures = {
            "mean OKS": instance.mean,
            "OKS > 0.5": instance.share_above_half,
            "presence accuracy": presence.accuracy,
        }
    else:
        found = {"mean OKS": None, "OKS > 0.5": None, "presence accuracy": None}
    return {**found, **row, "presence threshold": rule.presence_threshold}


def _run(
    path: Path, data: AnnotationSet, images: Path, detections: Detections | None
) -> tuple[list[dict[str, Any]], str]:
    """Results of one model, and what it ran on."""
    from probpose_eval import predict_detections, predict_set

    with open_for_evaluation(path) as estimator, progress_bar(path.name) as update:
        ran_on = f"{estimator.runtime.name} ({estimator.runtime.provenance})"
        if detections is None:
            return predict_set(estimator, data, images, progress=update), ran_on
        return predict_detections(estimator, data, images, detections, progress=update), ran_on


def _run_routed(
    files: RoutedFiles, share: float, data: AnnotationSet, images: Path, detections: Detections | None
) -> tuple[list[dict[str, Any]], str]:
    """Results of two models behind a router, and which ones."""
    from probpose_eval import predict_detections, predict_set

    with open_routed(files, share=share) as estimator, progress_bar(files.router.name) as update:
        ran_on = f"{files.labels[1]} and {files.labels[2]}"
        if detections is None:
            return predict_set(estimator, data, images, progress=update), ran_on
        return predict_detections(estimator, data, images, detections, progress=update), ran_on


def _check_routed(pairs: list[RoutedFiles], models: list[Path]) -> None:
    for files in pairs:
        for member in (files.small, files.large or files.small):
            if member not in models:
                raise InputError(
                    f"The models of --routed must be named among the models, so that each has its row, but {member} "
                    "is not. Name it."
                )
    if len({files.router.name for files in pairs}) < len(pairs):
        raise InputError("Rows of --routed are named after their routers, but two are alike. Rename one.")


def _check_arguments(
    models: list[Path], predictions: list[Path], images: Path | None, boxes: Path | None, crop: bool
) -> None:
    names = [path.name for path in (*models, *predictions)]
    if not names:
        raise InputError("evaluate needs something to evaluate, got neither a model nor --predictions. Name one.")
    if len(set(names)) < len(names):
        raise InputError("evaluate needs files of different names, because results are named after them. Rename one.")
    if models and images is None:
        raise InputError("Models need the pictures of the set, but --images is missing. Name their folder.")
    if crop and (predictions or boxes):
        given = "--predictions" if predictions else "--boxes"
        raise InputError(
            f"--crop makes other pictures, which {given} knows nothing of. Write the cropped set with `probpose-edge "
            "data crop`, make predictions or boxes on it, and evaluate without --crop."
        )
    if boxes and not models:
        raise InputError("--boxes are for models to estimate in, but none is given. Name one, or leave --boxes out.")


def _check_alike(models: list[Path], contracts: list[ModelContract], data: AnnotationSet) -> None:
    """Figures in one table must be comparable: every model has the keypoints of the set, and all the same sigmas."""
    for path, contract in zip(models, contracts, strict=True):
        if contract.keypoint_names != data.keypoint_names:
            raise AnnotationError(
                f"A model must have the keypoints of the set ({', '.join(data.keypoint_names)}), but {path.name} has "
                f"{', '.join(contract.keypoint_names)}. Evaluate models of other skeletons on sets of their own."
            )
    if data.sigmas is None and len({contract.sigmas for contract in contracts}) > 1:
        raise AnnotationError(
            "Models in one table must be judged with the same OKS sigmas, but the set names none and "
            f"{', '.join(path.name for path in models)} have different ones. Add 'sigmas' to its category, or "
            "evaluate them one by one."
        )


def _with_sigmas(data: AnnotationSet, contract: ModelContract) -> AnnotationSet:
    """Sigmas that the set does not name are those of the model."""
    from probpose_edge.skeletons.skeleton import Skeleton
    from probpose_eval import with_skeleton

    return with_skeleton(data, Skeleton.of(contract))


def _rule(
    definition: str, presence_threshold: float | None, padding: float | None, contract: ModelContract | None = None
) -> OksRule:
    """Options first, then the model's own values, then those for other tools."""
    from probpose_eval import OksRule

    threshold = OTHER_TOOLS_THRESHOLD if contract is None else contract.presence_threshold
    window = OTHER_TOOLS_PADDING if contract is None else contract.activation_padding
    return OksRule(
        definition=definition,
        presence_threshold=threshold if presence_threshold is None else presence_threshold,
        padding=window if padding is None else padding,
        input_wh=(192, 256) if contract is None else contract.input_wh,
    )


def _write(path: Path, document: object) -> None:
    from probpose_edge.atomic_write import write_text_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(document, allow_nan=False))


def _points(value: float | str | None) -> str:
    return "–" if value is None else f"{100 * float(value):.1f}"
