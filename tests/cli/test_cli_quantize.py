"""`quantize` from end to end on a tiny network and drawn people, and the one sentence that every failure gives."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from probpose_models import ProbPoseS, checkpoint_contract, load_checkpoint, save_checkpoint

pytest.importorskip("torchao", reason="needs the extra convert")

from probpose_quant import read_quantization

Cli = Callable[..., "Outcome"]  # noqa: F821 (defined in conftest)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = ProbPoseS(channels=24, depth=1, heads=2, deconvolutions=(8, 8))
    nn.init.normal_(network.map_head.final.weight, std=0.5)
    path = tmp_path_factory.mktemp("quantize") / "tiny.safetensors"
    save_checkpoint(path, network.eval(), checkpoint_contract(network))
    return path


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A set that names no keypoints, with its picture."""
    import cv2

    folder = tmp_path_factory.mktemp("boxes")
    picture = np.random.default_rng(0).integers(0, 256, (240, 200, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / "a.png"), picture)
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 240}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 7, "bbox": [5 * i, 10, 90, 200], "iscrowd": 0} for i in (1, 2)
        ],
        "categories": [{"id": 7, "name": "person"}],
    }
    (folder / "boxes.json").write_text(json.dumps(document))
    return f"{folder / 'boxes.json'}:{folder}"


def test_train_on_boxes_alone_interrupt_and_resume(
    cli: Cli, tiny: Path, boxes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probpose_cli.quantize.SAVE_EVERY", 1)
    arguments = [
        "quantize", tiny, "--qat", "--data", boxes, "--data", "synth", "--calib-crops", 8,
        "--steps", 2, "--batch-size", 2, "--device", "cpu", "--out", tmp_path / "q",
    ]  # fmt: skip
    calls: list[int] = []
    from probpose_quant.qat import QuantizationAwareTraining

    step = QuantizationAwareTraining.step

    def once(self: QuantizationAwareTraining, crops: torch.Tensor) -> dict[str, float]:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return step(self, crops)

    with monkeypatch.context() as patched:
        patched.setattr(QuantizationAwareTraining, "step", once)
        done = cli(*arguments)
    assert done.code == 2
    assert (
        "interrupted after 1 steps. Continue from its last saved state with the same command and --resume" in done.err
    )
    assert "holds one. Continue it with --resume" in cli(*arguments).err
    for different in (("--float-block", "map_head.final"), ("--ranges", "mse")):
        other = cli(*arguments, "--resume", *different)
        assert other.code == 2
        assert "is resumed with the recipe it began with" in other.err
    assert not list((tmp_path / "q").glob("*.safetensors"))
    done = cli(*arguments, "--resume", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["steps"] == 2
    path = Path(found["path"])
    quantization = read_quantization(path)
    assert quantization.recipe.name == "int8-static-qat"
    assert quantization.origin["calibration_crops"] == 8
    assert len(str(quantization.origin["calibration_sha256"])) == 64
    trained, first = load_checkpoint(path)[0].state_dict(), load_checkpoint(tiny)[0].state_dict()
    assert not torch.equal(trained["map_head.final.weight"], first["map_head.final.weight"])
    converted = cli("convert", path, "--format", "onnx", "--calib-crops", 8, "--out", tmp_path / "files", "--json")
    assert json.loads(converted.out)[0]["recipe"] == "int8-static-qat"
    assert "No --calib given" not in converted.err


def test_calibrate_with_a_block_in_float(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    done = cli("quantize", tiny, "--calib-crops", 8, "--float-block", "backbone.blocks.0", "--out", tmp_path / "q")
    assert done.code == 0
    assert "backbone.blocks.0 stays in float: asked for" in done.err
    quantization = read_quantization(Path(done.out.strip()))
    assert quantization.recipe.name == "mixed"
    assert quantization.recipe.float_blocks == ("backbone.blocks.0",)
    assert json.loads((tmp_path / "q" / "quantization.json").read_text())["method"] == "calibration"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--qat",), "Training needs pictures. Pass --data"),
        (("--steps", 5), "belong to --qat. Add it"),
        (("--max-drop", 0.5), "is held on the pictures of --check. Give both"),
        (("--check", "a:b"), "is held on the pictures of --check. Give both"),
        (("--device", "tpu"), "--device takes one of auto, cpu, cuda, got 'tpu'. Choose one"),
        (("--ranges", "guess"), "--ranges takes one of outputs, minmax, percentile, mse, entropy, got 'guess'"),
        (("--float-block", "nose"), "only blocks of the network in float, and it has no nose"),
        (
            ("--qat", "--data", "synth", "--device", "cpu", "--resume"),
            "which does not exist. Check --out, or start without --resume",
        ),
        (("--qat", "--data", "synth", "--learning-rate", -1), "learning_rate must be positive, got -1.0"),
        (("--qat", "--data", "missing.json:x"), "missing.json does not exist"),
    ],
)
def test_what_quantize_refuses(cli: Cli, tiny: Path, tmp_path: Path, arguments: tuple[object, ...], text: str) -> None:
    done = cli("quantize", tiny, "--out", tmp_path / "q", *arguments)
    assert done.code == 2
    assert text in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.rglob("*.*"))


