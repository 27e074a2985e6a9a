"""What other scores of persons are worth: a page of the docs.

    probpose-edge calibrate CHECKPOINT --scores ccnet --data train.json:images/ --data more.json:images/:0.2 --out DIR
    probpose-edge convert DIR/CHECKPOINT --format onnx,tflite,coreml --precision fp32 --out DIR/files
    python scripts/scores_page.py DIR/files/FILE… --judge val.json:images/

Files without a head or learned scores are shown with the others. No file is changed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from calibration_page import table
from compare_kernels import RunOnce
from made_by import anonymous_command
from numpy.typing import NDArray

from probpose_cli.models import open_for_evaluation
from probpose_edge import PoseEstimator
from probpose_edge.atomic_write import write_text_atomically
from probpose_edge.scores.score_features import FEATURES
from probpose_edge.scores.score_head import read_score_head, weighted_scores
from probpose_edge.scores.score_poses import features_of
from probpose_eval.annotations.coco import labelled_persons, read_annotations
from probpose_eval.calibration.calibration_samples import PicturedSet
from probpose_eval.calibration.shared_pictures import count_shared_pictures
from probpose_eval.data_source import split_source
from probpose_eval.evaluate import average_precision, match_set
from probpose_eval.metrics.bootstrap import Interval, Resampled, image_weights, resampled_ap
from probpose_eval.metrics.confidence_scores import confidence_scores, pearson
from probpose_eval.metrics.model_scores import ConfidenceScores
from probpose_eval.metrics.oks import OksRule
from probpose_eval.metrics.precision_scores import precision_scores
from probpose_eval.observations.observe import observe_set
from probpose_eval.observations.observed_results import results_scored
from probpose_eval.observations.observed_truth import ObservedTruth, observed_truth
from probpose_eval.predict import iterate_crops

ORIGINAL, CONSTANT, TRUE = "original: mean quality of the present keypoints", "constant", "true OKS"
BY_VISIBILITY, BY_PRESENCE = "closed form, weighted with visibility", "closed form, weighted with presence"
QUALITY, LEARNED = "quality, weighted with visibility", "learned from the answers of the file"
HEURISTIC = "expected OKS of the maps, mean of the present keypoints"
PEAK = "peak of the map, mean of the present keypoints"
CCNET = "CCNet: head on the penultimate features"
TRUE_KEYPOINTS = "true OKS of the labelled keypoints, weighted with visibility"
SAMPLES = 1000
WANTED = 1 / 3
NOISE = (0.1, 0.15, 0.2, 0.25)


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One score on one file."""

    ap: Resampled
    ex_ap: float
    ar: float
    persons: ConfidenceScores
    pearson: Resampled


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """All scores of one file, its confidences for keypoints, and the true OKS with noise of some deviation as score."""

    rows: dict[str, Row]
    keypoints: dict[str, ConfidenceScores]
    noisy: dict[float, Row]


