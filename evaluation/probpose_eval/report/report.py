"""What a report says about a group of model files, and its JSON form (see docs/report-schema.md).

`REPORT_SCHEMA_VERSION` counts changes that old readers cannot follow. Shares and metrics lie in [0, 1]; differences are
(file - reference); numbers that do not exist are null.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probpose_edge.exceptions import InputError
from probpose_eval.benchmark.latency import Latency, Machine
from probpose_eval.benchmark.placement import Placement
from probpose_eval.metrics.bootstrap import Interval
from probpose_eval.metrics.model_scores import ModelScores
from probpose_eval.observations.drift import Drift
from probpose_eval.report.limits import Limit, LimitResult
from probpose_eval.routing.routed_report import RoutedReport

REPORT_SCHEMA_VERSION = 2
DIGITS = 7
"""Significant digits of numbers in the JSON form: more than any set can settle, half the size."""


@dataclass(frozen=True, kw_only=True)
class ThresholdScore:
    """Ex-AP at a presence threshold; None where nobody is to be found."""

    threshold: float
    ex_ap: float | None


@dataclass(frozen=True, kw_only=True)
class SetScores:
    """One file on one set.

    Attributes
    ----------
    scores: everything that is measured, at the frozen presence threshold, the reference's.
    own: Ex-AP at the threshold that the file carries. retuned: at the best one for the file on these very pictures,
        which is optimistic: nobody has it beforehand.
    intervals: of `INTERVALS`, 95 % bootstrap intervals over images. differences: of the same to the reference, paired;
        empty for the reference.
    drift: from the reference; None for itself.
    """

    scores: ModelScores
    own: ThresholdScore
    retuned: ThresholdScore
    intervals: dict[str, Interval]
    differences: dict[str, Interval]
    drift: Drift | None


INTERVALS = ("AP", "Ex-AP", "mean-OKS", "presence-ece")
"""Names of the figures that have intervals, as in `report.figures_by_name`; their values are in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """One model file.

    Attributes
    ----------
    label: its name in the report. file_name: None for a model that is no file, such as the torch network.
    sha256: of the file, or of the names and contents of a package; None without a file.
    model, format, precision, recipe, presence_threshold: as its metadata says.
    provenance: ``"measured"`` on the runtime the file is made for, or ``"simulated"``; runtime says on what.
    fp16_rounding: of a simulated row, whether values were rounded to float16 between operations, as a device does; None
        for a measured one.
    machine: another machine that measured this row; None for the machine of the report.
    size_bytes, size_ratio: the ratio is to the fp32 file of the same format; if there is none, to that of the
        reference, or to another fp32 file.
    threads: for one inference, as opened; None is the runtime's default.
    latency: of one crop; None if it was not measured, as for every simulated file.
    speedup_over_fp32: median of the fp32 file of the same format over that of this file, from the same run.
    placement: where its layers ran; None where that cannot be told.
    shared_calibration_pictures: pictures of the sets that the file was calibrated on: its figures are optimistic.
    plain, cropped: scores on either set.
    limits: what became of every limit. within_limits: whether all of them are kept; None for the reference without a
        limit of its own, and without sets.
    verdict: the same in words.
    """

    label: str
    file_name: str | None
    sha256: str | None
    model: str
    format: str
    precision: str
    recipe: str
    presence_threshold: float
    provenance: str
    runtime: str
    machine: Machine | None
    size_bytes: int | None
    size_ratio: float | None
    threads: int | None
    latency: Latency | None
    speedup_over_fp32: float | None
    placement: Placement | None
    shared_calibration_pictures: int
    plain: SetScores | None
    cropped: SetScores | None
    limits: tuple[LimitResult, ...]
    within_limits: bool | None
    verdict: str
    fp16_rounding: bool | None = None

    def sets(self) -> dict[str, SetScores]:
        """The sets there are, by name."""
        return {name: each for name in ("plain", "cropped") if (each := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class SetDescription:
    """Which data: counts, hashes, and the percentages of keypoints in areas A to E of the paper's appendix A."""

    name: str
    images: int
    persons: int
    annotations_sha256: str
    pictures_sha256: str
    domain_shares: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How everything was measured.

    padding: of the activation window of the reference, in which all files are judged.
    presence_threshold: the frozen one, for all files. limits: what files must keep; enforced: whether the command
    fails where they do not.
    """

    reference: str
    boxes: str
    flip_test: bool
    padding: float
    input_wh: tuple[int, int]
    definition: str
    presence_threshold: float
    limits: tuple[Limit, ...]
    enforced: bool
    bootstrap_samples: int
    seed: int
    latency: str
    command: str
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PairAgreement:
    """How alike two int8 files answer the same crops.

    Attributes
    ----------
    first, second: their labels. crops: how many were compared.
    overlap: of their maps, mean over crops and keypoints; None where they cannot be compared.
    presence: size of the difference of the presence probabilities, mean; None without any.
    """

    first: str
    second: str
    crops: int
    overlap: float | None
    presence: float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything; `plain` and `cropped` are None where no such set was given.

    agreements: of every pair of int8 files that ran here and see the same crops, on the first crops of the cropped set,
        or of the plain one.
    routing: of every router and pair that was asked for.
    """

    protocol: Protocol
    machine: Machine
    plain: SetDescription | None
    cropped: SetDescription | None
    files: tuple[FileReport, ...]
    agreements: tuple[PairAgreement, ...] = ()
    routing: tuple[RoutedReport, ...] = ()
    schema_version: int = REPORT_SCHEMA_VERSION

    def sets(self) -> dict[str, SetDescription]:
        """The sets there are, by name."""
        return {name: each for name in ("plain", "cropped") if (each := getattr(self, name)) is not None}

    @property
    def reference(self) -> FileReport:
        return next(file for file in self.files if file.label == self.protocol.reference)

    @property
    def kept(self) -> bool:
        """Whether no file breaks a limit."""
        return all(file.within_limits is not False for file in self.files)


def report_to_json(report: Report) -> str:
    """The JSON document of a report: one line per file, numbers with `DIGITS` digits, null for those not finite."""
    document = _finite(dataclasses.asdict(report))
    files = document.pop("files")
    lines = [f"{_compact(name)}: {_compact(value)}" for name, value in document.items()]
    rows = ",\n".join(map(_compact, files))
    return "{\n" + ",\n".join([*lines, f'"files": [\n{rows}\n]']) + "\n}"


def report_from_json(text: str) -> Report:
    """Read a report back. Raises `InputError` for anything else, and for another schema version."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError(f"A report must be JSON, but: {error}. Give a report.json.") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != REPORT_SCHEMA_VERSION:
        raise InputError(
            f"This version of probpose-edge reads report schema {REPORT_SCHEMA_VERSION}, got {version!r}. "
            "Make the report again."
        )
    try:
        report = _build(Report, document)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"A report lacks a field or has a wrong one: {error}. Make the report again.") from error
    return typing.cast(Report, report)


def read_report(path: str | os.PathLike[str]) -> Report:
    """Read a report.json. Raises `InputError` if it is not one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The report {path} cannot be read: {error}. Check the path.") from error
    return report_from_json(text)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _build(kind: Any, value: Any) -> Any:
    """`value`, decoded from JSON, as the annotated type `kind`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _build(inner, value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        unknown = set(value) - set(hints)
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        return kind(**{name: _build(hints[name], item) for name, item in value.items()})  # type: ignore[operator]
    if origin is tuple:
        inner_kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_build(inner, item) for inner, item in zip(inner_kinds, value, strict=True))
    if origin is dict:
        return {key: _build(arguments[1], item) for key, item in value.items()}
    if kind is float:
        return float("nan") if value is None else float(value)
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
