"""Measure a group of model files on a plain and a cropped set, each against one reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from probpose_edge import PoseEstimator, __version__
from probpose_edge.exceptions import InputError
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_eval.annotations.coco import labelled_persons
from probpose_eval.annotations.crop_set import domain_shares
from probpose_eval.benchmark.latency import Latency, describe_machine, measure_latency
from probpose_eval.benchmark.placement import place_layers
from probpose_eval.calibration.score_files import score_files
from probpose_eval.evaluation_set import EvaluationSet
from probpose_eval.mac.measured_files import MeasuredFile
from probpose_eval.metrics.oks import OksRule
from probpose_eval.model_file import sha256_of, size_of
from probpose_eval.predict import iterate_crops
from probpose_eval.report.agreement import pair_agreements
from probpose_eval.report.limits import MAX_DROP, Limit, judge_limits
from probpose_eval.report.report import FileReport, Protocol, Report, SetDescription, SetScores
from probpose_eval.report.verdict import verdict
from probpose_eval.report.worst_pictures import WorstPicture, draw_worst

DEFAULT_LIMITS = (Limit(kind=MAX_DROP, figure="Ex-AP", amount=1.0),)
"""Judged where no limits are given: a point of Ex-AP."""
_LATENCY_CROPS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportEntry:
    """One model to report on: its name, the estimator that runs it, its file if it has one, and its threads.

    shared_calibration_pictures: see `FileReport`. measured: what another machine measured of this file, in place of
    running it here; only the contract of the estimator is used then.
    """

    label: str
    estimator: PoseEstimator
    path: Path | None = None
    threads: int | None = None
    shared_calibration_pictures: int = 0
    measured: MeasuredFile | None = None

    @property
    def timed_here(self) -> bool:
        """Whether its latency can be measured on this machine."""
        return self.measured is None and self.estimator.runtime.provenance == "measured"


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Settings of a report.

    definition: of Ex-OKS (see `OksRule`). presence_threshold: the frozen one; None is the reference's. limits: what
    files must keep. enforced: whether the caller fails where they do not, for the record. latency_rounds: 0 leaves
    latency out, and where layers ran. command: what was typed, for the record. batch: crops at once.
    """

    definition: str = "paper"
    presence_threshold: float | None = None
    limits: tuple[Limit, ...] = DEFAULT_LIMITS
    enforced: bool = False
    bootstrap_samples: int = 1000
    seed: int = 0
    latency_rounds: int = 30
    latency_warmup: int = 3
    batch: int = 16
    command: str = ""

    def __post_init__(self) -> None:
        OksRule(definition=self.definition, presence_threshold=self.presence_threshold or 0.0)
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
    """`build_report_and_pictures` without pictures."""
    return build_report_and_pictures(
        entries, reference=reference, plain=plain, cropped=cropped, config=config, pictures=0, progress=progress
    )[0]


