"""Measure a group of model files on a plain and a cropped set, each against one reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from probpose_edge import PoseEstimator, __version__
from probpose_edge.exceptions import InputError
from probpose_edge.skeleton import Skeleton
from probpose_eval.bootstrap import Resampled, resample
from probpose_eval.coco import labelled_persons
from probpose_eval.crop_set import domain_shares
from probpose_eval.evaluate import evaluate, mean_oks
from probpose_eval.evaluation_set import EvaluationSet
from probpose_eval.latency import Latency, describe_machine, measure_latency
from probpose_eval.oks import OksRule
from probpose_eval.predict import iterate_crops, predict_set_with_all
from probpose_eval.presence import presence_accuracy
from probpose_eval.report import FileReport, PresenceScores, Protocol, Report, SetDescription, SetScores
from probpose_eval.verdict import verdict

RESAMPLED = ("AP", "Ex-AP", "mean-OKS")
_LATENCY_CROPS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportEntry:
    """One model to report on: its name, the estimator that runs it, its file if it has one, and its threads."""

    label: str
    estimator: PoseEstimator
    path: Path | None = None
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Settings of a report.

    definition: of Ex-OKS (see `OksRule`). presence_threshold: None is each file's own. max_drop: allowed fall of Ex-AP
    in [0, 1]. latency_rounds: 0 leaves latency out. command: what was typed, for the record. batch: crops at once.
    """

    definition: str = "paper"
    presence_threshold: float | None = None
    max_drop: float = 0.01
    bootstrap_samples: int = 1000
    seed: int = 0
    latency_rounds: int = 30
    latency_warmup: int = 3
    batch: int = 16
    command: str = ""

    def __post_init__(self) -> None:
        OksRule(definition=self.definition, presence_threshold=self.presence_threshold or 0.0)
        if not 0 <= self.max_drop <= 1:
            raise InputError(
                f"max_drop is a share of 1 (0.01 is one point) and must lie in [0, 1], got {self.max_drop}. Use 0.01."
            )
        for name, least in (("bootstrap_samples", 2), ("latency_rounds", 0), ("latency_warmup", 0), ("batch", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}. Give a larger number.")


Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""


def build_report(
    entries: Sequence[ReportEntry],
    *,
    reference: str,
    plain: EvaluationSet | None = None,
    cropped: EvaluationSet | None = None,
    config: ReportConfig | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure every entry and compare it with the entry whose label is `reference`.

    Every model sees the same crops of the true boxes, through its estimator, without flip test. Windows of the metric
    are those of the reference (input size and padding), and so are sigmas that a set does not name. Latency is measured
    for all executed entries in one run, interleaved, on crops of the plain set (or of the cropped one); a set or
    latency may be missing.

    Raises `InputError` for doubled or missing labels, `AnnotationError` for sets that do not fit the models.
    """
    config = config or ReportConfig()
    labels = [entry.label for entry in entries]
    if len(set(labels)) != len(labels) or reference not in labels:
        raise InputError(
            f"A report needs different labels, one of them the reference {reference!r}, got "
            f"{', '.join(labels) or 'none'}. Name the reference among the entries."
        )
    base = labels.index(reference)
    skeleton = Skeleton.of(entries[base].estimator.contract)
    plain, cropped = (data and data.with_skeleton(skeleton) for data in (plain, cropped))
    scores = {
        name: _score_set(entries, base, data, name, config, progress)
        for name, data in (("plain", plain), ("cropped", cropped))
        if data is not None
    }
    latencies = _latencies(entries, plain or cropped, config, progress)
    contract = entries[base].estimator.contract
    return Report(
        protocol=Protocol(
            reference=reference,
            boxes="true boxes of the annotations",
            flip_test=False,
            padding=contract.activation_padding,
            input_wh=contract.input_wh,
            definition=config.definition,
            presence_threshold=config.presence_threshold,
            max_drop=config.max_drop,
            bootstrap_samples=config.bootstrap_samples,
            seed=config.seed,
            latency=(
                f"one crop at a time through the runtime, {config.latency_rounds} rounds after {config.latency_warmup} "
                "for warm-up, all files in turn in every round"
                if latencies
                else "not measured"
            ),
            command=config.command,
            versions={"probpose-edge": __version__, "numpy": np.__version__, "opencv": cv2.__version__},
        ),
        machine=describe_machine(),
        plain=None if plain is None else _describe(plain, contract.input_wh, contract.activation_padding),
        cropped=None if cropped is None else _describe(cropped, contract.input_wh, contract.activation_padding),
        files=tuple(
            _file_report(
                index,
                entries,
                base,
                {name: rows[index] for name, rows in scores.items()},
                latencies,
                config.max_drop,
            )
            for index in range(len(entries))
        ),
    )


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder (a CoreML package)."""
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return path.stat().st_size


def _score_set(
    entries: Sequence[ReportEntry],
    base: int,
    data: EvaluationSet,
    name: str,
    config: ReportConfig,
    progress: Progress | None,
) -> list[SetScores]:
    def tell(stage: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"{stage} ({name})", done, total)

    predictions = predict_set_with_all(
        [entry.estimator for entry in entries],
        data.annotations,
        data.images_dir,
        batch=config.batch,
        progress=lambda done, total: tell("predicting", done, total),
    )
    contract = entries[base].estimator.contract
    scored: list[tuple[SetScores, dict[str, Resampled]]] = []
    for index, (entry, results) in enumerate(zip(entries, predictions, strict=True)):
        tell("scoring", index, len(entries))
        own = entry.estimator.presence_threshold
        threshold = own if config.presence_threshold is None else config.presence_threshold
        rule = OksRule(
            definition=config.definition,
            presence_threshold=threshold,
            padding=contract.activation_padding,
            input_wh=contract.input_wh,
        )
        scored.append(_score(data, results, rule, config))
    tell("scoring", len(entries), len(entries))
    reference = scored[base][1]
    return [
        scores
        if index == base
        else dataclasses.replace(
            scores,
            ap_difference=resampled["AP"].minus(reference["AP"]),
            ex_ap_difference=resampled["Ex-AP"].minus(reference["Ex-AP"]),
            mean_oks_difference=resampled["mean-OKS"].minus(reference["mean-OKS"]),
        )
        for index, (scores, resampled) in enumerate(scored)
    ]


def _score(
    data: EvaluationSet, results: list[dict[str, Any]], rule: OksRule, config: ReportConfig
) -> tuple[SetScores, dict[str, Resampled]]:
    settings = {name: value for name, value in dataclasses.asdict(rule).items() if name != "extended"}
    resampled = {
        metric: resample(
            data.annotations, results, metric=metric, rule=rule, samples=config.bootstrap_samples, seed=config.seed
        )
        for metric in RESAMPLED
    }
    (presence,) = presence_accuracy(
        data.annotations,
        results,
        thresholds=[rule.presence_threshold],
        padding=rule.padding,
        input_wh=rule.input_wh,
    )
    scores = SetScores(
        metrics={
            **evaluate(data.annotations, results, **settings),
            **evaluate(data.annotations, results, extended=True, **settings),
        },
        ap=resampled["AP"].interval(),
        ex_ap=resampled["Ex-AP"].interval(),
        mean_oks=resampled["mean-OKS"].interval(),
        share_above_half=mean_oks(data.annotations, results).share_above_half,
        presence=PresenceScores(
            threshold=presence.threshold,
            accuracy=presence.accuracy,
            balanced_accuracy=presence.balanced_accuracy,
            present=presence.present,
            absent=presence.absent,
        ),
    )
    return scores, resampled


def _latencies(
    entries: Sequence[ReportEntry], data: EvaluationSet | None, config: ReportConfig, progress: Progress | None
) -> dict[str, Latency]:
    executed = {e.label: e.estimator.runtime for e in entries if e.estimator.runtime.provenance == "measured"}
    if data is None or config.latency_rounds == 0 or not executed or not labelled_persons(data.annotations):
        return {}
    contract = entries[0].estimator.contract
    sizes = {e.estimator.contract.input_wh for e in entries if e.label in executed}
    if len(sizes) > 1:
        raise InputError(
            f"Latency of files with different input sizes cannot be measured on the same crops, got {sorted(sizes)}. "
            "Report on them one size at a time, or leave latency out."
        )
    crops = next(
        iterate_crops(
            data.annotations,
            data.images_dir,
            input_wh=sizes.pop(),
            padding=contract.padding,
            batch=_LATENCY_CROPS,
        )
    ).crops
    return measure_latency(
        executed,
        crops,
        rounds=config.latency_rounds,
        warmup=config.latency_warmup,
        progress=None if progress is None else lambda done, total: progress("timing", done, total),
    )


def _file_report(
    index: int,
    entries: Sequence[ReportEntry],
    base: int,
    scores: dict[str, SetScores],
    latencies: dict[str, Latency],
    max_drop: float,
) -> FileReport:
    entry = entries[index]
    contract = entry.estimator.contract
    size = None if entry.path is None else size_of(entry.path)
    all_full = [e for e in entries if e.estimator.contract.precision == "fp32" and e.path is not None]
    twins = [e for e in all_full if e.estimator.contract.format == contract.format]
    full_size = next((size_of(e.path) for e in (*twins, entries[base], *all_full) if e.path is not None), None)
    latency = latencies.get(entry.label)
    full_latency = latencies.get(twins[0].label) if twins else None
    report = FileReport(
        label=entry.label,
        file_name=None if entry.path is None else entry.path.name,
        format=contract.format,
        precision=contract.precision,
        recipe=contract.recipe,
        provenance=entry.estimator.runtime.provenance,
        runtime=entry.estimator.runtime.name,
        size_bytes=size,
        size_ratio=None if size is None or not full_size else size / full_size,
        threads=entry.threads,
        latency=latency,
        speedup_over_fp32=None
        if latency is None or full_latency is None
        else full_latency.median_ms / latency.median_ms,
        plain=scores.get("plain"),
        cropped=scores.get("cropped"),
        within_limit=None,
        verdict="",
    )
    within, words = verdict(report, is_reference=index == base, max_drop=max_drop)
    return dataclasses.replace(report, within_limit=within, verdict=words)


def _describe(data: EvaluationSet, input_wh: tuple[int, int], padding: float) -> SetDescription:
    return SetDescription(
        name=data.name,
        images=len(data.annotations.images),
        persons=len(labelled_persons(data.annotations)),
        annotations_sha256=data.annotations_sha256,
        pictures_sha256=data.pictures_sha256,
        domain_shares=domain_shares(data.annotations, input_wh=input_wh, padding=padding),
    )
