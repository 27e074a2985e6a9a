"""Skeletons: presets as data, flip pairs from names, small files, and what is said about bad ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from probpose_edge import COCO_17, CROWDPOSE_14, MPII_16, WHOLEBODY_133, InputError, Skeleton
from probpose_edge.skeletons.skeleton import infer_flip_pairs, side_and_part
from probpose_edge.skeletons.skeleton_file import read_skeleton, skeleton_from_document, write_skeleton
from probpose_edge.skeletons.skeleton_presets import PRESETS, known_skeleton

ARM: dict[str, Any] = {"keypoints": ["nose", "l_hand", "r_hand"], "sigmas": [0.026, 0.06, 0.06]}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole(name: str) -> None:
    preset = PRESETS[name]
    assert len(preset.keypoint_names) == int(name.rpartition("-")[2])
    order = preset.flip_permutation
    assert tuple(order[order[k]] for k in range(len(order))) == tuple(range(len(order)))
    middle = {preset.keypoint_names[k] for k in range(len(order)) if order[k] == k}
    assert not any(side_and_part(keypoint)[0] for keypoint in middle)
    assert {k for edge in preset.edges for k in edge} >= {k for k in range(len(order)) if order[k] != k} - {91, 112}


def test_mirrored_limbs_are_limbs() -> None:
    for preset in PRESETS.values():
        edges = {frozenset(edge) for edge in preset.edges}
        order = preset.flip_permutation
        assert {frozenset((order[a], order[b])) for a, b in preset.edges} == edges


def test_public_facts_of_the_presets() -> None:
    """A few values of each, as published: CrowdPose and COCO-WholeBody by their evaluations."""
    assert MPII_16.keypoint_names[6:10] == ("pelvis", "thorax", "upper_neck", "head_top")
    assert CROWDPOSE_14.sigmas[-2:] == (0.079, 0.079)
    assert CROWDPOSE_14.sigmas[:12] == COCO_17.sigmas[5:]
    names = WHOLEBODY_133.keypoint_names
    assert names[:17] == COCO_17.keypoint_names
    assert (names[17], names[22], names[23], names[90]) == ("left_big_toe", "right_heel", "face-0", "face-67")
    assert (names[91], names[95], names[112], names[132]) == (
        "left_hand_root", "left_thumb4", "right_hand_root", "right_pinky_finger4",
    )  # fmt: skip
    assert WHOLEBODY_133.sigmas[17:23] == (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
    assert WHOLEBODY_133.sigmas[91:112] == WHOLEBODY_133.sigmas[112:]
    assert sum(WHOLEBODY_133.sigmas) == pytest.approx(3.861, abs=1e-9)
    assert WHOLEBODY_133.flip_permutation[23] == 39
    assert WHOLEBODY_133.flip_permutation[23 + 48] == 23 + 54


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"), ("LeftEye", "RightEye"), ("l_eye", "r_eye"), ("L-Eye", "R-Eye"), ("LEye", "REye"),
        ("eye_left", "eye_right"), ("eye.l", "eye.r"), ("Left Eye", "Right Eye"),
    ],
)  # fmt: skip
def test_flip_pairs_come_from_the_names(left: str, right: str) -> None:
    assert infer_flip_pairs(["nose", right, left]) == ((2, 1),)


def test_names_without_a_side() -> None:
    assert infer_flip_pairs(["lips", "rear", "Rib", "pelvis", "lower", "r", "left"]) == ()


def test_a_side_without_its_twin() -> None:
    with pytest.raises(InputError, match=r"needs a twin on the other, but 'left_hand' has none\. Name the pairs"):
        infer_flip_pairs(["nose", "left_hand"])
    assert skeleton_from_document({"keypoints": ["left_hand"], "sigmas": [0.1], "flip_pairs": []}).flip_pairs == ()


def test_known_skeletons_in_other_spellings() -> None:
    assert known_skeleton(COCO_17.keypoint_names) is COCO_17
    spelt = tuple(name.replace("left_", "l_").replace("right_", "r_") for name in MPII_16.keypoint_names)
    assert known_skeleton(spelt) is MPII_16
    assert known_skeleton((*CROWDPOSE_14.keypoint_names[:12], "top_head", "neck")) is CROWDPOSE_14
    assert known_skeleton(COCO_17.keypoint_names[::-1]) is None
    assert known_skeleton(("tail",)) is None


def test_files_round_trip(tmp_path: Path) -> None:
    for preset in PRESETS.values():
        write_skeleton(tmp_path / "skeleton.json", preset)
        assert read_skeleton(tmp_path / "skeleton.json") == preset
    assert read_skeleton("wholebody-133") is WHOLEBODY_133


def test_what_a_file_may_leave_out(tmp_path: Path) -> None:
    (tmp_path / "arm.json").write_text(json.dumps(ARM))
    arm = read_skeleton(tmp_path / "arm.json")
    assert (arm.edges, arm.flip_pairs, arm.sigmas) == ((), ((1, 2),), (0.026, 0.06, 0.06))
    bare = skeleton_from_document({"keypoints": list(MPII_16.keypoint_names)})
    assert bare == MPII_16


BAD: list[tuple[Any, str]] = [
    ([1], r"must be a JSON object with 'keypoints' .* but a.json has list\. Correct it"),
    ({"sigmas": [1]}, r"must be a JSON object with 'keypoints' .* but a.json has \['sigmas'\]"),
    (ARM | {"color": 1}, r"has \['color', 'keypoints', 'sigmas'\]"),
    (ARM | {"keypoints": "nose"}, r"must be a list of names, but a.json has 'nose'\. Correct them"),
    ({"keypoints": ["tail"]}, r"one number per keypoint \(1\), but a.json has None\. Add them; COCO's lie between"),
    (ARM | {"sigmas": [0.1, True, 0.1]}, r"one number per keypoint \(3\), but a.json has \[0.1, True, 0.1\]"),
    (ARM | {"sigmas": [0.1]}, r"a.json: A skeleton of 3 keypoints needs 3 positive sigmas, got \[0.1\]"),
    (ARM | {"edges": [["nose", "tail"]]}, r"'edges' must be pairs of keypoint names, but a.json has .*tail"),
    (ARM | {"edges": [[0, 1]]}, r"'edges' must be pairs of keypoint names"),
    (ARM | {"flip_pairs": [["l_hand"]]}, r"'flip_pairs' must be pairs of keypoint names"),
    (ARM | {"flip_pairs": [["l_hand", "l_hand"]]}, r"in one flip pair at most and never with itself, but l_hand"),
    (ARM | {"keypoints": ["a", "a", "b"]}, r"a.json: A skeleton needs distinct keypoint names"),
]


@pytest.mark.parametrize(("document", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_bad_documents_are_named(document: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        skeleton_from_document(document, source="a.json")


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"A skeleton is coco-17, .* or a JSON file, but .*none cannot be read: No such"
    ):
        read_skeleton(tmp_path / "none")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"A skeleton file must be JSON, but .*a.json is not: .* Correct it"):
        read_skeleton(tmp_path / "a.json")


def test_bad_skeletons_are_named() -> None:
    with pytest.raises(InputError, match=r"needs 17 positive sigmas"):
        dataclasses.replace(COCO_17, sigmas=(*COCO_17.sigmas[:16], float("nan")))
    with pytest.raises(InputError, match=r"must index its 17 keypoints, got \(0, 17\)\. Use indices from 0 to 16"):
        dataclasses.replace(COCO_17, edges=((0, 17),))
    with pytest.raises(
        InputError, match=r"in one flip pair at most .* left_eye is in several\. Correct the flip pairs"
    ):
        dataclasses.replace(COCO_17, flip_pairs=((1, 2), (1, 4)))


def test_a_contract_carries_its_skeleton(contract: Any) -> None:
    assert Skeleton.of(contract).keypoint_names == contract.keypoint_names
    assert Skeleton.of(contract).flip_pairs == contract.flip_pairs