def build_report_and_pictures(
    entries: Sequence[ReportEntry],
    *,
    reference: str,
    plain: EvaluationSet | None = None,
    cropped: EvaluationSet | None = None,
    config: ReportConfig | None = None,
    pictures: int = 8,
    progress: Progress | None = None,
) -> tuple[Report, tuple[WorstPicture, ...]]:
    """Measure every entry and compare it with the entry whose label is `reference`.

    Every model sees the same crops of the true boxes, through its estimator, without flip test. Windows of the metric
    are those of the reference (input size and padding), and so are sigmas that a set does not name. Latency is measured
    for all executed entries in one run, interleaved, on crops of the plain set (or of the cropped one); a set or
    latency may be missing.

    pictures: how many of those on which files and reference differ most are drawn; they are no part of the report
    itself, because few may be passed on.

    Raises `InputError` for doubled or missing labels and for limits of sets that are not given, `AnnotationError` for
    sets that do not fit the models.
    """
    config = config or ReportConfig()
    labels = [entry.label for entry in entries]
    if len(set(labels)) != len(labels) or reference not in labels:
        raise InputError(
            f"A report needs different labels, one of them the reference {reference!r}, got "
            f"{', '.join(labels) or 'none'}. Name the reference among the entries."
        )
    base = labels.index(reference)
    if entries[base].measured is not None:
        raise InputError(
            f"The reference of a report must run here, but {reference} was measured on another machine. Choose another "
            "reference, or leave its measurements out."
        )
    contract = entries[base].estimator.contract
    skeleton = Skeleton.of(contract)
    given = {"plain": plain, "cropped": cropped}
    sets = {name: data.with_skeleton(skeleton) for name, data in given.items() if data is not None}
    for limit in config.limits:
        if limit.only_set is not None and limit.only_set not in sets:
            raise InputError(f"The limit {limit} is about a set that is not given. Give that set, or drop the limit.")
    frozen = entries[base].estimator.presence_threshold
    rule = OksRule(
        definition=config.definition,
        presence_threshold=frozen if config.presence_threshold is None else config.presence_threshold,
        padding=contract.activation_padding,
        input_wh=contract.input_wh,
    )

    def stage_of(name: str) -> Callable[[str, int, int], None]:
        return lambda stage, done, total: None if progress is None else progress(f"{stage} ({name})", done, total)

    scored = {
        name: score_files(
            [entry.estimator for entry in entries],
            data,
            reference=base,
            elsewhere={i: entry.measured.observed[name] for i, entry in enumerate(entries) if entry.measured},
            rule=rule,
            samples=config.bootstrap_samples,
            seed=config.seed,
            batch=config.batch,
            tell=stage_of(name),
        )
        for name, data in sets.items()
    }
    scores = {name: each.scores for name, each in scored.items()}
    crops = _timing_crops(entries, next(iter(sets.values()), None), config)
    latencies = _latencies(entries, crops, config, progress)
    described = {name: _describe(data, contract.input_wh, contract.activation_padding) for name, data in sets.items()}
    report = Report(
        protocol=Protocol(
            reference=reference,
            boxes="true boxes of the annotations",
            flip_test=False,
            padding=contract.activation_padding,
            input_wh=contract.input_wh,
            definition=config.definition,
            presence_threshold=rule.presence_threshold,
            limits=config.limits,
            enforced=config.enforced,
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
        plain=described.get("plain"),
        cropped=described.get("cropped"),
        files=tuple(
            _file_report(index, entries, base, scores, latencies, crops, config.limits) for index in range(len(entries))
        ),
        agreements=pair_agreements(
            {entry.label: entry.estimator for entry in entries if entry.measured is None},
            sets.get("cropped", sets.get("plain")),
        ),
    )
    return report, draw_worst(report, sets, scored, skeleton, count=pictures)


def _timing_crops(
    entries: Sequence[ReportEntry], data: EvaluationSet | None, config: ReportConfig
) -> NDArray[np.uint8] | None:
    """Crops of the measured entries' input size; None where nothing is to be timed."""
    measured = [entry for entry in entries if entry.timed_here]
    if data is None or config.latency_rounds == 0 or not measured or not labelled_persons(data.annotations):
        return None
    sizes = {e.estimator.contract.input_wh for e in measured}
    if len(sizes) > 1:
        raise InputError(
            f"Latency of files with different input sizes cannot be measured on the same crops, got {sorted(sizes)}. "
            "Report on them one size at a time, or leave latency out."
        )
    padding = entries[0].estimator.contract.padding
    batches = iterate_crops(
        data.annotations, data.images_dir, input_wh=sizes.pop(), padding=padding, batch=_LATENCY_CROPS
    )
    return next(batches).crops


def _latencies(
    entries: Sequence[ReportEntry],
    crops: NDArray[np.uint8] | None,
    config: ReportConfig,
    progress: Progress | None,
) -> dict[str, Latency]:
    if crops is None:
        return {}
    return measure_latency(
        {e.label: e.estimator.runtime for e in entries if e.timed_here},
        crops,
        rounds=config.latency_rounds,
        warmup=config.latency_warmup,
        progress=None if progress is None else lambda done, total: progress("timing", done, total),
    )


def _file_report(
    index: int,
    entries: Sequence[ReportEntry],
    base: int,
    scores: Mapping[str, Sequence[SetScores]],
    latencies: Mapping[str, Latency],
    crops: NDArray[np.uint8] | None,
    limits: Sequence[Limit],
) -> FileReport:
    entry = entries[index]
    contract, runtime = entry.estimator.contract, entry.estimator.runtime
    size = None if entry.path is None else size_of(entry.path)
    all_full = [e for e in entries if e.estimator.contract.precision == "fp32" and e.path is not None]
    twins = [e for e in all_full if e.estimator.contract.format == contract.format]
    full_size = next((size_of(e.path) for e in (*twins, entries[base], *all_full) if e.path is not None), None)
    latency = latencies.get(entry.label) if entry.measured is None else entry.measured.latency
    full_latency = latencies.get(twins[0].label) if twins else None
    own = {name: rows[index] for name, rows in scores.items()}
    report = FileReport(
        label=entry.label,
        file_name=None if entry.path is None else entry.path.name,
        sha256=None if entry.path is None else sha256_of(entry.path),
        model=contract.model,
        format=contract.format,
        precision=contract.precision,
        recipe=contract.recipe,
        presence_threshold=entry.estimator.presence_threshold,
        provenance="measured" if entry.measured else runtime.provenance,
        runtime=entry.measured.runtime if entry.measured else runtime.name,
        machine=entry.measured.machine if entry.measured else None,
        size_bytes=size,
        size_ratio=None if size is None or not full_size else size / full_size,
        threads=entry.threads,
        latency=latency,
        speedup_over_fp32=None
        if latency is None or full_latency is None or entry.measured
        else full_latency.median_ms / latency.median_ms,
        placement=None
        if entry.path is None or crops is None or not entry.timed_here
        else place_layers(entry.path, runtime, contract.precision, crops[:1], threads=entry.threads),
        shared_calibration_pictures=entry.shared_calibration_pictures,
        plain=own.get("plain"),
        cropped=own.get("cropped"),
        limits=(),
        within_limits=None,
        verdict="",
        fp16_rounding=None if entry.measured else getattr(runtime, "fp16_rounding", None),
    )
    is_reference = index == base
    results = judge_limits(
        [limit for limit in limits if not (is_reference and limit.kind == MAX_DROP)],
        {name: each.scores for name, each in own.items()},
        {name: rows[base].scores for name, rows in scores.items()},
    )
    within, words = verdict(report, results, is_reference=is_reference)
    return dataclasses.replace(report, limits=results, within_limits=within, verdict=words)


def _describe(data: EvaluationSet, input_wh: tuple[int, int], padding: float) -> SetDescription:
    return SetDescription(
        name=data.name,
        images=len(data.annotations.images),
        persons=len(labelled_persons(data.annotations)),
        annotations_sha256=data.annotations_sha256,
        pictures_sha256=data.pictures_sha256,
        domain_shares=domain_shares(data.annotations, input_wh=input_wh, padding=padding),
    )
