"""Measure the files of a Mac kit where they are meant to run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge import ModelContract, PoseEstimator, RawOutputs
from probpose_edge.atomic_write import write_text_atomically
from probpose_edge.exceptions import InputError
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_edge.version import __version__
from probpose_eval.benchmark.latency import Latency, describe_machine, measure_latency
from probpose_eval.evaluation_set import EvaluationSet, load_evaluation_set
from probpose_eval.mac.mac_kit import KIT_SCHEMA, RECORDED_BATCH
from probpose_eval.mac.measured_files import MeasuredFile, measured_to_json
from probpose_eval.model_file import sha256_of
from probpose_eval.observations.observe import MapDrift, Observations, observe_set
from probpose_eval.predict import iterate_crops

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""


class RecordedRuntime:
    """Gives recorded outputs again, in the order in which they were recorded, whatever the crops."""

    name = "recorded"
    provenance = "measured"

    def __init__(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        self._outputs = {name: values.astype(np.float32) for name, values in outputs.items()}
        self._next = 0

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """The next outputs, one per crop."""
        rows = slice(self._next, self._next + len(crops))
        self._next = rows.stop
        return RawOutputs(**{name: values[rows] for name, values in self._outputs.items()})

    def close(self) -> None:
        """Nothing to release."""


def measure_kit(folder: Path, target: Path, *, progress: Progress | None = None) -> None:
    """Run every package of an unpacked kit over its sets, time it, and write the JSON for `report --measured`.

    Raises `InputError` for a folder that is no kit, a kit of another version, and contents that were changed;
    `RuntimeUnavailableError` on other systems than macOS; other errors as the packages are opened.
    """
    kit = _read_kit(folder)
    sets = {name: _load_set(folder, name, hashes) for name, hashes in kit["sets"].items()}
    packages = {name: folder / "files" / name for name in kit["files"]}
    for name, sha256 in kit["files"].items():
        if not packages[name].exists() or sha256_of(packages[name]) != sha256:
            raise InputError(
                f"The files of a kit must be as they were packed, but {name} is not. Unpack the kit again."
            )
    tell = progress or (lambda stage, done, total: None)
    with ExitStack() as stack:
        opened = {name: stack.enter_context(PoseEstimator.open(path)) for name, path in packages.items()}
        observed = {name: _observe(list(opened.values()), folder, name, data, kit, tell) for name, data in sets.items()}
        latencies = _latencies(opened, next(iter(sets.values())), int(kit["latency_rounds"]), tell)
        machine = describe_machine()
        files = [
            MeasuredFile(
                file_name=label,
                sha256=kit["files"][label],
                runtime=estimator.runtime.name,
                machine=machine,
                latency=latencies.get(label),
                observed={name: rows[index] for name, rows in observed.items()},
            )
            for index, (label, estimator) in enumerate(opened.items())
        ]
    write_text_atomically(target, measured_to_json(files, sets, reference_sha256=kit["reference_sha256"]))


def _read_kit(folder: Path) -> dict[str, Any]:
    try:
        kit = json.loads((folder / "kit.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"A kit must hold kit.json, but in {folder}: {error}. Unpack the whole kit.") from error
    if not isinstance(kit, dict) or kit.get("schema") != KIT_SCHEMA:
        raise InputError(f"This version of probpose-edge runs kits of schema {KIT_SCHEMA}. Make the kit again.")
    if kit["version"] != __version__:
        raise InputError(
            f"A kit must be run by the version of probpose-edge that made it, {kit['version']}, but this is "
            f'{__version__}. Install it with: pip install "probpose-edge[coreml]=={kit["version"]}"'
        )
    return kit


def _load_set(folder: Path, name: str, hashes: Mapping[str, str]) -> EvaluationSet:
    where = folder / "sets" / name
    data = load_evaluation_set(where / "annotations.json", where / "images", name=name)
    if {"annotations_sha256": data.annotations_sha256, "pictures_sha256": data.pictures_sha256} != hashes:
        raise InputError(
            f"Pictures and annotations of a kit must be as they were packed, but those of its {name} set are not. "
            "Unpack the kit again."
        )
    return data


def _observe(
    estimators: list[PoseEstimator],
    folder: Path,
    name: str,
    data: EvaluationSet,
    kit: Mapping[str, Any],
    tell: Progress,
) -> list[tuple[Observations, MapDrift | None]]:
    """What every estimator said of a set; maps beside those recorded of the reference, where there are any."""
    contract = ModelContract.from_json(json.dumps(kit["reference_contract"]))
    annotations = data.with_skeleton(Skeleton.of(contract)).annotations
    recorded = folder / "reference" / f"{name}.npz"
    reference = []
    if recorded.exists():
        with np.load(recorded) as outputs:
            reference = [PoseEstimator(RecordedRuntime({key: outputs[key] for key in outputs.files}), contract)]
    observed = observe_set(
        [*estimators, *reference],
        annotations,
        data.images_dir,
        reference=len(estimators) if reference else None,
        batch=RECORDED_BATCH,
        progress=lambda done, total: tell(f"running ({name})", done, total),
    )
    return observed[: len(estimators)]


def _latencies(
    opened: Mapping[str, PoseEstimator], data: EvaluationSet, rounds: int, tell: Progress
) -> dict[str, Latency]:
    if rounds == 0:
        return {}
    contract = next(iter(opened.values())).contract
    crops = next(
        iterate_crops(
            data.annotations,
            data.images_dir,
            input_wh=contract.input_wh,
            padding=contract.padding,
            batch=RECORDED_BATCH,
        )
    ).crops
    return measure_latency(
        {name: estimator.runtime for name, estimator in opened.items()},
        crops,
        rounds=rounds,
        progress=lambda done, total: tell("timing", done, total),
    )
