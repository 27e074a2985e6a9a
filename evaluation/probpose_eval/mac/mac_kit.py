"""A zip file that takes CoreML files to a Mac, where the same code measures them on the same pictures."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge import PoseEstimator
from probpose_edge.atomic_write import write_bytes_atomically
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_edge.version import __version__
from probpose_eval.annotations.coco import image_path, labelled_persons
from probpose_eval.evaluation_set import EvaluationSet, load_evaluation_set
from probpose_eval.model_file import sha256_of
from probpose_eval.predict import iterate_crops

KIT_SCHEMA = 1
RECORDED_BATCH = 16
"""Crops per run, for the recorded outputs of the reference and on the Mac alike."""
README = """Measure the CoreML files of this kit on a Mac (macOS 14 or newer, Python 3.10 or newer):

    pip install "probpose-edge[coreml]=={version}"
    python run_on_mac.py

(Where pip finds no such version, give it the wheel: pip install "probpose_edge-{version}-py3-none-any.whl[coreml]")

It writes measured.json beside itself. Take that back to where the kit was made and give it to the same command:

    probpose-edge report ... --measured measured.json

The kit holds the pictures of the evaluation set: pass it on only as they may be.
"""
_NO_DATE = (1980, 1, 1, 0, 0, 0)

Progress = Callable[[int, int], None]
"""Called with (persons done, persons in all)."""


def write_mac_kit(
    path: Path,
    packages: Sequence[Path],
    *,
    reference: PoseEstimator,
    reference_sha256: str | None,
    sets: Mapping[str, tuple[Path, Path]],
    latency_rounds: int = 30,
    progress: Progress | None = None,
) -> None:
    """Write the kit: the packages, the pictures of labelled persons, and the raw outputs of the reference on them.

    The outputs of the reference, maps as float16, are what drift of maps is measured against on the Mac. The same
    contents give the same bytes, and the file appears complete or not at all.

    packages: .mlpackage folders. sets: name → (annotation file, picture folder). latency_rounds: timed on the Mac.

    Raises `InputError` without packages, for other files, and for two of one name; `AnnotationError` for bad sets.
    """
    names = [package.name for package in packages]
    if not packages or any(package.suffix != ".mlpackage" or not package.is_dir() for package in packages):
        raise InputError(
            f"A Mac kit takes .mlpackage files to a Mac, but got {', '.join(names) or 'none'}. Name at least one "
            "package among the models, made with `probpose-edge convert --format coreml`."
        )
    if len(set(names)) < len(names):
        raise InputError(
            f"The packages of a Mac kit must have different names, but got {', '.join(names)}. Rename one."
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in packages:
            for part in sorted(part for part in package.rglob("*") if part.is_file()):
                _add(archive, f"files/{package.name}/{part.relative_to(package).as_posix()}", part.read_bytes())
        described = {}
        for name, (annotations, images) in sets.items():
            data = load_evaluation_set(annotations, images, name=name)
            _add_set(archive, data, annotations)
            recorded = _record(reference, data, progress)
            if recorded is not None:
                _add(archive, f"reference/{name}.npz", recorded)
            described[name] = {
                "annotations_sha256": data.annotations_sha256,
                "pictures_sha256": data.pictures_sha256,
            }
        kit = {
            "schema": KIT_SCHEMA,
            "version": __version__,
            "files": {package.name: sha256_of(package) for package in packages},
            "sets": described,
            "reference_sha256": reference_sha256,
            "reference_contract": json.loads(reference.contract.to_json()),
            "latency_rounds": latency_rounds,
        }
        _add(archive, "kit.json", json.dumps(kit, indent=1).encode())
        _add(archive, "README.txt", README.format(version=__version__).encode())
        _add(archive, "run_on_mac.py", Path(__file__).with_name("run_on_mac.py").read_bytes())
    write_bytes_atomically(path, buffer.getvalue())


def _add_set(archive: zipfile.ZipFile, data: EvaluationSet, annotations: Path) -> None:
    persons = labelled_persons(data.annotations)
    if not persons:
        raise AnnotationError(
            f"A Mac kit needs labelled persons to measure on, but {annotations} has none. Give another set."
        )
    _add(archive, f"sets/{data.name}/annotations.json", annotations.read_bytes())
    for image_id in dict.fromkeys(person.image_id for person in persons):
        entry = data.annotations.images[image_id]
        target = PurePosixPath("sets", data.name, "images", entry.file_name)
        _add(archive, str(target), image_path(data.images_dir, entry).read_bytes(), packed=True)


def _record(reference: PoseEstimator, data: EvaluationSet, progress: Progress | None) -> bytes | None:
    """Raw outputs of the reference for every labelled person, as .npz; None of a model that gives no maps."""
    contract = reference.contract
    total, done = len(labelled_persons(data.annotations)), 0
    parts: dict[str, list[NDArray[Any]]] = {}
    for crops in iterate_crops(
        data.annotations,
        data.images_dir,
        input_wh=contract.input_wh,
        padding=contract.padding,
        batch=RECORDED_BATCH,
    ):
        outputs = reference.runtime.run(crops.crops).named()
        if "logits" not in outputs:
            return None
        for name, values in outputs.items():
            # A copy in either case: runtimes may reuse their buffers.
            kept = values.astype(np.float16 if name.endswith("logits") else np.float32)
            parts.setdefault(name, []).append(kept)
        done += len(crops.crops)
        if progress is not None:
            progress(done, total)
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **{name: np.concatenate(values) for name, values in parts.items()})
    return stream.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes, *, packed: bool = False) -> None:
    """packed: pictures are compressed already."""
    entry = zipfile.ZipInfo(name, date_time=_NO_DATE)
    entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)
