"""Read the contract out of a model file: no runtime and no conversion library is needed, nor is the model loaded."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from probpose_edge.contract.metadata import METADATA_KEY, TFLITE_METADATA_NAME, ModelContract
from probpose_edge.contract.protobuf import WireError, fields, size_of, string_pair
from probpose_edge.exceptions import MetadataError, ModelFileError

SUFFIXES = {".onnx": "onnx", ".tflite": "tflite", ".mlpackage": "coreml"}
"""File name suffix → format."""
_LARGEST_METADATA = 1 << 24


def read_contract(path: str | os.PathLike[str]) -> ModelContract:
    """The contract of a .onnx, .tflite or .mlpackage file.

    Raises `ModelFileError` for a missing file or one that is not a complete model of that format, and
    `MetadataError` if it carries no probpose-edge metadata, or those of another schema version.
    """
    path, document = Path(path), read_document(path)
    try:
        return ModelContract.from_json(document)
    except MetadataError as error:
        raise MetadataError(f"{path}: {error}") from error


def read_document(path: str | os.PathLike[str]) -> bytes:
    """The JSON document that a .onnx, .tflite or .mlpackage file carries, of a pose model or a router.

    Raises `ModelFileError` for a missing file or one that is not a complete model of that format, and
    `MetadataError` if it carries none.
    """
    path = Path(path)
    reader = {"onnx": _onnx_document, "tflite": _tflite_document, "coreml": _coreml_document}[model_format(path)]
    try:
        document = reader(path)
    except OSError as error:
        raise ModelFileError(
            f"The model file {path} cannot be read: {error.strerror or error}. Check its permissions, or copy it again."
        ) from error
    if document is None:
        raise MetadataError(
            f"{path} carries no probpose-edge metadata: it was not made by probpose-edge, or its end was cut off. Use "
            "a file written by `probpose-edge convert`, or copy it again."
        )
    return document


def model_format(path: str | os.PathLike[str]) -> str:
    """``"onnx"``, ``"tflite"`` or ``"coreml"``, by the suffix; raises `ModelFileError` for others or a missing file."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelFileError(
            f"A model file must end in .onnx, .tflite or .mlpackage, got {path.name!r}. Make one from a checkpoint "
            "with `probpose-edge convert`."
        )
    if not path.exists():
        raise ModelFileError(f"There is no model file {path}. Check the path.")
    if path.is_dir() != (suffix == ".mlpackage"):
        kind = "a folder" if suffix == ".mlpackage" else "a file"
        raise ModelFileError(f"A {suffix} model must be {kind}, but {path} is not. Check the path, or copy it again.")
    return SUFFIXES[suffix]


def _onnx_document(path: Path) -> bytes | None:
    """The entry of ``metadata_props`` (field 14 of onnx.ModelProto), or None."""
    document, seen = None, set()
    with path.open("rb") as file:
        try:
            for number, end in fields(file, size_of(file)):
                seen.add(number)
                if number == 14:
                    key, value = string_pair(file, end)
                    document = value if key == METADATA_KEY.encode() else document
        except WireError as error:
            raise _not_a_model(path, "ONNX", str(error)) from error
    if not {1, 7} <= seen:
        raise _not_a_model(path, "ONNX", "it has no format version or no graph")
    return document


def _tflite_document(path: Path) -> bytes | None:
    """The entry of the zip archive that follows the flatbuffer, or None."""
    with path.open("rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise _not_a_model(path, "TFLite", "it does not start with the TFL3 mark")
        try:
            with zipfile.ZipFile(file) as archive:
                entry = archive.getinfo(TFLITE_METADATA_NAME)
                if entry.file_size > _LARGEST_METADATA:
                    raise MetadataError(
                        f"The metadata of {path} is {entry.file_size} bytes long. Convert the checkpoint again."
                    )
                return archive.read(entry)
        except KeyError:
            return None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            return None


def _coreml_document(path: Path) -> bytes | None:
    """The entry of the user-defined metadata in the package's specification, or None.

    Fields: Model.description = 2, ModelDescription.metadata = 100, Metadata.userDefined = 100 (a string map).
    """
    specification = _coreml_specification(path)
    document, seen = None, set()
    with specification.open("rb") as file:
        try:
            for number, end in fields(file, size_of(file)):
                seen.add(number)
                if number == 2:
                    document = _coreml_user_defined(file, end)
        except WireError as error:
            raise _not_a_model(path, "CoreML", str(error)) from error
    if not {1, 2} <= seen:
        raise _not_a_model(path, "CoreML", "its specification has no version or no description")
    return document


def _coreml_user_defined(file: BinaryIO, description_end: int) -> bytes | None:
    document = None
    for number, end in fields(file, description_end):
        if number == 100:
            for inner, inner_end in fields(file, end):
                if inner == 100:
                    key, value = string_pair(file, inner_end)
                    document = value if key == METADATA_KEY.encode() else document
    return document


def _coreml_specification(path: Path) -> Path:
    """The .mlmodel file that the package's manifest names as its root model."""
    try:
        manifest = json.loads((path / "Manifest.json").read_text(encoding="utf-8"))
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except FileNotFoundError as error:
        raise _not_a_model(path, "CoreML", "it has no Manifest.json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _not_a_model(path, "CoreML", f"its Manifest.json is damaged ({type(error).__name__})") from error
    specification = (path / "Data" / str(item)).resolve()
    if not specification.is_relative_to(path.resolve()) or not specification.is_file():
        raise _not_a_model(path, "CoreML", f"the part {item} named by its manifest is missing")
    return specification


def _not_a_model(path: Path, kind: str, why: str) -> ModelFileError:
    return ModelFileError(
        f"{path} is not a complete {kind} model: {why}. Copy it again, or convert the checkpoint again."
    )
