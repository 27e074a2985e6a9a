"""What `inspect` says of files with two maps, and of plain heatmap files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probpose_edge import ModelContract, read_contract, shipped_model
from probpose_edge.contract.metadata import TFLITE_METADATA_NAME


def file_with(contract: ModelContract, path: Path) -> Path:
    """The shipped file under another contract: the archive appended last is the one that counts."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as entries:
        entries.writestr(TFLITE_METADATA_NAME, contract.to_json())
    path.write_bytes(shipped_model("tflite").read_bytes() + archive.getvalue())
    return path


@pytest.mark.parametrize(
    ("changes", "said", "not_said"),
    [
        ({}, ["outputs logits, presence, visibility, quality"], ["two maps", "plain heatmaps", "calibration"]),
        (
            {"window_ratio": 1.25, "calibration": {"coverage_error": 0.02, "picture_hashes": "0a 1b", "x_before": 3.0}},
            [
                "outputs logits, presence, visibility, quality, expert_logits",
                "two maps: logits over 1.25 times the input window (padding 1.5625)",
                "calibration: coverage_error = 0.02",
            ],
            ["plain heatmaps"],
        ),
        (
            {"map_kind": "heatmap", "decode_kernel": "argmax"},
            ["outputs logits", "plain heatmaps: the peak value is the confidence"],
            ["two maps", "visibility, quality, expert"],
        ),
    ],
)
def test_inspect_says_what_a_file_gives(
    cli: Callable[..., Any], tmp_path: Path, changes: dict[str, Any], said: list[str], not_said: list[str]
) -> None:
    contract = read_contract(shipped_model("tflite")).replace(**{"calibration": {}, **changes})
    printed = " ".join(cli("inspect", file_with(contract, tmp_path / "a.tflite")).out.split())
    for text in said:
        assert text in printed
    for text in not_said:
        assert text not in printed
