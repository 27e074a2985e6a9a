from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from probpose_edge import (
    COCO_17,
    WHOLEBODY_133,
    InputError,
    ModelContract,
    Poses,
    Skeleton,
    box_to_window,
    draw_poses,
)
from probpose_edge.draw import LEFT, MIDDLE, RIGHT

IMAGE = np.full((200, 150, 3), 90, np.uint8)


def poses_at(keypoints: list[list[float]], presence: list[float], visibility: float = 1.0) -> Poses:
    boxes = np.array([[20.0, 20, 130, 180]])
    scalar = np.full((1, 5), visibility, np.float32)
    return Poses(
        keypoints=np.array([keypoints], dtype=np.float64),
        presence=np.array([presence], dtype=np.float32),
        visibility=scalar,
        quality=scalar,
        expected_oks=scalar,
        boxes=boxes,
        windows=box_to_window(boxes, (48, 64), 1.25),
        scores=np.array([0.5], np.float32),
        presence_threshold=0.5,
    )


SPREAD = [[75.0, 40], [110, 80], [40, 80], [95, 150], [55, 150]]
ALL = [1.0] * 5
AROUND_HEAD = np.s_[30:50, 65:85]


def drawn(image: np.ndarray) -> np.ndarray:
    return (image != 90).any(axis=2)


def test_present_keypoints_are_discs_in_the_color_of_their_side(contract: ModelContract) -> None:
    picture = draw_poses(IMAGE, poses_at(SPREAD, ALL), contract)
    assert picture.shape == IMAGE.shape
    for (x, y), color in zip(SPREAD, [MIDDLE, LEFT, RIGHT, LEFT, RIGHT], strict=True):
        assert tuple(picture[int(y), int(x)].tolist()) == color


def test_the_picture_is_a_copy(contract: ModelContract) -> None:
    image = IMAGE.copy()
    draw_poses(image, poses_at(SPREAD, ALL), contract, boxes=True)
    np.testing.assert_array_equal(image, IMAGE)


def test_absent_keypoints_are_fainter_and_can_be_left_out(contract: ModelContract) -> None:
    absent = poses_at(SPREAD, [1, 0, 1, 1, 1])
    x, y = 110, 80
    picture = draw_poses(IMAGE, absent, contract)
    assert drawn(picture)[y - 5 : y + 6, x - 5 : x + 6].any()
    assert tuple(picture[y, x].tolist()) != LEFT
    without = draw_poses(IMAGE, absent, contract, absent=False)
    assert not drawn(without)[y - 5 : y + 6, x - 5 : x + 6].any()


def test_limbs_join_present_keypoints(contract: ModelContract) -> None:
    middle = (60, 92)  # halfway between head (75, 40) and left hand (110, 80), as row and column
    assert drawn(draw_poses(IMAGE, poses_at(SPREAD, ALL), contract))[middle]
    assert not drawn(draw_poses(IMAGE, poses_at(SPREAD, [0, 0, 1, 1, 1]), contract))[middle]


def test_visible_and_occluded_keypoints_differ(contract: ModelContract) -> None:
    seen = draw_poses(IMAGE, poses_at(SPREAD, ALL, 1.0), contract)
    hidden = draw_poses(IMAGE, poses_at(SPREAD, ALL, 0.1), contract)
    assert seen.max() == 255
    assert hidden[AROUND_HEAD].min() < 60 <= seen[AROUND_HEAD].min()


def test_keypoints_beyond_the_border_need_a_larger_canvas(contract: ModelContract) -> None:
    beyond = [[75.0, 40], [110, 80], [-30, 80], [95, 230], [55, 150]]
    poses = poses_at(beyond, ALL)
    assert draw_poses(IMAGE, poses, contract).shape == IMAGE.shape
    picture = draw_poses(IMAGE, poses, contract, expand=True)
    left = picture.shape[1] - 150
    assert left >= 30
    assert picture.shape[0] >= 231
    assert tuple(picture[80, left - 30].tolist()) == RIGHT
    assert tuple(picture[230, left + 95].tolist()) == LEFT
    assert tuple(picture[5, left + 5].tolist()) == (90, 90, 90)


def test_absent_and_far_keypoints_do_not_blow_up_the_canvas(contract: ModelContract) -> None:
    far = [[75.0, 40], [1e9, 80], [-1e9, 80], [95, 150], [55, 150]]
    assert draw_poses(IMAGE, poses_at(far, [1, 0, 0, 1, 1]), contract, expand=True).shape == IMAGE.shape
    assert max(draw_poses(IMAGE, poses_at(far, ALL), contract, expand=True).shape) <= 600


