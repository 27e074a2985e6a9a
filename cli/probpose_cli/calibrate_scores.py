"""`probpose-edge calibrate --scores`: scores of persons that foretell their OKS."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from probpose_cli.console import out, progress_bar
from probpose_cli.models import open_for_evaluation
from probpose_edge.exceptions import InputError
from probpose_edge.extras import import_extra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from probpose_edge import ModelContract, PoseEstimator, Poses
    from probpose_eval.calibration.calibration_samples import PicturedSet
    from probpose_eval.calibration.fit_score_head import ScoreFit
    from probpose_eval.calibration.score_samples import ScoreSamples
    from probpose_eval.data_source import ScoreSource


def calibrate_scores(
    models: list[Path],
    choice: str,
    data: list[ScoreSource],
    *,
    out_dir: Path | None,
    as_json: bool,
) -> None:
    """Fit the scores of every file by itself, or set them, and leave everything else in its metadata as it is.

    data: what to learn from; what is only set needs none.
    """
    from probpose_eval.calibration.calibrate_scores import IN_NETWORK, check_choice

    check_choice(choice)
    in_checkpoint = {path: choice == IN_NETWORK and path.suffix == ".safetensors" for path in models}
    fits = choice == "learned" or any(in_checkpoint.values())
    if fits and not data:
        raise InputError(
            f"Scores of the kind {choice} are learned from persons. Name them: --data annotations.json:images/."
        )
    if fits and not any(source.visibility_labelled for source in data):
        raise InputError(
            "Scores are weighted with which keypoints count, and one set must tell: a set without :no-visibility. Add "
            "one that labels all keypoints."
        )
    if out_dir is not None:
        out_dir.mkdir(parents=True, exist_ok=True)
    people, record = _read(data) if fits else ([], {})
    found: dict[str, Any] = {}
    for path in models:
        target = path if out_dir is None else out_dir / path.name
        fit: ScoreFit | None
        if in_checkpoint[path]:
            fit, after = _fit_in_network(path, target, people, record)
        else:
            fit, after = _fit_or_set(path, target, choice, people, record)
        found[path.name] = {
            "scores": choice,
            "calibration": {name: value for name, value in after.calibration.items() if name.startswith("scores_")},
        }
        if not as_json:
            _print(path.name, choice, fit)
    if as_json:
        typer.echo(json.dumps(found, indent=2))


@dataclass(frozen=True, kw_only=True)
class _People:
    """A source, read."""

    source: ScoreSource
    data: PicturedSet


def _read(sources: list[ScoreSource]) -> tuple[list[_People], dict[str, Any]]:
    """The persons, and what of them is recorded."""
    from probpose_eval import load_evaluation_set
    from probpose_eval.annotations.coco import image_path, labelled_persons
    from probpose_eval.calibration.calibration_samples import PicturedSet
    from probpose_eval.calibration.picture_hashes import PICTURE_HASHES_KEY, short_hashes
    from probpose_eval.calibration.score_samples import persons_in_turn

    people, parts, pictures = [], [], []
    for source in sources:
        whole = load_evaluation_set(source.annotations, source.images, name=source.annotations.name)
        persons = labelled_persons(whole.annotations)
        used = {persons[index].image_id for index in persons_in_turn(whole.annotations, source.rounds)}
        pictures += [image_path(source.images, whole.annotations.images[i]) for i in sorted(used)]
        parts.append(
            {
                "data": source.annotations.name,
                "rounds": f"{source.rounds:g}",
                "annotations_sha256": whole.annotations_sha256,
                "pictures_sha256": whole.pictures_sha256,
            }
        )
        people.append(_People(source=source, data=PicturedSet(annotations=whole.annotations, images_dir=source.images)))
    record = {name: " + ".join(part[name] for part in parts) for name in parts[0]}
    return people, {**record, PICTURE_HASHES_KEY: short_hashes(pictures)}


def _collect(
    name: str,
    estimator: PoseEstimator,
    people: list[_People],
    look: Callable[[Poses, Any], NDArray[np.floating]] | None = None,
) -> ScoreSamples:
    """The samples of all sets, with a number of its own for every picture."""
    from probpose_eval.calibration.score_samples import collect_score_samples, join_score_samples

    parts = []
    for number, each in enumerate(people):
        with progress_bar(f"{name}, {each.source.annotations.name}") as update:
            samples = collect_score_samples(
                estimator,
                each.data,
                rounds=each.source.rounds,
                tells_counting=each.source.visibility_labelled,
                progress=update,
                look=look,
            )
        parts.append(replace(samples, pictures=samples.pictures * len(people) + number))
    return join_score_samples(parts)


def _fit_or_set(
    path: Path, target: Path, choice: str, people: list[_People], record: dict[str, Any]
) -> tuple[ScoreFit | None, ModelContract]:
    """Only the metadata of the file changes."""
    from probpose_convert.write_contract import write_contract
    from probpose_eval.calibration.calibrate_scores import with_scores
    from probpose_eval.calibration.fit_score_head import fit_score_head

    fit = None
    with open_for_evaluation(path) as estimator:
        before = estimator.contract
        if choice == "learned":
            fit = fit_score_head(_collect(path.name, estimator, people))
    after = with_scores(before, choice, fit, record)
    write_contract(path, after, target)
    return fit, after


def _fit_in_network(
    path: Path, target: Path, people: list[_People], record: dict[str, Any]
) -> tuple[ScoreFit, ModelContract]:
    """The checkpoint gets a head, fitted on the features of its quantized form if it has ranges, and keeps the rest."""
    import_extra("Fitting a confidence head", "torch", "train")
    from probpose_edge import PoseEstimator
    from probpose_eval.calibration.calibrate_scores import IN_NETWORK, with_scores
    from probpose_models.checkpoint import load_checkpoint, save_checkpoint
    from probpose_models.confidence_head import add_confidence_head, without_confidence_head
    from probpose_train.confidence_fit import fit_confidence_head
    from probpose_train.confidence_samples import PartsNetwork, PartsRuntime

    model, contract = load_checkpoint(path)
    model, contract = without_confidence_head(model, contract)
    network: Any = PartsNetwork(model).eval()
    quantization = None
    if contract.precision == "fp32":
        quantization, network = _quantized(path, network, contract)
    estimator = PoseEstimator(PartsRuntime(network, contract.output_names), contract)
    samples = _collect(path.name, estimator, people, lambda _, raw: raw.parts)
    fit = fit_confidence_head(add_confidence_head(model), samples)
    # A checkpoint does not hold its own hash.
    after = with_scores(contract.replace(checkpoint_sha256=""), IN_NETWORK, fit, record)
    if quantization is None:
        save_checkpoint(target, model, after)
    else:
        from probpose_quant.quantization import save_quantized

        save_quantized(target, model, after, quantization)
    return fit, after


def _quantized(path: Path, network: Any, contract: ModelContract) -> tuple[Any, Any]:
    """The quantization saved in a checkpoint and the graph as it says, or none and the network as it is."""
    from probpose_quant.quantization import read_quantization

    quantization = read_quantization(path)
    if quantization is None:
        return None, network
    import numpy as np

    from probpose_convert.quiet import quiet_libraries
    from probpose_quant.calibrate import quantize_static
    from probpose_quant.fold_batch_norms import fold_batch_norms

    # The ranges are known, so the crop only says how large the picture is; one of one colour would be refused.
    size = np.zeros((1, contract.input_wh[1], contract.input_wh[0], 3), dtype=np.uint8)
    size[0, 0, 0] = 255
    with quiet_libraries():
        import_extra("Fitting on quantized features", "torchao.quantization.pt2e.quantize_pt2e", "convert")
        graph = quantize_static(
            fold_batch_norms(network), size, quantization.recipe, int32_bias=False, ranges=quantization.ranges
        )
    return quantization, graph


def _print(name: str, choice: str, fit: ScoreFit | None) -> None:
    out.print(f"{name}: scores are {choice}")
    if fit is None:
        return
    table = Table("held-out disturbed crops", "before", "learned")
    for label, field in (("correlation with the true OKS", "pearson"), ("AUSE (less is better)", "ause")):
        values = [getattr(scores, field) for scores in (fit.before, fit.held_out)]
        table.add_row(label, *("–" if value is None else f"{100 * value:.1f}" for value in values))
    out.print(table)
    held = f"best after {fit.epochs} epochs" if fit.head is not None else f"{fit.epochs} epochs"
    out.print(f"fitted on {fit.pictures} pictures, one of five held out; {held}")
