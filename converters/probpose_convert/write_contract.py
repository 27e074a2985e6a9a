"""Replace the contract inside a finished file; the network in it stays the same to the byte.

No runtime and no conversion library is needed: the metadata is cut out of the file and the new one put in its place.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from probpose_convert.pending_output import pending_output
from probpose_edge.atomic_write import write_bytes_atomically
from probpose_edge.contract.metadata import METADATA_KEY, TFLITE_METADATA_NAME, ModelContract
from probpose_edge.contract.protobuf import WireError, encode_field, fields, string_pair
from probpose_edge.exceptions import InputError, ModelFileError

_ONNX_METADATA_PROPS = 14
"""ModelProto.metadata_props, a list of string pairs."""
_COREML_PATH = (2, 100, 100)
"""Model.description, ModelDescription.metadata, Metadata.userDefined: the last is a list of string pairs."""


_FORMATS = {".onnx": "onnx", ".tflite": "tflite", ".mlpackage": "coreml", ".safetensors": "safetensors"}


def writable_format(path: Path) -> str:
    """The format, by the suffix, of a file whose contract can be replaced; raises `InputError` for others."""
    if path.suffix not in _FORMATS:
        raise InputError(
            f"Metadata can be written into .onnx, .tflite, .mlpackage and .safetensors files, got {path.name!r}. "
            "Save other checkpoints with `probpose-edge convert` first."
        )
    return _FORMATS[path.suffix]


def write_contract(path: Path, contract: ModelContract, out: Path | None = None) -> None:
    """Put `contract` into a .onnx, .tflite, .mlpackage or .safetensors file, in place or as the new file `out`.

    The target appears complete or not at all. A checkpoint does not hold its own hash, so ``checkpoint_sha256`` is
    left empty in .safetensors files, as `save_checkpoint` does.

    Raises `ModelFileError` for a file that is missing or damaged, `InputError` for other kinds of files, for an `out`
    with another suffix, and for the contract of another format.
    """
    kind = writable_format(path)
    if contract.format != kind:
        raise InputError(
            f"The contract of {path.name} must have the format {kind!r}, got {contract.format!r}. Read it from the "
            "same file."
        )
    if out is not None and out.suffix != path.suffix:
        raise InputError(f"The new file must end in {path.suffix} as {path.name} does, got {out.name!r}. Rename it.")
    if not path.exists():
        raise ModelFileError(f"There is no model file {path}. Check the path.")
    try:
        if kind == "coreml":
            _write_package(path, contract.to_json(), out)
        elif kind == "safetensors":
            text = contract.replace(checkpoint_sha256="").to_json()
            write_bytes_atomically(out or path, _in_safetensors(path.read_bytes(), text))
        else:
            change = _in_onnx if kind == "onnx" else _in_tflite
            write_bytes_atomically(out or path, change(path.read_bytes(), contract.to_json()))
    except (WireError, ValueError, KeyError, struct.error, zipfile.BadZipFile) as error:
        raise ModelFileError(
            f"{path} is not a complete {kind} file: {error}. Copy it again, or convert the checkpoint again."
        ) from error


def _in_onnx(content: bytes, text: str) -> bytes:
    return _without_pair(content, _ONNX_METADATA_PROPS) + encode_field(_ONNX_METADATA_PROPS, _string_pair(text))


def _in_tflite(content: bytes, text: str) -> bytes:
    """The flatbuffer as it is, followed by a new archive with the same entries but for the contract."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
        begin = min(entry.header_offset for entry, _ in entries)
    stream = io.BytesIO()
    stream.write(content[:begin])
    with zipfile.ZipFile(stream, "a") as archive:
        for entry, value in entries:
            archive.writestr(entry, text if entry.filename == TFLITE_METADATA_NAME else value)
    return stream.getvalue()


def _in_safetensors(content: bytes, text: str) -> bytes:
    """A new header, padded with spaces to eight bytes, before the same tensors (offsets count from its end)."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = {**header.get("__metadata__", {}), METADATA_KEY: text}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + content[8 + length :]


def _write_package(package: Path, text: str, out: Path | None) -> None:
    manifest = json.loads((package / "Manifest.json").read_text(encoding="utf-8"))
    part = Path("Data") / manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    specification = _in_coreml((package / part).read_bytes(), text)
    if out is None or out == package:
        write_bytes_atomically(package / part, specification)
        return
    with pending_output(out) as pending:
        shutil.copytree(package, pending)
        (pending / part).write_bytes(specification)


def _in_coreml(content: bytes, text: str, path: tuple[int, ...] = _COREML_PATH) -> bytes:
    """The message with the pair replaced at the end of `path`; messages on the way there are made where missing."""
    if len(path) == 1:
        return _without_pair(content, path[0]) + encode_field(path[0], _string_pair(text))
    outer = b"".join(raw for number, raw, _ in _split(content) if number == path[0])
    # Several values of one message field count as one, their contents after another.
    inner = b"".join(value for number, _, value in _split(outer) if number == path[0])
    kept = _keep(content, lambda number, _: number != path[0])
    return kept + encode_field(path[0], _in_coreml(inner, text, path[1:]))


def _without_pair(content: bytes, number: int) -> bytes:
    """A message without the pairs of our key in its field `number`."""

    def foreign(field: int, value: bytes) -> bool:
        return field != number or string_pair(io.BytesIO(value), len(value))[0] != METADATA_KEY.encode()

    return _keep(content, foreign)


def _keep(content: bytes, wanted: Callable[[int, bytes], bool]) -> bytes:
    return b"".join(raw for number, raw, value in _split(content) if wanted(number, value))


def _split(content: bytes) -> list[tuple[int, bytes, bytes]]:
    """Number, whole bytes, and value of every field of a message; the value of a number is empty."""
    stream = io.BytesIO(content)
    parts, begin = [], 0
    for number, end in fields(stream, len(content)):
        parts.append((number, content[begin:end], content[stream.tell() : end]))
        begin = end
    return parts


def _string_pair(text: str) -> bytes:
    return encode_field(1, METADATA_KEY.encode()) + encode_field(2, text.encode())
