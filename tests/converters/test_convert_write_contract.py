"""A new contract in a finished file: readable, everything else the same to the byte, old or new but never half."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from probpose_convert.write_contract import write_contract
from probpose_edge import COCO_17, InputError, ModelContract, ModelFileError, read_contract
from probpose_edge.contract.metadata import METADATA_KEY, TFLITE_METADATA_NAME
from probpose_edge.weights import shipped_model

Changed = tuple[Path, bytes, ModelContract]


@pytest.fixture
def contract() -> Callable[..., ModelContract]:
    def make(kind: str) -> ModelContract:
        return ModelContract(
            model="test",
            format=kind,
            precision="fp32",
            recipe="fp32",
            keypoint_names=COCO_17.keypoint_names,
            skeleton=COCO_17.edges,
            flip_pairs=COCO_17.flip_pairs,
            sigmas=COCO_17.sigmas,
            input_wh=(192, 256),
            heatmap_wh=(48, 64),
            padding=1.25,
            decode_kernel="published",
            temperature=0.5,
            presence_scale=(1.0,) * 17,
            presence_bias=(0.0,) * 17,
            presence_threshold=0.5,
            checkpoint_sha256="a" * 64,
            licence="Apache-2.0",
        )

    return make


def varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def pair(key: str, value: str) -> bytes:
    return field(1, key.encode()) + field(2, value.encode())


def changed(contract: ModelContract) -> ModelContract:
    return contract.replace(
        presence_threshold=0.9, calibration={"coverage_temperature": 0.0051, "picture_hashes": "ab " * 4000}
    )


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_the_shipped_network_stays_the_same_to_the_byte(kind: str, tmp_path: Path) -> None:
    source = shipped_model(kind)
    contract = read_contract(source)
    path = tmp_path / source.name
    path.write_bytes(source.read_bytes())
    new = changed(contract)
    write_contract(path, new)
    assert read_contract(path) == new
    if kind == "tflite":
        archives = [zipfile.ZipFile(io.BytesIO(p.read_bytes())) for p in (source, path)]
        ends = [min(entry.header_offset for entry in archive.infolist()) for archive in archives]
        assert ends[0] == ends[1] > 1_000_000
        assert source.read_bytes()[: ends[0]] == path.read_bytes()[: ends[1]]
    else:
        # The contract is the last field of the file, before and after.
        head = source.read_bytes().partition(METADATA_KEY.encode() + b"\x12")[0][:-16]
        assert len(head) > 1_000_000
        assert path.read_bytes().startswith(head)
    # Old metadata may be of an older schema; written anew they are the same whatever was there before.
    other = tmp_path / f"other{source.suffix}"
    write_contract(path, contract)
    write_contract(source, contract, other)
    assert path.read_bytes() == other.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, other.name])


def test_foreign_entries_of_an_onnx_file_stay(tmp_path: Path, contract: Callable[..., ModelContract]) -> None:
    path, out = tmp_path / "a.onnx", tmp_path / "b.onnx"
    foreign = field(14, pair("author", "someone"))
    network = b"\x08\x0a" + field(7, b"\x0a\x05graph" * 40)
    mine = field(14, pair(METADATA_KEY, contract("onnx").to_json()))
    path.write_bytes(network + mine + foreign)
    new = changed(contract("onnx"))
    write_contract(path, new, out)
    assert out.read_bytes() == network + foreign + field(14, pair(METADATA_KEY, new.to_json()))
    assert path.read_bytes() == network + mine + foreign


def test_foreign_entries_of_a_tflite_file_stay(tmp_path: Path, contract: Callable[..., ModelContract]) -> None:
    path = tmp_path / "a.tflite"
    flatbuffer = b"\x1c\x00\x00\x00TFL3" + bytes(range(256)) * 9
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as entries:
        entries.writestr("labels.txt", "person\n" * 50)
        entries.writestr(TFLITE_METADATA_NAME, contract("tflite").to_json())
    path.write_bytes(flatbuffer + archive.getvalue())
    new = changed(contract("tflite"))
    write_contract(path, new)
    assert path.read_bytes().startswith(flatbuffer + b"PK")
    assert read_contract(path) == new
    with zipfile.ZipFile(path) as written:
        assert sorted(written.namelist()) == ["labels.txt", TFLITE_METADATA_NAME]
        assert written.read("labels.txt") == b"person\n" * 50


@pytest.fixture
def package(tmp_path: Path, contract: Callable[..., ModelContract]) -> tuple[Path, bytes, bytes]:
    """An .mlpackage with a description around the contract; its weights and the specification's foreign parts."""
    folder = tmp_path / "model.mlpackage"
    (folder / "Data" / "com.apple.CoreML" / "weights").mkdir(parents=True)
    weights = bytes(range(256)) * 10
    (folder / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").write_bytes(weights)
    manifest = {"rootModelIdentifier": "x", "itemInfoEntries": {"x": {"path": "com.apple.CoreML/model.mlmodel"}}}
    (folder / "Manifest.json").write_text(json.dumps(manifest))
    foreign = field(1, b"a short description") + field(100, pair("other", "entry"))
    metadata = field(100, pair(METADATA_KEY, contract("coreml").to_json())) + foreign
    description = field(1, b"image input") + field(100, metadata)
    specification = b"\x08\x08" + field(2, description) + field(502, b"a program" * 30)
    (folder / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(specification)
    return folder, weights, foreign


@pytest.mark.parametrize("in_place", [True, False])
def test_a_package_keeps_its_program_and_weights(
    package: tuple[Path, bytes, bytes], in_place: bool, contract: Callable[..., ModelContract]
) -> None:
    folder, weights, foreign = package
    new = changed(contract("coreml"))
    target = folder if in_place else folder.with_name("copy.mlpackage")
    write_contract(folder, new, None if in_place else target)
    assert read_contract(target) == new
    assert (read_contract(folder) == new) == in_place
    assert (target / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").read_bytes() == weights
    written = (target / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes()
    assert written.startswith(b"\x08\x08" + field(502, b"a program" * 30))
    for part in (foreign, field(1, b"image input")):
        assert part in written
    assert sorted(p.name for p in folder.parent.iterdir()) == sorted({folder.name, target.name})


def test_a_checkpoint_keeps_its_tensors(tmp_path: Path, contract: Callable[..., ModelContract]) -> None:
    path = tmp_path / "a.safetensors"
    tensors = bytes(range(64))
    header = {
        "w": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]},
        "__metadata__": {METADATA_KEY: contract("safetensors").to_json(), "note": "mine"},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)
    new = changed(contract("safetensors"))
    write_contract(path, new)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    assert content[8 + length :] == tensors
    written = json.loads(content[8 : 8 + length])
    assert written["w"] == header["w"]
    assert written["__metadata__"]["note"] == "mine"
    # A file cannot hold its own hash.
    stored = ModelContract.from_json(written["__metadata__"][METADATA_KEY])
    assert stored == new.replace(checkpoint_sha256="")
    safetensors = pytest.importorskip("safetensors.numpy")
    assert safetensors.load_file(path)["w"].tobytes() == tensors


def test_other_files_are_refused(tmp_path: Path, contract: Callable[..., ModelContract]) -> None:
    onnx, path = contract("onnx"), tmp_path / "model.onnx"
    with pytest.raises(InputError, match=r"\.onnx, \.tflite, \.mlpackage and \.safetensors files, got 'a\.pth'\. Save"):
        write_contract(tmp_path / "a.pth", onnx)
    with pytest.raises(InputError, match=r"contract of model\.onnx must have the format 'onnx', got 'tflite'"):
        write_contract(path, contract("tflite"))
    with pytest.raises(InputError, match=r"new file must end in \.onnx as model\.onnx does, got 'b\.tflite'\. Rename"):
        write_contract(path, onnx, tmp_path / "b.tflite")
    with pytest.raises(ModelFileError, match=r"There is no model file .*model\.onnx"):
        write_contract(path, onnx)


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("a.onnx", "onnx", b"\x08\x0a\x3a\x7f short"),
        ("a.tflite", "tflite", b"\x1c\x00\x00\x00TFL3 without an archive"),
        ("a.safetensors", "safetensors", b"\x01"),
        ("a.safetensors", "safetensors", struct.pack("<Q", 5) + b"{half"),
    ],
)
def test_damaged_files_stay_as_they_are(
    tmp_path: Path, name: str, kind: str, content: bytes, contract: Callable[..., ModelContract]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"a\.{name[2:]} is not a complete {kind} file: .*Copy it again"):
        write_contract(path, contract(kind))
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == [name]
