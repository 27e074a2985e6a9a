"""Skeletons of public data sets, as plain data."""

from __future__ import annotations

from itertools import pairwise

from probpose_edge.skeletons.skeleton import COCO_17, Skeleton, infer_flip_pairs, side_and_part

MPII_16 = Skeleton(
    keypoint_names=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    edges=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (7, 12), (12, 11), (11, 10), (7, 13),
        (13, 14), (14, 15),
    ),
    flip_pairs=((5, 0), (4, 1), (3, 2), (15, 10), (14, 11), (13, 12)),
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.107, 0.079, 0.079, 0.079, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062,
    ),
)  # fmt: skip
"""The 16 keypoints of MPII Human Pose (Andriluka et al. 2014), in its order.

MPII is evaluated by PCKh and has no sigmas. These are ours: limbs as in COCO, the pelvis as a hip of COCO, and thorax,
upper neck and top of the head as CrowdPose has them for neck and head (0.079, COCO's shoulder).
"""

CROWDPOSE_14 = Skeleton(
    keypoint_names=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
    ),
    edges=(
        (10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (12, 13),
        (1, 13), (0, 13),
    ),
    flip_pairs=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)),
    sigmas=(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
)  # fmt: skip
"""The 14 keypoints of CrowdPose (Li et al. 2019), in its order, with the sigmas of its evaluation."""

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_FEET = ("big_toe", "small_toe", "heel")


def _whole_body() -> Skeleton:
    names = [*COCO_17.keypoint_names, *(f"{side}_{part}" for side in ("left", "right") for part in _FEET)]
    names += [f"face-{index}" for index in range(68)]
    for side in ("left", "right"):
        names += [f"{side}_hand_root", *(f"{side}_{finger}{joint}" for finger in _FINGERS for joint in range(1, 5))]
    place = {name: index for index, name in enumerate(names)}
    edges = list(COCO_17.edges)
    for side in ("left", "right"):
        edges += [(place[f"{side}_ankle"], place[f"{side}_{part}"]) for part in _FEET]
        for finger in _FINGERS:
            chain = [place[f"{side}_wrist"], *(place[f"{side}_{finger}{joint}"] for joint in range(1, 5))]
            edges += pairwise(chain)
    face = place["face-0"]
    for first, last, closed in FACE_CURVES:
        edges += [(face + index, face + index + 1) for index in range(first, last)]
        edges += [(face + last, face + first)] if closed else []
    faces = tuple((face + left, face + right) for left, right in FACE_FLIP_PAIRS)
    return Skeleton(
        keypoint_names=tuple(names),
        edges=tuple(edges),
        flip_pairs=(*infer_flip_pairs(names), *faces),
        sigmas=(*COCO_17.sigmas, *_FOOT_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS),
    )


FACE_CURVES = (
    (0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False), (36, 41, True),
    (42, 47, True), (48, 59, True), (60, 67, True),
)  # fmt: skip
"""The curves of the 68 face points (first, last, closed): jaw, right and left brow, ridge and base of the nose, right
and left eye, outer and inner lips. Numbers rise from the person's right to the left."""

FACE_FLIP_PAIRS = (
    *((16 - i, i) for i in range(8)), *((26 - i, 17 + i) for i in range(5)), (35, 31), (34, 32),
    (45, 36), (44, 37), (43, 38), (42, 39), (47, 40), (46, 41),
    (54, 48), (53, 49), (52, 50), (55, 59), (56, 58), (64, 60), (63, 61), (65, 67),
)  # fmt: skip
"""Pairs (left, right) of the 68 face points; those on the middle line stay."""

# From the evaluation published with COCO-WholeBody.
_FOOT_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
_FACE_SIGMAS = (
    0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037, 0.038, 0.043, 0.041,
    0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012,
    0.009, 0.008, 0.016, 0.010, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034,
    0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008,
    0.008, 0.008, 0.010, 0.008,
)  # fmt: skip
_HAND_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021, 0.021,
    0.032, 0.020, 0.019, 0.022, 0.031,
)  # fmt: skip

WHOLEBODY_133 = _whole_body()
"""The 133 keypoints of COCO-WholeBody (Jin et al. 2020): COCO's 17, 6 of the feet, 68 of the face in the iBUG order,
21 of the left hand, 21 of the right hand, with the sigmas of its evaluation. The curves of the face are our edges."""

PRESETS = {"coco-17": COCO_17, "mpii-16": MPII_16, "crowdpose-14": CROWDPOSE_14, "wholebody-133": WHOLEBODY_133}
"""Name on the command line → skeleton."""

_OTHER_WORDS = {"tophead": "head", "headtop": "head", "upperneck": "neck"}


def known_skeleton(keypoint_names: tuple[str, ...]) -> Skeleton | None:
    """The preset with these keypoints in this order, or None.

    Names may be spelt in the ways of `side_and_part`; "head_top" and "top_head" are also "head", "upper_neck" is also
    "neck".
    """
    given = _spelt_plainly(keypoint_names)
    for preset in PRESETS.values():
        if _spelt_plainly(preset.keypoint_names) == given:
            return preset
    return None


def _spelt_plainly(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(side, _OTHER_WORDS.get(part, part)) for side, part in map(side_and_part, names)]
