from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probpose_edge import MetadataError, ModelContract, ModelFileError, read_contract
from probpose_edge.contract.metadata import METADATA_KEY, TFLITE_METADATA_NAME


def other_schema(contract: ModelContract) -> str:
    return json.dumps({**json.loads(contract.to_json()), "schema_version": 99})


def length_delimited(number: int, body: bytes) -> bytes:
    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*out, value])

    return varint(number << 3 | 2) + varint(len(body)) + body


def write_mlpackage(folder: Path, metadata: dict[str, str]) -> Path:
    """A package with a specification that holds a version and a description (no program)."""
    entries = b"".join(
        length_delimited(100, length_delimited(1, key.encode()) + length_delimited(2, value.encode()))
        for key, value in metadata.items()
    )
    description = length_delimited(1, length_delimited(1, b"image")) + length_delimited(100, entries)
    item = folder / "Data" / "com.apple.CoreML" / "model.mlmodel"
    item.parent.mkdir(parents=True)
    item.write_bytes(b"\x08\x08" + length_delimited(2, description) + length_delimited(502, b"\x00" * 5000))
    entry = {"author": "com.apple.CoreML", "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"}
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": {"A": entry}, "rootModelIdentifier": "A"}
    (folder / "Manifest.json").write_text(json.dumps(manifest))
    return folder


class TestOnnx:
    def test_the_contract_comes_back(self, write_onnx: Callable[..., Path], contract: ModelContract) -> None:
        assert read_contract(write_onnx()) == contract

    def test_no_metadata(self, write_onnx: Callable[..., Path]) -> None:
        with pytest.raises(
            MetadataError, match=r"tiny.onnx carries no probpose-edge metadata: .* Use a file written by"
        ):
            read_contract(write_onnx(metadata=None))

    def test_another_schema(self, write_onnx: Callable[..., Path], contract: ModelContract) -> None:
        with pytest.raises(MetadataError, match=r"tiny.onnx: .* reads metadata schemas 1 to 3; the file has schema 99"):
            read_contract(write_onnx(metadata=other_schema(contract)))

    def test_metadata_that_is_no_document(self, write_onnx: Callable[..., Path]) -> None:
        with pytest.raises(MetadataError, match="must be a JSON document"):
            read_contract(write_onnx(metadata="{half"))

    @pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.95])
    def test_truncated(self, write_onnx: Callable[..., Path], share: float) -> None:
        path = write_onnx()
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ModelFileError, match=r"tiny.onnx (is not a complete ONNX model|carries no)"):
            read_contract(path)

    @pytest.mark.parametrize(
        "content", [b"", b"not a model", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"\x08" + b"\xff" * 40]
    )
    def test_something_else(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"model.onnx is not a complete ONNX model: .* Copy it again"):
            read_contract(path)


