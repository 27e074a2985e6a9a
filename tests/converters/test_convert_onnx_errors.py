"""What .onnx conversions refuse, and that whatever ends them leaves nothing half-written."""

from __future__ import annotations

import errno
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probpose_convert import ExportConfig, export_onnx, onnx_export
from probpose_convert import pending_output as pending_module
from probpose_convert.export_result import Parity
from probpose_convert.parity import PARITY_BOUNDS
from probpose_convert.pending_output import pending_output
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import CheckpointError, ConversionError, InputError, MissingExtraError
from probpose_models.checkpoint import checkpoint_contract
from probpose_models.layers import conv_bn_relu
from probpose_models.outputs import PoseOutputs

pytest.importorskip("onnx", reason="needs the extra convert")
pytest.importorskip("onnxruntime", reason="needs the extra convert")


class Tiny(nn.Module):
    """Two convolutions: converting it takes a second."""

    name, input_wh, heatmap_wh, temperature, keypoints = "tiny", (24, 32), (12, 16), 0.5, 17
    window_ratio, presence_head = 1.0, True

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 8, 3)
        self.final = nn.Conv2d(8, 17, 1)

    def forward(self, x: Tensor) -> PoseOutputs:
        logits = self.final(nn.functional.max_pool2d(self.stem(x), 2))
        return PoseOutputs(logits, *(logits.amax((2, 3)),) * 3)


class Untranslatable(Tiny):
    def forward(self, x: Tensor) -> PoseOutputs:
        return super().forward(torch.special.airy_ai(x))


CROPS = np.random.default_rng(0).integers(0, 256, (4, 32, 24, 3)).astype(np.uint8)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return Tiny().eval()


@pytest.fixture
def contract(model: Any) -> ModelContract:
    return checkpoint_contract(model)


def config(folder: Path, precision: str = "fp32", **changes: Any) -> ExportConfig:
    settings = {"out": folder / "model.onnx", "precision": precision, "parity_crops": CROPS[:2], **changes}
    return ExportConfig(**settings)


def test_a_conversion_replaces_the_older_file(model: Any, contract: ModelContract, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"older")
    result = export_onnx(model, contract, config(tmp_path))
    assert result.path.read_bytes() != b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    # Readable as any file written by the user's programs is, not only by its owner.
    assert oct(result.path.stat().st_mode & 0o777) == oct(0o666 & ~umask())


def umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def untouched(folder: Path) -> bool:
    """Whether the folder holds the older file only."""
    return [(path.name, path.read_bytes()) for path in folder.rglob("*")] == [("model.onnx", b"older")]


@pytest.mark.parametrize("when", ["save", "parity", "rename"])
@pytest.mark.parametrize("what", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_behind(
    when: str, what: BaseException, model: Any, contract: ModelContract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"older")

    def fail(*arguments: Any, **settings: Any) -> None:
        if when == "save":
            Path(arguments[1]).write_bytes(b"half of a fi")
        raise what

    if when == "save":
        monkeypatch.setattr(torch.onnx.ONNXProgram, "save", fail)
    elif when == "parity":
        monkeypatch.setattr("probpose_convert.parity.measure_parity", fail)
    else:
        monkeypatch.setattr(pending_module.os, "replace", fail)
    if isinstance(what, OSError):
        with pytest.raises(
            ConversionError,
            match=r"model\.onnx must be writable, but writing it failed: No space left on device\. Free disk space",
        ):
            export_onnx(model, contract, config(tmp_path))
    else:
        with pytest.raises(KeyboardInterrupt):
            export_onnx(model, contract, config(tmp_path))
    assert untouched(tmp_path)


def test_a_folder_that_cannot_be_written_to(
    model: Any, contract: ModelContract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**settings: Any) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(settings["dir"]))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(ConversionError, match=r"writing it failed: Permission denied\. .*another output folder"):
        export_onnx(model, contract, config(tmp_path))


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The output folder must exist, but .*missing does not\. Create it first"):
        config(tmp_path, out=tmp_path / "missing" / "model.onnx")


