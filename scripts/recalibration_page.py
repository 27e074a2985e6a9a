"""What recalibrating a quantized file brings, and what it repairs: a page of the docs.

    python scripts/recalibration_page.py FILE --reference FP32 --fit train.json:images/ --judge val.json:images/

The file is judged with the numbers of the reference, as `convert` passes them on, and with its own, fitted on --fit;
then the same for a copy whose presence was damaged on purpose. No file is changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from calibration_page import Both, read_both, table
from compare_kernels import RunOnce
from made_by import anonymous_command
from numpy.typing import NDArray

from probpose_cli.models import open_for_evaluation
from probpose_edge import ModelContract, PoseEstimator, RawOutputs, Runtime, calibrate_presence
from probpose_edge.atomic_write import write_text_atomically
from probpose_eval import evaluate
from probpose_eval.calibration.calibrate import calibrate
from probpose_eval.calibration.calibration_samples import PicturedSet, collect_samples
from probpose_eval.metrics.binary_scores import binary_scores
from probpose_eval.metrics.coverage import coverage, coverage_error
from probpose_eval.metrics.oks import OksRule
from probpose_eval.observations.drift import measure_drift
from probpose_eval.observations.observe import map_standing, observe_set, results_of
from probpose_eval.observations.observed_truth import observed_truth

DAMAGE = 0.5
"""The damaged network gives this share of its presence logits."""


class DamagedPresence:
    """A runtime whose presence logits are `DAMAGE` of another's."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name, self.provenance = runtime.name, runtime.provenance

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """As `Runtime.run`."""
        raw = self._runtime.run(crops)
        assert raw.presence is not None
        k = raw.presence.shape[1]
        return dataclasses.replace(raw, presence=calibrate_presence(raw.presence, [DAMAGE] * k, [0.0] * k))

    def close(self) -> None:
        """The runtime belongs to the caller."""


def main() -> None:
    """Fit on one set, judge on the other, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--fit", required=True, help="annotations.json:images/")
    parser.add_argument("--judge", required=True, help="annotations.json:images/, other pictures")
    parser.add_argument("--out", type=Path, default=Path("docs/results/recalibration.md"))
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as temporary,
        open_for_evaluation(args.reference, threads=1) as reference,
        open_for_evaluation(args.file, threads=1) as file,
    ):
        fit_set, judge_set = (
            read_both(text, Path(temporary) / name, file.contract)
            for name, text in (("f", args.fit), ("j", args.judge))
        )
        intact = RunOnce(file.runtime)
        rows = {f"{args.reference.name}, the reference": PoseEstimator(RunOnce(reference.runtime), reference.contract)}
        for name, runtime in ((args.file.name, intact), ("… damaged", DamagedPresence(intact))):
            inherited = as_converted(file.contract, reference.contract)
            rows[f"{name}, numbers of the reference"] = PoseEstimator(runtime, inherited)
            rows[f"{name}, recalibrated"] = PoseEstimator(runtime, recalibrated(runtime, inherited, fit_set))
        page = [
            introduction(args.file, reference.contract),
            table(HEAD, measure(rows, judge_set.plain)),
            "The cropped version of the same pictures:",
            table(HEAD, measure(rows, judge_set.cropped)),
            f"Fitted on {fit_set.described}.\n\nJudged on {judge_set.described}.",
            f"Made by `{anonymous_command(sys.argv[1:], Path(__file__).name)}`.",
        ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(args.out, "\n\n".join(page) + "\n")
    print(args.out.read_text(encoding="utf-8"))


def as_converted(contract: ModelContract, reference: ModelContract) -> ModelContract:
    """The contract of a file that was only converted: it has the calibration of its checkpoint."""
    names = ("presence_scale", "presence_bias", "presence_threshold", "quality_scale", "quality_bias", "calibration")
    return contract.replace(**{name: getattr(reference, name) for name in names})


def recalibrated(runtime: Runtime, contract: ModelContract, data: Both) -> ModelContract:
    """The contract with maps and presence fitted for this network, at the same threshold."""
    samples = collect_samples(PoseEstimator(runtime, contract), [data.plain, data.cropped])
    found = calibrate(contract, samples, threshold=contract.presence_threshold, with_quality=False)
    return found.contract(contract, {})


HEAD = ("", "presence ECE", "mean shift", "decisions flipped", "coverage error", "AP", "Ex-AP")


def measure(rows: dict[str, PoseEstimator], data: PicturedSet) -> list[list[str]]:
    """One row per estimator, the first of which is the reference."""
    annotations = data.annotations
    observed = observe_set(list(rows.values()), annotations, data.images_dir, reference=0)
    base = observed[0][0]
    contract = next(iter(rows.values())).contract
    settings: dict[str, Any] = {
        "presence_threshold": contract.presence_threshold,
        "padding": contract.activation_padding,
        "input_wh": contract.input_wh,
    }
    lines = []
    for name, (said, maps) in zip(rows, observed, strict=True):
        truth = observed_truth(annotations, said, OksRule(**settings))
        known = truth.present | truth.absent
        presence = binary_scores(said.presence[known], truth.present[known], contract.presence_threshold, curve=False)
        drift = measure_drift(annotations, base, said, maps).overall.presence
        results = results_of(said, annotations.category_id)
        figures = {
            **evaluate(annotations, results, **settings),
            **evaluate(annotations, results, extended=True, **settings),
        }
        off = coverage_error(coverage(map_standing(said)))
        shown = [f"{100 * figures[metric]:.1f}" for metric in ("AP", "Ex-AP")]
        lines.append([name, *percent(presence.ece, drift.mean, drift.flipped, off), *shown])
    return lines


def percent(*values: float | None) -> Sequence[str]:
    """Shares as points with two digits."""
    return ["–" if value is None else f"{100 * value:.2f}" for value in values]


def introduction(file: Path, reference: ModelContract) -> str:
    """What the page is about."""
    return (
        f"# Recalibration of {file.name}\n\nA converted file carries the calibration of its checkpoint (*numbers of "
        "the reference*); `probpose-edge calibrate` fits one to the file itself (*recalibrated*, here maps and "
        f"presence, at the threshold {reference.presence_threshold:g} of the reference; "
        "[calibration](../calibration.md)). *Damaged*: the presence logits of the same network are multiplied by "
        f"{DAMAGE:g}, as a bad scale in a quantized head would; this is simulated. Shift and flipped decisions are "
        "those of presence against the reference. All in points."
    )


if __name__ == "__main__":
    main()