def main() -> None:
    """Judge every file, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--judge", required=True, help="annotations.json:images/")
    parser.add_argument("--out", type=Path, default=Path("docs/results/scores.md"))
    args = parser.parse_args()
    annotations, images = split_source(args.judge)
    data = PicturedSet(annotations=read_annotations(annotations), images_dir=images)
    judged: dict[str, Judged] = {}
    fits: dict[str, list[str]] = {}
    for path in args.files:
        with open_for_evaluation(path, threads=1) as estimator:
            count_shared_pictures({path.name: estimator.contract}, data.annotations, images)
            record = estimator.contract.calibration
            if "scores_data" in record:
                what = (
                    f"{record['scores_pictures']} pictures of {record['scores_data']}, {record['scores_rounds']} rounds"
                )
                fits.setdefault(what, []).append(path.name)
            judged[str(path)] = _judge(estimator, data)
    name = f"{annotations.name}, {len(labelled_persons(data.annotations))} labelled persons"
    command = anonymous_command(sys.argv[1:], Path(__file__).name)
    write_text_atomically(args.out, _page(judged, name, fits, command))


def _judge(estimator: PoseEstimator, data: PicturedSet) -> Judged:
    plain = PoseEstimator(RunOnce(estimator.runtime), estimator.contract.replace(scores={}))
    [(observed, _)] = observe_set([plain], data.annotations, data.images_dir)
    features, said = _features(plain, data)
    promised = features[..., FEATURES.index("promised_oks")]
    scores: dict[str, NDArray[np.floating]] = {
        ORIGINAL: observed.scores,
        CONSTANT: np.ones(len(observed)),
        QUALITY: weighted_scores(observed.quality, observed.visibility),
        BY_PRESENCE: weighted_scores(promised, observed.presence),
        BY_VISIBILITY: weighted_scores(promised, observed.visibility),
    }
    if estimator.contract.map_kind == "probability":
        present = observed.presence >= observed.presence_threshold
        scores[HEURISTIC] = weighted_scores(observed.expected_oks, present)
        scores[PEAK] = weighted_scores(np.exp(features[..., FEATURES.index("peak")]), present)
    confidences = {"quality": observed.quality, "expected OKS": observed.expected_oks, "closed form": promised}
    if estimator.contract.scores.get("kind") == "learned":
        head = read_score_head(estimator.contract.scores, promised.shape[1])
        assert head is not None
        oks, counts = head(features)
        scores[LEARNED], confidences["learned"] = weighted_scores(oks, counts), oks
    if said is not None:
        scores[CCNET], confidences["CCNet"] = weighted_scores(said[..., 0], said[..., 1]), said[..., 0]
    rule = OksRule(presence_threshold=observed.presence_threshold)
    facts = observed_truth(data.annotations, observed, rule)
    scores[TRUE_KEYPOINTS] = weighted_scores(np.where(facts.placed, facts.oks, promised), observed.visibility)
    rows = {
        name: _row(data, results_scored(observed, each.astype(np.float64)), facts, rule)
        for name, each in {**scores, TRUE: facts.person_oks}.items()
    }
    placed, rng = facts.placed, np.random.default_rng(0)
    noise = rng.normal(size=len(facts.person_oks))
    return Judged(
        rows=rows,
        noisy={
            sigma: _row(data, results_scored(observed, facts.person_oks + sigma * noise), facts, rule)
            for sigma in NOISE
        },
        keypoints={name: confidence_scores(each[placed], facts.oks[placed]) for name, each in confidences.items()},
    )


def _features(estimator: PoseEstimator, data: PicturedSet) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
    """(P, K, F) features, and (P, K, 2) of what the confidence head says, in the order of `labelled_persons`."""
    contract, found, said = estimator.contract, {}, {}
    for crops in iterate_crops(
        data.annotations, data.images_dir, input_wh=contract.input_wh, padding=contract.padding, batch=16
    ):
        raw = estimator.runtime.run(crops.crops)
        poses = estimator.decode_outputs(raw, crops.windows, boxes_xyxy=crops.boxes_xyxy)
        rows = features_of(poses, raw.logits, contract)
        found.update({person.id: row for person, row in zip(crops.persons, rows, strict=True)})
        if raw.confidence is not None:
            said.update({person.id: row for person, row in zip(crops.persons, raw.confidence, strict=True)})
    ids = [person.id for person in labelled_persons(data.annotations)]
    return np.stack([found[i] for i in ids]), np.stack([said[i] for i in ids]) if said else None


def _row(data: PicturedSet, results, facts: ObservedTruth, rule: OksRule) -> Row:  # type: ignore[no-untyped-def]
    matches = match_set(data.annotations, results, rule=rule)
    weights = image_weights(len(data.annotations.images), samples=SAMPLES, seed=0)
    precision = precision_scores(data.annotations, results, rule)[0]
    return Row(
        ap=Resampled(value=average_precision(matches), samples=resampled_ap(matches, weights)),
        ex_ap=precision.ex_ap or 0.0,
        ar=precision.ar or 0.0,
        persons=confidence_scores(results.scores, facts.person_oks),
        pearson=Resampled(
            value=pearson(results.scores, facts.person_oks),
            samples=np.array([_drawn_pearson(results.scores, facts, drawn) for drawn in weights]),
        ),
    )


def _drawn_pearson(scores: NDArray[np.float64], facts: ObservedTruth, drawn: NDArray[np.int64]) -> float:
    times = drawn[facts.image_index]
    return pearson(np.repeat(scores, times), np.repeat(facts.person_oks, times))


def _page(judged: dict[str, Judged], data: str, fits: dict[str, list[str]], command: str) -> str:
    lines = [
        "# Scores that foretell accuracy",
        "",
        f"Judged on {data}, from true boxes, each file at its own presence threshold. AP, Ex-AP and AR in points; "
        "Pearson: correlation of the score with the true OKS over persons; AUSE in points, less is better. The score "
        f"changes neither keypoints nor presence, so AR stays. Differences with 95 % intervals, paired over {SAMPLES} "
        "bootstrap samples of the pictures. What the scores are: [calibration](../calibration.md#scores).",
        "",
    ]
    for path, each in judged.items():
        lines += [f"## {_name_of(path)}", ""]
        original, best = each.rows[ORIGINAL], each.rows[TRUE]
        gap = best.ap.value - original.ap.value
        lines.append(
            table(
                [
                    "score",
                    "AP",
                    "Ex-AP",
                    "AR",
                    "Pearson",
                    "AUSE",
                    "AP − original",
                    "Pearson − original",
                    "of the AP gap to the true OKS",
                ],
                [
                    [
                        name,
                        f"{100 * row.ap.value:.1f}",
                        f"{100 * row.ex_ap:.1f}",
                        f"{100 * row.ar:.1f}",
                        _number(row.persons.pearson, 3, 1),
                        _number(row.persons.ause, 2, 100),
                        "" if row is original else _interval(row.ap.minus(original.ap)),
                        ""
                        if row is original or name == CONSTANT
                        else _interval(row.pearson.minus(original.pearson), 1, 3),
                        "" if row is original or not gap else f"{(row.ap.value - original.ap.value) / gap:+.0%}",
                    ]
                    for name, row in each.rows.items()
                ],
            )
        )
        later = _made_later(each.rows)
        lines += ["", *(_verdict(name, each.rows, ORIGINAL) for name in later)]
        if PEAK in each.rows:
            lines += [
                "",
                "Its original score is what a quality head says, which learned the OKS with the network. Beside the "
                "peak of the map, the original score of the networks that CCNet was made for:",
                "",
                *(_verdict(name, each.rows, PEAK) for name in (ORIGINAL, later[-1])),
            ]
        lines += ["", "Its confidences for single keypoints (v = 1 and 2), ECE in points:", ""]
        lines.append(
            table(
                ["confidence", "Pearson", "AUSE", "ECE", "mean said", "mean true"],
                [
                    [
                        name,
                        _number(scores.pearson, 3, 1),
                        _number(scores.ause, 2, 100),
                        _number(scores.ece, 1, 100),
                        _number(scores.mean_said, 3, 1),
                        _number(scores.mean_true, 3, 1),
                    ]
                    for name, scores in each.keypoints.items()
                ],
            )
        )
        lines.append("")
    lines += _needed(judged) + _all_files(judged)
    if fits:
        lines += [
            "Fitted on disturbed crops, and never on the pictures judged here: " + _fits(fits) + ". By "
            "`probpose-edge calibrate CHECKPOINT --scores ccnet --data DATA/person_keypoints_train.json:DATA/images "
            "--data LSPET/keypoints_train.json:LSPET/images:0.2:no-visibility --out DIR` (for INT8 files on the "
            "checkpoint that `quantize` wrote; LSPet is a set of sports people without labelled faces) and "
            "`probpose-edge convert`; scores called learned by `--scores learned` on the file itself. Then:",
            "",
        ]
    return "\n".join([*lines, f"`{command}`", ""])


def _fits(fits: dict[str, list[str]]) -> str:
    if len(fits) == 1:
        return f"all on {next(iter(fits))}"
    return "; ".join(f"{', '.join(files)} on {what}" for what, files in fits.items())


def _made_later(rows: dict[str, Row]) -> list[str]:
    """The scores that are fitted or computed after training, the best known last."""
    return [name for name in (BY_VISIBILITY, LEARNED, CCNET) if name in rows]


def _verdict(name: str, rows: dict[str, Row], before: str) -> str:
    gained, share = rows[name].ap.minus(rows[before].ap), _share(rows, name, before)
    told = "told from chance" if gained.low > 0 else "not told from chance"
    reached = "reached" if share.value >= WANTED else "**not reached**"
    return (
        f"- {name}: AP changes by {_interval(gained)} points, {told}, which closes {_percent(share)} of the gap to the "
        f"true OKS; the aim of a third is {reached}."
    )


def _share(rows: dict[str, Row], name: str, before: str = ORIGINAL) -> Interval:
    """Of the gap in AP between the score before and the true OKS, what another score closes."""
    original, best, own = rows[before].ap, rows[TRUE].ap, rows[name].ap
    return Resampled(
        value=(own.value - original.value) / (best.value - original.value),
        samples=(own.samples - original.samples) / (best.samples - original.samples),
    ).interval()


def _needed(judged: dict[str, Judged]) -> list[str]:
    """What a score must know to close a share of the gap."""
    rows = [
        [
            _name_of(path),
            f"{sigma:g}",
            _number(row.persons.pearson, 3, 1),
            f"{100 * row.ap.value:.1f}",
            _percent(_share({**each.rows, "noisy": row}, "noisy")),
        ]
        for path, each in judged.items()
        if "int8" not in _name_of(path)
        for sigma, row in each.noisy.items()
    ]
    return [
        "## How good a score has to be",
        "",
        "The true OKS of the person with normal noise added, as the score; one draw:",
        "",
        table(["file", "standard deviation of the noise", "Pearson", "AP", "of the gap"], rows),
        "",
    ]


def _all_files(judged: dict[str, Judged]) -> list[str]:
    """Every file in a row, its best known score beside its original one and beside that of the first file."""
    base_path, base = next(iter(judged.items()))
    rows = []
    for path, each in judged.items():
        name = _made_later(each.rows)[-1]
        row = each.rows[name]
        rows.append(
            [
                _name_of(path),
                name,
                f"{100 * each.rows[ORIGINAL].ap.value:.1f} → {100 * row.ap.value:.1f}",
                _percent(_share(each.rows, name)),
                f"{_number(each.rows[ORIGINAL].persons.ause, 2, 100)} → {_number(row.persons.ause, 2, 100)}",
                "" if each is base else _interval(row.ap.minus(base.rows[_made_later(base.rows)[-1]].ap)),
            ]
        )
    header = ["file", "score", "AP", "of the gap", "AUSE", f"AP − that of {_name_of(base_path)}, same score"]
    return [
        "## All files",
        "",
        "Original → the score named, paired over the same pictures:",
        "",
        table(header, rows),
        "",
    ]


def _name_of(path: str) -> str:
    return Path(path).name


def _percent(share: Interval) -> str:
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


def _interval(interval: Interval, factor: float = 100, digits: int = 2) -> str:
    value, low, high = (f"{factor * each:+.{digits}f}" for each in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"


def _number(value: float | None, digits: int, factor: float) -> str:
    return "–" if value is None else f"{factor * value:.{digits}f}"


if __name__ == "__main__":
    main()
