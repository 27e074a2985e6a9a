"""What `convert` refuses, in one sentence and before the first conversion; nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

for module in ("onnx", "onnxscript", "torchao", "coremltools", "litert_torch"):
    pytest.importorskip(module, reason="needs the extra convert")

import torch  # noqa: E402

from probpose_models.checkpoint import save_checkpoint  # noqa: E402
from probpose_models.open_checkpoint import open_checkpoint  # noqa: E402
from probpose_models.shipped import shipped_checkpoint  # noqa: E402

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of black pictures, and sets of some of them: none.json, few.json, black.json."""
    folder = tmp_path_factory.mktemp("sets")
    for index in range(20):
        cv2.imwrite(str(folder / f"{index}.png"), np.zeros((60, 60, 3), np.uint8))
    _, contract = open_checkpoint(shipped_checkpoint())
    category = {"id": 1, "name": "person", "keypoints": list(contract.keypoint_names), "skeleton": []}
    for name, count in (("none", 0), ("few", 3), ("black", 20)):
        images = [{"id": i, "file_name": f"{i}.png", "width": 60, "height": 60} for i in range(count)]
        person = {"category_id": 1, "bbox": [5, 5, 40, 50], "area": 900, "iscrowd": 0, "num_keypoints": 17}
        persons = [{**person, "id": i, "image_id": i, "keypoints": [20, 20, 2] * 17} for i in range(count)]
        document = {"images": images, "annotations": persons, "categories": [category]}
        (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "A calibration set needs at least two labelled persons. Give a larger one."),
        ("few", "Ranges need at least 8 example crops, got 2. Give a set with more persons."),
        ("black", "Calibration crops must show something, but every pixel of all 10 has the value 0"),
    ],
)
def test_calibration_pictures(name: str, message: str, sets: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("convert", shipped_checkpoint(), "--out", tmp_path / "out", "--calib", f"{sets / name}.json:{sets}")
    assert done.code == 2
    assert message in done.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_weight_that_is_no_number(cli: Cli, tmp_path: Path) -> None:
    model, contract = open_checkpoint(shipped_checkpoint())
    with torch.no_grad():
        model.map_head.final.weight[0, 0] = float("nan")
    save_checkpoint(tmp_path / "nan.safetensors", model, contract)
    done = cli("convert", tmp_path / "nan.safetensors", "--precision", "fp32,int8", "--out", tmp_path / "out")
    assert done.code == 2
    assert "The weights must be finite, but map_head.final.weight of probpose-m has NaN or infinite values" in done.err
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_one_of_the_formats_lacks(cli: Cli, tmp_path: Path) -> None:
    options = ("--format", "coreml,onnx", "--precision", "palette6", "--calib-crops", 8)
    done = cli("convert", shipped_checkpoint(), *options, "--out", tmp_path / "out")
    assert done.code == 2
    assert "The int8 recipe of ONNX must be one of int8-static, int8-weights, got 'palette6'" in done.err
    # The package that could have been made was not begun.
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_written_to(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    done = cli("convert", shipped_checkpoint(), "--out", tmp_path / "file" / "out")
    assert done.code == 2
    assert (
        f"must be writable, but {tmp_path / 'file'} is not: Not a directory. Choose another one with --out" in done.err
    )
    assert (tmp_path / "file").read_text() == "here already"
