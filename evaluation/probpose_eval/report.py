"""What a report says about a group of model files, and its JSON form.

`REPORT_SCHEMA_VERSION` counts changes that old readers cannot follow. Shares and metrics lie in [0, 1]; differences are
(file - reference); a metric with nobody to find is -1; numbers that do not exist are null.
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
from probpose_eval.bootstrap import Interval
from probpose_eval.latency import Latency, Machine

REPORT_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PresenceScores:
    """Accuracy of "in the window or not" at the threshold of the file; see `probpose_eval.presence`.

    present, absent: known keypoints of either kind. accuracy, balanced_accuracy: None where their ground is empty.
    """

    threshold: float
    accuracy: float | None
    balanced_accuracy: float | None
    present: int
    absent: int


@dataclass(frozen=True, kw_only=True)
class SetScores:
    """One file on one set.

    Attributes
    ----------
    metrics: all named metrics of `evaluate`, standard and extended.
    ap, ex_ap, mean_oks: with bootstrap intervals over images.
    share_above_half: share of persons with an OKS above 0.5.
    ap_difference, ex_ap_difference, mean_oks_difference: to the reference, with paired intervals; None for itself.
    """

    metrics: dict[str, float]
    ap: Interval
    ex_ap: Interval
    mean_oks: Interval
    share_above_half: float
    presence: PresenceScores
    ap_difference: Interval | None = None
    ex_ap_difference: Interval | None = None
    mean_oks_difference: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """One model file.

    Attributes
    ----------
    label: its name in the report. file_name: None for a model that is no file, such as the torch network.
    format, precision, recipe: as its metadata says.
    provenance: ``"measured"`` on the runtime the file is made for, or ``"simulated"``; runtime says on what.
    size_bytes, size_ratio: the ratio is to the fp32 file of the same format; if there is none, to that of the
        reference, or to another fp32 file.
    threads: for one inference, as opened; None is the runtime's default.
    latency: of one crop; None if it was not measured, as for every simulated file.
    speedup_over_fp32: median of the fp32 file of the same format over that of this file, from the same run.
    plain, cropped: scores on either set.
    within_limit: whether Ex-AP fell by at most `Protocol.max_drop` on every set; None for the reference.
    verdict: the same in words.
    """

    label: str
    file_name: str | None
    format: str
    precision: str
    recipe: str
    provenance: str
    runtime: str
    size_bytes: int | None
    size_ratio: float | None
    threads: int | None
    latency: Latency | None
    speedup_over_fp32: float | None
    plain: SetScores | None
    cropped: SetScores | None
    within_limit: bool | None
    verdict: str


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
    presence_threshold: one for all files, or None: each file's own. max_drop: allowed fall of Ex-AP, in [0, 1].
    """

    reference: str
    boxes: str
    flip_test: bool
    padding: float
    input_wh: tuple[int, int]
    definition: str
    presence_threshold: float | None
    max_drop: float
    bootstrap_samples: int
    seed: int
    latency: str
    command: str
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything; `plain` and `cropped` are None where no such set was given."""

    protocol: Protocol
    machine: Machine
    plain: SetDescription | None
    cropped: SetDescription | None
    files: tuple[FileReport, ...]
    schema_version: int = REPORT_SCHEMA_VERSION


def report_to_json(report: Report) -> str:
    """The JSON document of a report; numbers that are not finite become null."""
    return json.dumps(_finite(dataclasses.asdict(report)), indent=1, allow_nan=False)


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


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
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
