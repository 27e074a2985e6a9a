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
        ({"schema_version": 0}, "reads metadata schemas 1 to 3; the file has schema 0"),
        ({"sigmas": [0.1]}, r"'sigmas' must have one value per keypoint \(5\), got 1"),
        ({"quality_scale": [1, 2]}, r"'quality_scale' must have one value per keypoint \(5\), got 2"),
        ({"presence_bias": []}, r"'presence_bias' must have one value per keypoint \(5\), got 0"),
        ({"skeleton": [[0, 5]]}, r"pairs must index 5 keypoints, got \(0, 5\)"),
        ({"format": "pt"}, "'format' must be one of onnx, tflite, coreml, safetensors, got 'pt'"),
        ({"precision": "int4"}, "'precision' must be one of"),
        (
            {"decode_kernel": "new"},
            r"'decode_kernel' must be one of published, oks, argmax, got 'new'. .* install a newer",
        ),
        ({"temperature": 0}, "'temperature' must be positive, got 0"),
        ({"padding": -1}, "'padding' must be positive, got -1"),
        ({"presence_threshold": 1.5}, r"'presence_threshold' must lie in \[0, 1\], got 1.5"),
        ({"sigmas": [0, 1, 1, 1, 1]}, "must name keypoints, positive sigmas and sizes"),
        ({"map_kind": "field"}, "'map_kind' must be one of probability, heatmap, got 'field'"),
        ({"output_kind": "poses"}, "'output_kind' must be one of logits, decoded, got 'poses'"),
        ({"window_ratio": 0.8}, "'window_ratio' must be at least 1, got 0.8"),
        ({"window_ratio": float("inf")}, "'window_ratio' must be at least 1, got inf"),
        ({"map_kind": "heatmap"}, "must have decode_kernel 'argmax' and window_ratio 1, got 'published' and 1.0"),
        (
            {"map_kind": "heatmap", "decode_kernel": "argmax", "window_ratio": 1.25},
            "must have decode_kernel 'argmax' and window_ratio 1, got 'argmax' and 1.25",
        ),
        ({"calibration": {"curve": [1, 2]}}, "'calibration' must map names to numbers or text, got .*Calibrate the"),
        ({"surprise": 1}, r"unknown fields \['surprise'\]. Install a newer"),
        ({"temperature": "warm"}, "wrong type"),
        ({"sigmas": None}, "wrong type"),
    ],
)
def test_documents_that_break_a_rule(contract: ModelContract, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        ModelContract.from_json(json.dumps({**json.loads(contract.to_json()), **changes}))


def test_documents_of_schema_1_are_read(contract: ModelContract) -> None:
    document = json.loads(contract.to_json())
    newer = (
        "map_kind",
        "window_ratio",
        "calibration",
        "quality_scale",
        "quality_bias",
        "output_kind",
        "self_test",
        "scores",
        "confidence_head",
    )
    for name in newer:
        del document[name]
    old = ModelContract.from_json(json.dumps({**document, "schema_version": 1}))
    assert old == contract
    assert (old.map_kind, old.window_ratio, old.calibration) == ("probability", 1.0, {})
    assert old.schema_version == json.loads(old.to_json())["schema_version"] == 3
    with pytest.raises(MetadataError, match=r"unknown fields \['window_ratio'\]"):
        ModelContract.from_json(json.dumps({**document, "schema_version": 1, "window_ratio": 1.25}))
    with pytest.raises(MetadataError, match=r"lacks the fields \['map_kind', 'window_ratio'\]"):
        ModelContract.from_json(json.dumps({**document, "schema_version": 2}))


def test_documents_of_schema_2_have_no_calibration_of_the_quality(contract: ModelContract) -> None:
    document = json.loads(contract.to_json())
    del document["quality_scale"], document["quality_bias"], document["output_kind"], document["self_test"]
    del document["scores"], document["confidence_head"]
    old = ModelContract.from_json(json.dumps({**document, "schema_version": 2}))
    assert old == contract
    assert (old.quality_scale, old.quality_bias) == ((1.0,) * 5, (0.0,) * 5)
    with pytest.raises(MetadataError, match=r"unknown fields \['quality_bias'\]"):
        ModelContract.from_json(json.dumps({**document, "schema_version": 2, "quality_bias": [0.0] * 5}))
    with pytest.raises(MetadataError, match=r"lacks the fields \['output_kind', 'quality_bias', 'quality_scale'\]"):
        ModelContract.from_json(json.dumps({**document, "schema_version": 3}))
    changed = contract.replace(quality_scale=(2.0,) * 5)
    assert ModelContract.from_json(changed.to_json()) == changed != contract


def test_what_a_file_gives(contract: ModelContract) -> None:
    scalars = ("logits", "presence", "visibility", "quality")
    assert contract.output_names == scalars
    assert contract.activation_padding == contract.padding
    double = contract.replace(window_ratio=1.25)
    assert double.output_names == (*scalars, "expert_logits")
    assert double.activation_padding == 1.25 * contract.padding
    heatmap = contract.replace(map_kind="heatmap", decode_kernel="argmax", calibration={"coverage": 0.02, "set": "a"})
    assert heatmap.output_names == ("logits",)
    for inside in (contract, double, heatmap):
        decoded = inside.replace(output_kind="decoded").output_names
        assert decoded == ("keypoints", "presence", "visibility", "quality", "expected_oks")
    assert ModelContract.from_json(heatmap.to_json()) == heatmap


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