def test_int8_without_calibration_crops(model: Any, contract: ModelContract, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"int8-static takes its ranges from example crops and got none\. .*--calib"):
        export_onnx(model, contract, config(tmp_path, "int8"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float, model: Any, contract: ModelContract, tmp_path: Path) -> None:
    with torch.no_grad():
        model.final.weight[0, 0] = value
    with pytest.raises(CheckpointError, match=r"weights must be finite, but final\.weight of tiny has NaN or infinite"):
        export_onnx(model, contract, config(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", ["int8-dynamic", "palette6"])
def test_recipes_that_onnx_files_do_not_have(recipe: str, model: Any, contract: ModelContract, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=rf"int8 recipe of ONNX must be one of int8-static, int8-weights, got '{recipe}'"
    ):
        export_onnx(model, contract, config(tmp_path, "int8", recipe=recipe, calibration_crops=CROPS))


@pytest.mark.parametrize("name", ["parity_crops", "calibration_crops"])
def test_crops_of_another_size(name: str, model: Any, contract: ModelContract, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must have shape \(N, 32, 24, 3\) for tiny, got \(1, 16, 16, 3\)\. Cut them"):
        export_onnx(model, contract, config(tmp_path, **{name: np.zeros((1, 16, 16, 3), np.uint8)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int4"}, r"precision must be one of fp32, fp16, int8, got 'int4'"),
        (
            {"recipe": "int8-fast"},
            r"recipe must be one of int8-static, int8-dynamic, int8-weights, palette6, mixed, got 'int8-fast'",
        ),
        ({"recipe": "int8-static"}, r"A recipe belongs to precision int8, got recipe 'int8-static' with .* 'fp32'"),
        ({"parity_crops": CROPS[:0]}, r"Parity crops must be at least one uint8 RGB crop, .* shape \(0, 32, 24, 3\)"),
        ({"parity_crops": CROPS.astype(np.float32)}, r"Parity crops must be .* and type float32"),
        ({"parity_crops": CROPS[..., :1]}, r"Parity crops must be .* got shape \(4, 32, 24, 1\)"),
        ({"calibration_crops": CROPS[0]}, r"Calibration crops must be .* got shape \(32, 24, 3\)"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        config(tmp_path, **changes)


def test_a_missing_library(
    model: Any, contract: ModelContract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r'"onnxscript", which is not installed\. .*"probpose-edge\[convert\]"'):
        export_onnx(model, contract, config(tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_operator_that_onnx_does_not_have(tmp_path: Path) -> None:
    network: Any = Untranslatable().eval()
    with pytest.raises(
        ConversionError, match=r"ONNX has, but airy_ai in the network itself \(Untranslatable\) could not"
    ):
        export_onnx(network, checkpoint_contract(network), config(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_file_that_does_not_follow_its_network(
    model: Any, contract: ModelContract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BlueFirst(onnx_export.OnnxNetwork):
        """As if somebody had swapped the colours."""

        def normalise(self, image: Tensor) -> Tensor:
            return super().normalise(image.flip(3))

    monkeypatch.setattr(onnx_export, "OnnxNetwork", BlueFirst)
    with pytest.raises(ConversionError, match=r"must follow the network it came from, but on 2 crops it is off: log"):
        export_onnx(model, contract, config(tmp_path))
    assert not list(tmp_path.iterdir())


def test_pending_folders_replace_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model.mlpackage"
    out.mkdir()
    (out / "older").write_bytes(b"older")

    def write() -> None:
        with pending_output(out) as pending:
            pending.mkdir()
            (pending / "newer").write_bytes(b"newer")

    real, calls = pending_module.os.replace, []

    def second_rename_fails(source: Any, target: Any) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(pending_module.os, "replace", second_rename_fails)
        with pytest.raises(ConversionError, match="Input/output error"):
            write()
    assert [path.name for path in tmp_path.rglob("*")] == ["model.mlpackage", "older"]
    write()
    assert [path.name for path in tmp_path.rglob("*")] == ["model.mlpackage", "newer"]


def test_every_precision_has_its_bounds() -> None:
    assert list(PARITY_BOUNDS) == ["fp32", "fp16", "int8"]
    assert set(vars(PARITY_BOUNDS["int8"])) - {"maps_alike"} <= set(Parity.__dataclass_fields__)
