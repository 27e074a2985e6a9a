from __future__ import annotations

import json
from typing import Any

import pytest

from probpose_edge import MetadataError, ModelContract


def test_the_document_comes_back(contract: ModelContract) -> None:
    full = contract.replace(versions={"torch": "2.13"}, accuracy={"AP": 0.5})
    assert ModelContract.from_json(full.to_json()) == full
    assert ModelContract.from_json(full.to_json().encode()) == full


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 0}, "reads metadata schema 1; the file has schema 0"),
        ({"sigmas": [0.1]}, r"'sigmas' must have one value per keypoint \(5\), got 1"),
        ({"presence_bias": []}, r"'presence_bias' must have one value per keypoint \(5\), got 0"),
        ({"skeleton": [[0, 5]]}, r"pairs must index 5 keypoints, got \(0, 5\)"),
        ({"format": "pt"}, "'format' must be one of onnx, tflite, coreml, safetensors, got 'pt'"),
        ({"precision": "int4"}, "'precision' must be one of"),
        ({"decode_kernel": "new"}, r"'decode_kernel' must be one of published, got 'new'. .* install a newer"),
        ({"temperature": 0}, "'temperature' must be positive, got 0"),
        ({"padding": -1}, "'padding' must be positive, got -1"),
        ({"presence_threshold": 1.5}, r"'presence_threshold' must lie in \[0, 1\], got 1.5"),
        ({"sigmas": [0, 1, 1, 1, 1]}, "must name keypoints, positive sigmas and sizes"),
        ({"surprise": 1}, r"unknown fields \['surprise'\]. Install a newer"),
        ({"temperature": "warm"}, "wrong type"),
        ({"sigmas": None}, "wrong type"),
    ],
)
def test_documents_that_break_a_rule(contract: ModelContract, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        ModelContract.from_json(json.dumps({**json.loads(contract.to_json()), **changes}))


def test_missing_fields_and_other_documents(contract: ModelContract) -> None:
    document = json.loads(contract.to_json())
    del document["temperature"], document["sigmas"]
    with pytest.raises(
        MetadataError, match=r"lacks the fields \['sigmas', 'temperature'\]. Convert the checkpoint again"
    ):
        ModelContract.from_json(json.dumps(document))
    with pytest.raises(MetadataError, match="must be a JSON object"):
        ModelContract.from_json("[1]")
    with pytest.raises(MetadataError, match="must be a JSON document"):
        ModelContract.from_json(b"\xff\xfe\x00")
