"""Drawn people with other skeletons: the same pictures, and keypoints where they belong on the figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probpose_edge import COCO_17, CROWDPOSE_14, MPII_16, WHOLEBODY_133, InputError, Skeleton
from probpose_eval import read_annotations
from probpose_eval.annotations.coco import skeleton_of
from probpose_eval.synth import DrawnPerson, draw_scene, write_synth_set
from probpose_eval.synth.keypoints import PART, PARTS_PER_PERSON, spots_of

FRONT = {"width": 400, "height": 420, "persons": (1, 1), "cut_share": 0.0, "occluder_share": 0.0, "yaw": 0.0}
SEEDS = range(12)


def drawn(skeleton: Skeleton, seed: int, **changes: object) -> DrawnPerson:
    options = FRONT | changes | {"keypoint_names": skeleton.keypoint_names}
    return draw_scene(np.random.default_rng(seed), **options).persons[0]  # type: ignore[arg-type]


def place(person: DrawnPerson, skeleton: Skeleton, name: str) -> np.ndarray:
    return person.keypoints[skeleton.keypoint_names.index(name), :2]


@pytest.mark.parametrize("skeleton", [MPII_16, CROWDPOSE_14, WHOLEBODY_133], ids=["16", "14", "133"])
def test_the_picture_and_shared_keypoints_stay_the_same(skeleton: Skeleton) -> None:
    options = {"width": 200, "height": 180, "persons": (1, 2)}
    for seed in range(3):
        coco = draw_scene(np.random.default_rng(seed), **options)  # type: ignore[arg-type]
        other = draw_scene(np.random.default_rng(seed), keypoint_names=skeleton.keypoint_names, **options)  # type: ignore[arg-type]
        np.testing.assert_array_equal(coco.image, other.image)
        for a, b in zip(coco.persons, other.persons, strict=True):
            assert b.keypoints.shape == (len(skeleton.keypoint_names), 3)
            for k, name in enumerate(COCO_17.keypoint_names):
                if name in skeleton.keypoint_names:
                    np.testing.assert_array_equal(a.keypoints[k], b.keypoints[skeleton.keypoint_names.index(name)])


def test_middle_joints_of_mpii() -> None:
    for seed in SEEDS:
        person = drawn(MPII_16, seed)
        at = {name: place(person, MPII_16, name) for name in MPII_16.keypoint_names}
        torso = np.linalg.norm(at["thorax"] - at["pelvis"])
        np.testing.assert_allclose(at["pelvis"], (at["left_hip"] + at["right_hip"]) / 2, atol=0.02 * torso)
        np.testing.assert_allclose(at["thorax"], (at["left_shoulder"] + at["right_shoulder"]) / 2, atol=0.2 * torso)
        up = [np.linalg.norm(at[name] - at["pelvis"]) for name in ("thorax", "upper_neck", "head_top")]
        assert up[0] < up[1]
        assert np.linalg.norm(at["head_top"] - at["thorax"]) > np.linalg.norm(at["upper_neck"] - at["thorax"])


def test_face_points_surround_eyes_and_nose() -> None:
    names = WHOLEBODY_133.keypoint_names
    for seed in SEEDS:
        person = drawn(WHOLEBODY_133, seed)
        face = person.keypoints[23:91, :2]
        eyes = {side: place(person, WHOLEBODY_133, f"{side}_eye") for side in ("left", "right")}
        head = np.linalg.norm(eyes["left"] - place(person, WHOLEBODY_133, "left_ear")) + np.ptp(face, axis=0).max()
        assert np.linalg.norm(face[36:42].mean(0) - eyes["right"]) < 0.05 * head
        assert np.linalg.norm(face[42:48].mean(0) - eyes["left"]) < 0.05 * head
        np.testing.assert_allclose(face[30], person.keypoints[0, :2], atol=1e-9)
        assert names[23 + 30] == "face-30"
        mouth, chin, brow = face[48:68].mean(0), face[8], face[17:27].mean(0)
        order = [np.linalg.norm(point - chin) for point in (mouth, face[30], face[27], brow)]
        assert order == sorted(order)


def test_flip_pairs_lie_on_their_sides() -> None:
    """The left one of a pair of face points is on the side of the left eye."""
    for seed in SEEDS:
        person = drawn(WHOLEBODY_133, seed)
        points = person.keypoints[:, :2]
        across = points[1] - points[2]
        for left, right in WHOLEBODY_133.flip_pairs:
            if 23 <= left < 91:
                assert (points[left] - points[right]) @ across > 0, (left, right)


def test_hands_fan_out_from_the_wrist() -> None:
    names = WHOLEBODY_133.keypoint_names
    for seed in SEEDS:
        person = drawn(WHOLEBODY_133, seed)
        length = np.sqrt(person.area)
        for side, root in (("left", 91), ("right", 112)):
            wrist = place(person, WHOLEBODY_133, f"{side}_wrist")
            hand = person.keypoints[root : root + 21, :2]
            assert np.linalg.norm(hand[0] - wrist) < 0.05 * length
            assert np.linalg.norm(hand - wrist, axis=1).max() < 0.8 * length
            for finger in range(5):
                chain = np.diff(hand[1 + 4 * finger : 5 + 4 * finger], axis=0)
                assert (chain @ chain.sum(0) >= 0).all(), names[root + 1 + 4 * finger]


def test_what_is_seen_is_on_its_own_part() -> None:
    """v = 2: the part on top is one the keypoint belongs to. From the front most of a face is seen."""
    own = [{PART[name] for name in spot.own} for spot in spots_of(WHOLEBODY_133.keypoint_names)]
    seen_front, seen_back = [], []
    for seed in SEEDS:
        for yaw, seen in ((0.0, seen_front), (np.pi, seen_back)):
            options = FRONT | {"yaw": yaw, "keypoint_names": WHOLEBODY_133.keypoint_names}
            scene = draw_scene(np.random.default_rng(seed), **options)  # type: ignore[arg-type]
            keypoints = scene.persons[0].keypoints
            for k, (x, y, v) in enumerate(keypoints):
                if v == 2:
                    part = (int(scene.ids[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))]) - 1) % PARTS_PER_PERSON
                    assert part in own[k]
            seen.append(float((keypoints[23:91, 2] == 2).mean()))
    assert np.mean(seen_front) > 0.6
    assert np.mean(seen_back) < 0.2


def test_toes_are_ahead_of_heels() -> None:
    turned = [drawn(WHOLEBODY_133, seed, yaw=np.pi / 2) for seed in SEEDS]  # to their left: picture right
    steps = [
        person.keypoints[toe, 0] - person.keypoints[heel, 0] for person in turned for toe, heel in ((17, 19), (20, 22))
    ]
    assert np.mean(np.array(steps) > 0) > 0.75


def test_names_may_be_spelt_otherwise() -> None:
    assert spots_of(["l_ankle", "RHip"]) == spots_of(["left_ankle", "right_hip"])


def test_unknown_keypoints_are_named() -> None:
    message = r"Drawn people have the keypoints of COCO, .* but not tail, left_wing\. Leave drawn people out"
    with pytest.raises(InputError, match=message):
        draw_scene(np.random.default_rng(0), keypoint_names=("nose", "tail", "left_wing"))


@pytest.mark.parametrize("skeleton", [COCO_17, MPII_16, CROWDPOSE_14, WHOLEBODY_133], ids=["17", "16", "14", "133"])
def test_written_sets_carry_their_skeleton(skeleton: Skeleton, tmp_path: Path) -> None:
    path = write_synth_set(tmp_path / "set", count=2, width=120, height=120, persons=(1, 1), skeleton=skeleton)
    annotations = read_annotations(path)
    assert skeleton_of(annotations) == skeleton
    assert annotations.sigmas == skeleton.sigmas
    assert annotations.flip_pairs == skeleton.flip_pairs
    assert {person.keypoints.shape for person in annotations.persons} == {(len(skeleton.keypoint_names), 3)}