def test_a_gpu_that_is_not_there(cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = cli("quantize", tiny, "--qat", "--data", "synth", "--device", "cuda", "--out", tmp_path / "q")
    assert done.code == 2
    assert "--device cuda needs a GPU that torch can use, and there is none. Use cpu or auto" in done.err


def test_weights_that_are_no_numbers(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    network, contract = load_checkpoint(tiny)
    with torch.no_grad():
        network.map_head.final.weight[0, 0] = float("nan")
    save_checkpoint(tmp_path / "nan.safetensors", network, contract)
    for more in ((), ("--qat", "--data", "synth")):
        done = cli("quantize", tmp_path / "nan.safetensors", "--out", tmp_path / "q", *more)
        assert done.code == 2
        assert "The weights must be finite, but map_head.final.weight of probpose-s has NaN" in done.err


def test_a_read_only_folder_leaves_nothing(
    cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path))

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkstemp", read_only)
        done = cli("quantize", tiny, "--calib-crops", 8, "--out", tmp_path / "q")
    assert done.code == 2
    assert "Not allowed to read or write there" in done.err
    assert list((tmp_path / "q").iterdir()) == []


def test_pictures_that_give_no_ranges(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((240, 200, 3), np.uint8))
    keypoints = [60, 60, 2] * 17
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 240}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [5, 10, 90, 200], "keypoints": keypoints, "area": 9000}
            for i in range(1, 13)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(checkpoint_contract_names())}],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    black = f"{tmp_path / 'a.json'}:{tmp_path}"
    for arguments in (("quantize", tiny), ("convert", tiny, "--precision", "int8-static")):
        done = cli(*arguments, "--calib", black, "--calib-crops", 8, "--out", tmp_path / "q")
        assert done.code == 2
        assert "every pixel of all" in done.err
        assert "Give photographs of people" in done.err
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 256, (240, 200, 3)).astype(np.uint8))
    document["annotations"] = document["annotations"][:3]  # type: ignore[index]
    (tmp_path / "a.json").write_text(json.dumps(document))
    for arguments in (("quantize", tiny), ("convert", tiny, "--precision", "int8-static")):
        done = cli(*arguments, "--calib", black, "--calib-crops", 8, "--out", tmp_path / "q")
        assert done.code == 2
        assert "Ranges need at least 8 example crops, got 3. Give a set with more persons" in done.err
    assert not list((tmp_path / "q").rglob("*.*"))


def checkpoint_contract_names() -> tuple[str, ...]:
    from probpose_edge.skeletons.skeleton import COCO_17

    return COCO_17.keypoint_names


def test_convert_holds_ex_ap(cli: Cli, tiny: Path, drawn_set: Path, tmp_path: Path) -> None:
    check = f"{drawn_set / 'annotations.json'}:{drawn_set / 'images'}"
    done = cli(
        "convert", tiny, "--format", "onnx", "--calib-crops", 8, "--check", check, "--max-drop", 0.5,
        "--out", tmp_path / "files", "--json",
    )  # fmt: skip
    assert done.code == 0
    # Random weights find nobody, so nothing is lost, and no block has to stay in float.
    assert "Ex-AP 0.00 in float, int8: [" in done.err
    (result,) = json.loads(done.out)
    assert result["recipe"] == "int8-static"
    assert result["contract"]["calibration"]["int8_crops"] == 8
    assert len(result["contract"]["calibration"]["int8_sha256"]) == 64