def test_maps_lie_where_the_windows_are(contract: ModelContract) -> None:
    poses = poses_at(SPREAD, [0] * 5)
    maps = np.zeros((1, 5, 16, 12), np.float32)
    maps[0, 1, 8, 6] = 1
    poses = dataclasses.replace(poses, maps=maps)
    window = poses.windows[0]
    x = round(6 / 11 * window[2] + window[0] - window[2] / 2)
    y = round(8 / 15 * window[3] + window[1] - window[3] / 2)
    picture = draw_poses(IMAGE, poses, contract, maps="left_hand", absent=False)
    assert picture[y, x].max() > 150
    assert picture[5, 5].max() < 90
    other = draw_poses(IMAGE, poses, contract, maps="head", absent=False)
    assert other.max() < 90
    # Its keypoint is absent, so that its map is drawn by name only.
    nothing = draw_poses(IMAGE, poses, contract, maps=True, absent=False)
    np.testing.assert_array_equal(other, nothing)
    present = dataclasses.replace(poses, presence=np.array([[0, 1, 0, 0, 0]], np.float32))
    assert draw_poses(IMAGE, present, contract, maps=True, absent=False)[y, x + 8].max() > other[y, x + 8].max()


def test_maps_beyond_the_border_need_a_larger_canvas(contract: ModelContract) -> None:
    poses = poses_at(SPREAD, ALL)
    maps = np.zeros((1, 5, 16, 12), np.float32)
    maps[0, :, 8, 0] = 1  # the left edge of the window, which lies beyond that of the picture
    poses = dataclasses.replace(poses, maps=maps, windows=poses.windows - [30, 0, 0, 0])
    edge = poses.windows[0, 0] - poses.windows[0, 2] / 2
    assert edge < 0
    assert draw_poses(IMAGE, poses, contract, expand=True).shape == IMAGE.shape
    picture = draw_poses(IMAGE, poses, contract, expand=True, maps=True)
    left = picture.shape[1] - 150
    assert left >= -edge
    row = round(8 / 15 * poses.windows[0, 3] + poses.windows[0, 1] - poses.windows[0, 3] / 2)
    assert picture[row, round(left + edge) : round(left + edge) + 3].max() > 120
    absent = draw_poses(IMAGE, dataclasses.replace(poses, presence=maps[:, :, 0, 0]), contract, expand=True, maps=True)
    assert absent.shape == IMAGE.shape


def test_a_margin_gives_every_frame_the_same_size(contract: ModelContract) -> None:
    poses = poses_at(SPREAD, ALL)
    for pose in (poses, poses.select([])):
        assert draw_poses(IMAGE, pose, contract, expand=0.25).shape == (300, 250, 3)
    with pytest.raises(InputError, match=r"expand must be True, False or a margin in \[0, 1\], got 3"):
        draw_poses(IMAGE, poses, contract, expand=3)


def test_labels_stand_in_place_of_scores(contract: ModelContract) -> None:
    poses = poses_at(SPREAD, ALL)
    scores = draw_poses(IMAGE, poses, contract, boxes=True)
    np.testing.assert_array_equal(draw_poses(IMAGE, poses, contract, labels=["0.50"]), scores)
    assert (draw_poses(IMAGE, poses, contract, labels=["7"]) != scores).any()
    with pytest.raises(InputError, match=r"one label per person \(1\), got 2"):
        draw_poses(IMAGE, poses, contract, labels=["1", "2"])


def test_bad_arguments_are_refused(contract: ModelContract) -> None:
    poses = poses_at(SPREAD, ALL)
    with pytest.raises(InputError, match=r"needs poses that have them. Estimate with return_maps=True"):
        draw_poses(IMAGE, poses, contract, maps=True)
    with pytest.raises(InputError, match="skeleton has 17 keypoints, the poses have 5"):
        draw_poses(IMAGE, poses, COCO_17)
    with pytest.raises(InputError, match=r"maps must be True, False or one of head, .*, got 'tail'"):
        draw_poses(IMAGE, dataclasses.replace(poses, maps=np.zeros((1, 5, 16, 12), np.float32)), contract, maps="tail")


def test_no_persons_and_grey_pictures(contract: ModelContract) -> None:
    nobody = poses_at(SPREAD, ALL).select([])
    np.testing.assert_array_equal(draw_poses(IMAGE[..., 0], nobody, contract, expand=True), IMAGE)


def test_marks_of_dense_skeletons_are_as_small_as_their_places_are_precise() -> None:
    """With 17 keypoints all marks are alike; with 133 an eyelid takes a tenth of the pixels of a hip."""

    def pixels(skeleton: Skeleton, name: str) -> int:
        k = len(skeleton.keypoint_names)
        presence = np.zeros((1, k), np.float32)
        presence[0, skeleton.keypoint_names.index(name)] = 1
        poses = dataclasses.replace(
            poses_at(SPREAD, ALL),
            keypoints=np.full((1, k, 2), 75.0),
            presence=presence,
            **dict.fromkeys(("visibility", "quality", "expected_oks"), np.ones((1, k), np.float32)),
        )
        picture = draw_poses(np.full((800, 600, 3), 90, np.uint8), _enlarged(poses), skeleton, absent=False)
        return int(drawn(picture).sum())

    assert pixels(COCO_17, "left_eye") == pixels(COCO_17, "left_hip")
    assert pixels(WHOLEBODY_133, "left_hip") == pixels(COCO_17, "left_hip")
    assert pixels(WHOLEBODY_133, "face-38") < pixels(WHOLEBODY_133, "left_hip") / 8


def _enlarged(poses: Poses) -> Poses:
    return dataclasses.replace(poses, keypoints=poses.keypoints * 4, windows=poses.windows * 4, boxes=poses.boxes * 4)