class TestTFLite:
    @staticmethod
    def write(path: Path, metadata: str | None, head: bytes = b"\x1c\x00\x00\x00TFL3" + b"\x00" * 4000) -> Path:
        path.write_bytes(head)
        if metadata is not None:
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr(TFLITE_METADATA_NAME, metadata)
        return path

    def test_the_contract_comes_back(self, tmp_path: Path, contract: ModelContract) -> None:
        assert read_contract(self.write(tmp_path / "a.tflite", contract.to_json())) == contract

    def test_no_metadata(self, tmp_path: Path) -> None:
        with pytest.raises(MetadataError, match=r"a.tflite carries no probpose-edge metadata"):
            read_contract(self.write(tmp_path / "a.tflite", None))

    def test_an_archive_of_something_else(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.tflite", None)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("labels.txt", "cat")
        with pytest.raises(MetadataError, match="carries no probpose-edge metadata"):
            read_contract(path)

    def test_another_schema(self, tmp_path: Path, contract: ModelContract) -> None:
        with pytest.raises(MetadataError, match="the file has schema 99"):
            read_contract(self.write(tmp_path / "a.tflite", other_schema(contract)))

    @pytest.mark.parametrize("cut", [1, 30, 200, 2000])
    def test_truncated(self, tmp_path: Path, contract: ModelContract, cut: int) -> None:
        path = self.write(tmp_path / "a.tflite", contract.to_json())
        path.write_bytes(path.read_bytes()[:-cut])
        with pytest.raises(ModelFileError, match="its end was cut off"):
            read_contract(path)

    @pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\x03\x04 an archive", b"not a model at all"])
    def test_something_else(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(
            ModelFileError, match="is not a complete TFLite model: it does not start with the TFL3 mark"
        ):
            read_contract(self.write(tmp_path / "a.tflite", None, content))

    def test_enormous_metadata(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.tflite", None)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(TFLITE_METADATA_NAME, b" " * (17 << 20))
        with pytest.raises(MetadataError, match="is 17825792 bytes long"):
            read_contract(path)


class TestCoreML:
    def test_the_contract_comes_back(self, tmp_path: Path, contract: ModelContract) -> None:
        package = write_mlpackage(tmp_path / "a.mlpackage", {"other": "x", METADATA_KEY: contract.to_json()})
        assert read_contract(package) == contract

    def test_no_metadata(self, tmp_path: Path) -> None:
        with pytest.raises(MetadataError, match="carries no probpose-edge metadata"):
            read_contract(write_mlpackage(tmp_path / "a.mlpackage", {"other": "x"}))

    def test_another_schema(self, tmp_path: Path, contract: ModelContract) -> None:
        with pytest.raises(MetadataError, match="the file has schema 99"):
            read_contract(write_mlpackage(tmp_path / "a.mlpackage", {METADATA_KEY: other_schema(contract)}))

    def test_damaged_packages(self, tmp_path: Path, contract: ModelContract) -> None:
        (tmp_path / "empty.mlpackage").mkdir()
        with pytest.raises(ModelFileError, match=r"is not a complete CoreML model: it has no Manifest.json"):
            read_contract(tmp_path / "empty.mlpackage")
        package = write_mlpackage(tmp_path / "a.mlpackage", {METADATA_KEY: contract.to_json()})
        specification = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
        specification.write_bytes(specification.read_bytes()[:-10])
        with pytest.raises(ModelFileError, match="is not a complete CoreML model: field 502"):
            read_contract(package)
        specification.unlink()
        with pytest.raises(
            ModelFileError, match=r"the part com.apple.CoreML/model.mlmodel named by its manifest is missing"
        ):
            read_contract(package)
        (package / "Manifest.json").write_text("{}")
        with pytest.raises(ModelFileError, match=r"its Manifest.json is damaged \(KeyError\)"):
            read_contract(package)

    def test_a_manifest_cannot_point_outside(self, tmp_path: Path, contract: ModelContract) -> None:
        other = write_mlpackage(tmp_path / "other.mlpackage", {METADATA_KEY: contract.to_json()})
        package = write_mlpackage(tmp_path / "a.mlpackage", {METADATA_KEY: contract.to_json()})
        outside = f"../../{other.name}/Data/com.apple.CoreML/model.mlmodel"
        manifest = (package / "Manifest.json").read_text().replace("com.apple.CoreML/model.mlmodel", outside)
        (package / "Manifest.json").write_text(manifest)
        with pytest.raises(ModelFileError, match="is missing"):
            read_contract(package)

    @pytest.mark.slow
    def test_coremltools_writes_what_is_read_here(self, tmp_path: Path, contract: ModelContract) -> None:
        coremltools: Any = pytest.importorskip("coremltools", reason="needs coremltools to write a package")
        from coremltools.converters.mil import Builder

        @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 4))])
        def program(x: Any) -> Any:
            return Builder.relu(x=x)

        model = coremltools.convert(program, convert_to="mlprogram", minimum_deployment_target=coremltools.target.iOS17)
        model.user_defined_metadata[METADATA_KEY] = contract.to_json()
        model.save(str(tmp_path / "real.mlpackage"))
        assert read_contract(tmp_path / "real.mlpackage") == contract


def test_paths_that_are_no_model_files(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"There is no model file .*nowhere.onnx. Check the path"):
        read_contract(tmp_path / "nowhere.onnx")
    (tmp_path / "model.pt").touch()
    with pytest.raises(
        ModelFileError, match=r"must end in .onnx, .tflite or .mlpackage, got 'model.pt'. Make one from"
    ):
        read_contract(tmp_path / "model.pt")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelFileError, match=r"A .onnx model must be a file, but .*folder.onnx is not"):
        read_contract(tmp_path / "folder.onnx")
    (tmp_path / "file.mlpackage").touch()
    with pytest.raises(ModelFileError, match=r"A .mlpackage model must be a folder, but .*file.mlpackage is not"):
        read_contract(tmp_path / "file.mlpackage")
