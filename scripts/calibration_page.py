"""Calibrate a model on one set, judge it on another, and write what that gave as a page of the docs.

    python scripts/calibration_page.py CHECKPOINT --fit train.json:images/ --judge val.json:images/

The file itself is not changed; `probpose-edge calibrate` does that. Everything is measured on the sets and on their
cropped versions (seed 0).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compare_kernels import RunOnce
from made_by import anonymous_command

from probpose_cli.models import open_for_evaluation
from probpose_edge import ModelContract, PoseEstimator
from probpose_edge.atomic_write import write_text_atomically
from probpose_eval import evaluate, load_evaluation_set, mean_oks, predict_set_with_all, presence_accuracy
from probpose_eval.annotations.crop_set import CropRecipe, write_crop_set
from probpose_eval.calibration.calibrate import Calibration, calibrate
from probpose_eval.calibration.calibration_samples import CalibrationSamples, PicturedSet, collect_samples
from probpose_eval.calibration.draw_calibration import draw_calibration
from probpose_eval.calibration.fit_coverage import sparsemax_standing
from probpose_eval.data_source import split_source
from probpose_eval.metrics.coverage import LEVELS, coverage, coverage_error
from probpose_eval.metrics.model_scores import ConfidenceScores
from probpose_eval.metrics.presence_reliability import PresenceQuality

TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)
LEVELS_SHOWN = (0, 4, 9, 14, 17, 18)


@dataclass(frozen=True, kw_only=True, eq=False)
class Both:
    """A set as it is and cropped, with a line that says which data it is."""

    plain: PicturedSet
    cropped: PicturedSet
    described: str


def main() -> None:
    """Fit on one set, judge on the other, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--fit", required=True, help="annotations.json:images/")
    parser.add_argument("--judge", required=True, help="annotations.json:images/, other pictures")
    parser.add_argument("--out", type=Path, default=Path("docs/results/calibration.md"))
    parser.add_argument("--pictures", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, open_for_evaluation(args.model) as estimator:
        contract = estimator.contract
        fit_set, judge_set = (
            read_both(text, Path(temporary) / name, contract) for name, text in (("f", args.fit), ("j", args.judge))
        )
        samples = collect_samples(estimator, [fit_set.plain, fit_set.cropped])
        fresh = collect_samples(estimator, [judge_set.plain, judge_set.cropped])
        fitted = calibrate(contract, samples)
        calibrated = fitted.contract(contract, {})
        # A calibrated contract makes "before" the judgement of the calibration; "held out" is a fit on that set itself.
        judged, untouched = calibrate(calibrated, fresh), calibrate(contract, fresh)
        parts = [
            introduction(args.model, contract),
            coverage_table(fitted, judged, untouched),
            presence_table(fitted, judged, untouched),
            quality_table(fitted, judged, untouched),
            temperature_table(estimator, samples, fit_set),
            threshold_table(estimator, fitted, judge_set),
            f"Fitted on {fit_set.described}.\n\nJudged on {judge_set.described}.",
            f"Made by `{anonymous_command(sys.argv[1:], Path(__file__).name)}`.",
        ]
    args.pictures.mkdir(parents=True, exist_ok=True)
    draw_calibration(args.pictures, "calibration", fitted)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(args.out, "\n\n".join(parts) + "\n")
    print(args.out.read_text(encoding="utf-8"))


def read_both(source: str, folder: Path, contract: ModelContract) -> Both:
    """A set and its version cropped for the activation window of the model."""
    annotations, images = split_source(source)
    recipe = CropRecipe(input_wh=contract.input_wh, padding=contract.activation_padding)
    made = write_crop_set(annotations, images, folder, seed=0, recipe=recipe)
    data = load_evaluation_set(annotations, images, name=annotations.name)
    return Both(
        plain=PicturedSet(annotations=data.annotations, images_dir=images),
        cropped=PicturedSet(annotations=made.annotations, images_dir=folder / "images"),
        described=f"`{annotations.name}` (annotations {data.annotations_sha256[:12]}…, pictures "
        f"{data.pictures_sha256[:12]}…) and its cropped version",
    )


def introduction(model: Path, contract: ModelContract) -> str:
    """What the page is about."""
    return (
        f"# Calibration of {contract.model}\n\nWhat `probpose-edge calibrate` gives for `{model.name}`; "
        "[calibration](../calibration.md) explains the terms. *Held out* rows are fits on the set itself, each picture "
        "judged by a fit without it; *judged set* alone takes the numbers fitted on the fitted set. The network was "
        "trained on the pictures of the fitted set, and never on those of the judged one."
    )


def coverage_table(fitted: Calibration, judged: Calibration, untouched: Calibration) -> str:
    """Coverage before and after on both sets."""
    rows = [
        ("fitted set, before", fitted.coverage_before),
        ("fitted set, held out", fitted.coverage_held_out),
        ("judged set, before", untouched.coverage_before),
        ("judged set", judged.coverage_before),
        ("judged set, held out", untouched.coverage_held_out),
    ]
    fit = fitted.coverage_fit
    return (
        "## Maps\nPercent of the keypoints in the region that holds q of the mass, and the mean of |q - share| over 5, "
        f"10, … 95 % in points. Stored: temperature {fit.temperature:.3g}, lost share {fit.lost_share:.2f}.\n\n"
        + table(
            ["", *(f"{100 * LEVELS[i]:.0f} %" for i in LEVELS_SHOWN), "error"],
            [
                [name, *(f"{100 * shares[i]:.1f}" for i in LEVELS_SHOWN), f"**{100 * coverage_error(shares):.1f}**"]
                for name, shares in rows
            ],
        )
        + "\n\n![Coverage](../images/calibration-coverage.png) ![Presence](../images/calibration-presence.png)"
    )


def presence_table(fitted: Calibration, judged: Calibration, untouched: Calibration) -> str:
    """Presence before and after on both sets."""
    rows: list[tuple[str, PresenceQuality]] = [("fitted set, before", fitted.presence_before)]
    rows += [(f"fitted set, held out, {kind}", quality) for kind, quality in fitted.presence_held_out.items()]
    rows += [("judged set, before", untouched.presence_before), ("judged set, balanced", judged.presence_before)]
    rows += [(f"judged set, held out, {kind}", quality) for kind, quality in untouched.presence_held_out.items()]
    return (
        f"## Presence\nPercent, but for the threshold. Fitted set: {fitted.present} present and {fitted.absent} absent "
        f"keypoints of {fitted.persons} persons; judged set: {judged.present} and {judged.absent} of "
        f"{judged.persons}.\n\n"
        + table(
            ["", "ECE", "Brier", "AUROC", "threshold", "accuracy", "balanced", "present found", "absent found"],
            [
                [
                    name,
                    *(f"{100 * value:.1f}" for value in (q.ece, q.brier, q.auroc)),
                    f"{q.threshold:.3f}",
                    *(f"{100 * v:.1f}" for v in (q.accuracy, q.balanced_accuracy, q.present_found, q.absent_found)),
                ]
                for name, q in rows
            ],
        )
    )


def quality_table(fitted: Calibration, judged: Calibration, untouched: Calibration) -> str:
    """Quality before and after on both sets."""
    rows: list[tuple[str, ConfidenceScores]] = [
        ("fitted set, before", fitted.quality_before),
        ("fitted set, held out", fitted.quality_held_out),
        ("judged set, before", untouched.quality_before),
        ("judged set", judged.quality_before),
        ("judged set, held out", untouched.quality_held_out),
    ]

    def points(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f}"

    return (
        "## Quality\nThe OKS that the network expects of present keypoints, against the true one, percent. Numbers "
        "fitted on pictures that the network was trained on change little elsewhere (*judged set*); a fit on other "
        "pictures repairs it (*judged set, held out*). The shipped files keep the network's own.\n\n"
        + table(
            ["", "ECE", "mean quality", "mean true OKS", "correlation", "AUSE"],
            [[name, *map(points, (q.ece, q.mean_said, q.mean_true, q.pearson, q.ause))] for name, q in rows],
        )
        + "\n\n![Quality](../images/calibration-quality.png)"
    )


def temperature_table(estimator: PoseEstimator, samples: CalibrationSamples, data: Both) -> str:
    """What the temperature of the sparsemax does to coverage and to the decoded places."""
    contracts = [estimator.contract.replace(temperature=t) for t in TEMPERATURES]
    results = predict_with(estimator, contracts, data.cropped)
    rows = []
    for temperature, result in zip(TEMPERATURES, results, strict=True):
        standing = sparsemax_standing(samples.maps, temperature)
        error = coverage_error(coverage(standing))
        oks = mean_oks(data.cropped.annotations, result).mean
        zero = float((standing.above > 1 - 1e-6).mean())
        rows.append([f"{temperature:g}", f"{100 * error:.1f}", f"{100 * zero:.1f}", f"{100 * oks:.2f}"])
    return (
        "## Why the decode keeps its own temperature\nSparsemax maps of other temperatures, fitted set (mean OKS: its "
        "cropped version). No temperature reaches a small coverage error, and the decoded places do not care.\n\n"
        + table(["temperature", "coverage error", "keypoints where the map is 0, %", "mean OKS, %"], rows)
    )


def threshold_table(estimator: PoseEstimator, fitted: Calibration, data: Both) -> str:
    """What the thresholds do to AP and Ex-AP of the judged set."""
    contract = estimator.contract
    # The quality decides on the scores; here only the thresholds shall differ.
    after = fitted.contract(contract, {}).replace(
        quality_scale=contract.quality_scale, quality_bias=contract.quality_bias
    )
    chosen = {"before": contract, **{k: after.replace(presence_threshold=t) for k, t in fitted.thresholds.items()}}
    rows = []
    for name, each in (("plain", data.plain), ("cropped", data.cropped)):
        results = predict_with(estimator, list(chosen.values()), each)
        for (label, model), result in zip(chosen.items(), results, strict=True):
            own = {"padding": model.activation_padding, "input_wh": model.input_wh}
            threshold = model.presence_threshold
            figures = {
                **evaluate(each.annotations, result, presence_threshold=threshold, **own),
                **evaluate(each.annotations, result, presence_threshold=threshold, extended=True, **own),
            }
            found = presence_accuracy(each.annotations, result, thresholds=[threshold], **own)[0]
            rows.append(
                [
                    f"{name}, {label}",
                    f"{threshold:.3f}",
                    *(f"{100 * figures[metric]:.1f}" for metric in ("AP", "Ex-AP")),
                    f"{100 * found.present_found / max(found.present, 1):.0f}",
                    f"{100 * found.absent_found / max(found.absent, 1):.0f}",
                ]
            )
    return "## What the thresholds cost\nJudged set, with the numbers of the fitted one, percent.\n\n" + table(
        ["set, threshold", "threshold", "AP", "Ex-AP", "present found", "absent found"], rows
    )


def predict_with(estimator: PoseEstimator, contracts: Sequence[ModelContract], data: PicturedSet) -> list:  # type: ignore[type-arg]
    """Results of one network under several contracts; it runs once per crop."""
    once = RunOnce(estimator.runtime)
    estimators = [PoseEstimator(once, contract) for contract in contracts]
    return predict_set_with_all(estimators, data.annotations, data.images_dir)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    main()
