"""What another machine measured of model files, as a JSON document that a report takes in as its own rows."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.runtimes.base import RawOutputs
from probpose_edge.version import __version__
from probpose_eval.annotations.coco import labelled_persons
from probpose_eval.benchmark.latency import Latency, Machine
from probpose_eval.evaluation_set import EvaluationSet
from probpose_eval.observations.observe import MapDrift, Observations

MEASURED_SCHEMA = 1
DIGITS = 9
"""Significant digits of the numbers: those of float32."""
_INTEGERS = ("annotation_ids", "image_ids")
_REMEDY = "Make the kit with this report's command and --mac-kit, and run it on the Mac."


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredFile:
    """One model file on another machine.

    Attributes
    ----------
    file_name, sha256: which file, see `probpose_eval.model_file.sha256_of`.
    runtime: what ran it. machine: where. latency: of one crop there; None if it was not measured.
    observed: what it said of each set, by name, and how its maps differ from the reference's.
    """

    file_name: str
    sha256: str
    runtime: str
    machine: Machine
    latency: Latency | None
    observed: Mapping[str, tuple[Observations, MapDrift | None]]


class RuntimeElsewhere:
    """Stands for the runtime of a `MeasuredFile`: it has a name, and cannot run here."""

    provenance = "measured"

    def __init__(self, measured: MeasuredFile) -> None:
        self.name = measured.runtime

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        raise InputError(
            f"This file was measured on another machine, on {self.name}; it cannot be run again here. Use what was "
            "observed there, or leave --measured out."
        )

    def close(self) -> None:
        """Nothing to release."""


def measured_to_json(
    files: Sequence[MeasuredFile], sets: Mapping[str, EvaluationSet], *, reference_sha256: str | None
) -> str:
    """The JSON document of files measured on one machine, on these sets, beside the maps of one reference."""
    document = {
        "schema": MEASURED_SCHEMA,
        "version": __version__,
        "reference_sha256": reference_sha256,
        "sets": {name: _hashes(data) for name, data in sets.items()},
        "files": [
            {
                "file_name": each.file_name,
                "sha256": each.sha256,
                "runtime": each.runtime,
                "machine": dataclasses.asdict(each.machine),
                "latency": None if each.latency is None else dataclasses.asdict(each.latency),
                "observed": {
                    name: {"observations": _plain(seen), "maps": None if maps is None else _plain(maps)}
                    for name, (seen, maps) in each.observed.items()
                },
            }
            for each in files
        ],
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def read_measured(
    path: str | os.PathLike[str],
    *,
    files: Mapping[str, str],
    sets: Mapping[str, EvaluationSet],
    reference_sha256: str | None,
) -> dict[str, MeasuredFile]:
    """Read such a document for a report, by label.

    files: label → hash of every file of the report. sets: those of the report. reference_sha256: of its reference.

    Raises `InputError` for anything that is not such a document, and for one that is of other files, pictures or
    annotations, another reference, or another version of probpose-edge.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"The measurements {path} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"Measurements must be JSON, but {path} is not: {error}. {_REMEDY}") from error
    if not isinstance(document, dict) or document.get("schema") != MEASURED_SCHEMA:
        came = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise InputError(f"Measurements must have the schema {MEASURED_SCHEMA}, but {path} has {came!r}. {_REMEDY}")
    if document.get("version") != __version__:
        raise InputError(
            f"Measurements must be made by this version of probpose-edge, {__version__}, because the others may decode "
            f"otherwise, but {path} is by {document.get('version')!r}. {_REMEDY}"
        )
    try:
        return _match(document, path, files, sets, reference_sha256)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"Measurements must be complete, but {path} has a missing or wrong field: {error}. {_REMEDY}"
        ) from error


def _match(
    document: Mapping[str, Any],
    path: Path,
    files: Mapping[str, str],
    sets: Mapping[str, EvaluationSet],
    reference_sha256: str | None,
) -> dict[str, MeasuredFile]:
    for name, data in sets.items():
        if document["sets"].get(name) != _hashes(data):
            raise InputError(
                f"Measurements must be of the same pictures and annotations, but the {name} set of {path} is not that "
                f"of this report, {data.name}. {_REMEDY}"
            )
    if document["reference_sha256"] != reference_sha256:
        raise InputError(
            f"Measurements must be made beside the reference of the report, but {path} was made beside another file. "
            f"{_REMEDY}"
        )
    measured: dict[str, MeasuredFile] = {}
    for record in document["files"]:
        label = next((label for label, sha256 in files.items() if sha256 == record["sha256"]), None)
        if label is None:
            raise InputError(
                f"Measurements must be of files of the report, but {record['file_name']} of {path} "
                f"({record['sha256'][:12]}) is none of them. Name that very file among the models, or measure again."
            )
        measured[label] = MeasuredFile(
            file_name=record["file_name"],
            sha256=record["sha256"],
            runtime=record["runtime"],
            machine=Machine(**record["machine"]),
            latency=None if record["latency"] is None else Latency(**record["latency"]),
            observed={
                name: _observed(record["observed"][name], data, f"{record['file_name']} of {path}")
                for name, data in sets.items()
            },
        )
    return measured


def _observed(record: Mapping[str, Any], data: EvaluationSet, where: str) -> tuple[Observations, MapDrift | None]:
    seen, maps = _arrays(record["observations"]), record["maps"]
    threshold = record["observations"]["presence_threshold"]
    hold = bool(record["observations"].get("scores_hold", False))
    observations = Observations(**seen, presence_threshold=float(threshold), scores_hold=hold)
    people = [person.id for person in labelled_persons(data.annotations)]
    k = len(data.annotations.keypoint_names)
    wanted: dict[str, tuple[int, ...]] = {
        name: (len(people), k) for name in ("presence", "visibility", "quality", "expected_oks", "standing")
    }
    wanted["keypoints"] = (len(people), k, 2)
    shapes = {name: getattr(observations, name).shape for name in wanted}
    if observations.annotation_ids.tolist() != people or shapes != wanted:
        raise InputError(
            f"Measurements must say something of each of the {len(people)} labelled persons, but {where} has "
            f"{len(observations)} or other ones. {_REMEDY}"
        )
    return observations, None if maps is None else MapDrift(**_arrays(maps))


def _hashes(data: EvaluationSet) -> dict[str, str]:
    return {"annotations_sha256": data.annotations_sha256, "pictures_sha256": data.pictures_sha256}


def _plain(record: Observations | MapDrift) -> dict[str, Any]:
    return {field.name: _numbers(getattr(record, field.name)) for field in dataclasses.fields(record)}


def _numbers(values: Any) -> Any:
    """Nested lists of numbers with `DIGITS` digits; NaN is None."""
    if isinstance(values, np.ndarray):
        return [_numbers(row) for row in values] if values.ndim > 1 else [_numbers(value) for value in values.tolist()]
    if isinstance(values, int):
        return values
    return float(f"{values:.{DIGITS}g}") if math.isfinite(values) else None


def _arrays(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: np.array(values, dtype=np.int64 if name in _INTEGERS else np.float64)
        for name, values in record.items()
        if isinstance(values, list)
    }
