"""Augmentation: geometry against hand-made truth, and what each keypoint may train."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from probpose_edge.skeletons.skeleton import COCO_17
from probpose_edge.window import box_to_window, window_to_crop_matrix
from probpose_train.augment import WindowFrame, augment, crop_matrix, random_border, window_within
from probpose_train.config import AugmentConfig
from probpose_train.sources import DrawnSet, TrainPerson

FRAME = WindowFrame(input_wh=(192, 256), heatmap_wh=(48, 64), padding=1.25, flip_permutation=COCO_17.flip_permutation)
STILL = AugmentConfig(flip=0, half_body=0, rotate=0, scale=(1, 1), shift=0, crop=0, colour=0, blur=0)


def person(v: int = 2) -> TrainPerson:
    rng = np.random.default_rng(0)
    image = np.full((300, 400, 3), 60, np.uint8)
    keypoints = np.concatenate((rng.uniform((120, 60), (200, 240), (17, 2)), np.full((17, 1), v)), axis=1)
    for x, y, _ in keypoints:
        cv2.circle(image, (round(x), round(y)), 2, (255, 255, 255), -1)
    return TrainPerson(
        image=image,
        keypoints=keypoints,
        bbox_xyxy=np.array([100.0, 40, 220, 260]),
        area=20_000.0,
        visibility_labelled=True,
    )


def test_without_augmentation_the_matrix_is_the_sdks() -> None:
    window = box_to_window(person().bbox_xyxy[None], FRAME.input_wh, FRAME.padding)
    ours = crop_matrix(window[0, :2], window[0, 2:], 0.0, FRAME.input_wh, mirrored=False)
    np.testing.assert_allclose(ours, window_to_crop_matrix(window, FRAME.input_wh)[0], atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_points_follow_the_pixels(seed: int) -> None:
    config = AugmentConfig(half_body=0, crop=0, colour=0, blur=0, flip=0.5)
    subject = person()
    sample = augment(subject, np.random.default_rng(seed), FRAME, config)
    points_crop = sample.points_cell * np.array([191 / 47, 255 / 63])
    for (x, y), inside in zip(points_crop, sample.map_mask, strict=True):
        if inside and 3 < x < 188 and 3 < y < 252:
            patch = sample.crop[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
            assert patch.max() > 200


def test_mirroring_swaps_left_and_right() -> None:
    plain = augment(person(), np.random.default_rng(0), FRAME, STILL)
    flipped = augment(person(), np.random.default_rng(0), FRAME, AugmentConfig(**{**STILL.__dict__, "flip": 1.0}))
    left, right = COCO_17.flip_pairs[0]
    assert flipped.points_cell[left, 0] == pytest.approx(47 - plain.points_cell[right, 0], abs=1e-4)
    assert flipped.points_cell[left, 1] == pytest.approx(plain.points_cell[right, 1], abs=1e-4)
    np.testing.assert_array_equal(flipped.crop, plain.crop[:, ::-1])


def test_unlabelled_keypoints_train_nothing_and_unknown_places_only_presence() -> None:
    nothing = augment(person(v=0), np.random.default_rng(0), FRAME, STILL)
    assert not nothing.map_mask.any() | nothing.presence_mask.any() | nothing.visibility_mask.any()
    absent = augment(person(v=3), np.random.default_rng(0), FRAME, STILL)
    assert not absent.map_mask.any()
    assert absent.presence_mask.all()
    assert not absent.presence.any()
    # A wider window may hold the keypoint: nothing is known then.
    wider = augment(person(v=3), np.random.default_rng(0), FRAME, AugmentConfig(**{**STILL.__dict__, "scale": (2, 2)}))
    assert not wider.presence_mask.any()


def test_crop_augmentation_blacks_out_and_teaches_presence() -> None:
    subject = person()
    config = AugmentConfig(**{**STILL.__dict__, "crop": 1.0, "crop_keep": (0.3, 0.5)})
    seen_absent = seen_outside = False
    blackest: list[int] = []
    for seed in range(20):
        sample = augment(subject, np.random.default_rng(seed), FRAME, config)
        absent = sample.presence_mask & (sample.presence == 0)
        seen_absent |= bool(absent.any())
        hidden = sample.map_mask & (sample.visibility == 0)
        seen_outside |= bool(hidden.any())
        assert not (absent & sample.map_mask).any()
        points_crop = np.round(sample.points_cell * np.array([191 / 47, 255 / 63])).astype(int)
        for x, y in points_crop[hidden]:
            # A point whose neighbourhood holds no picture at all is black; at the very cut it is interpolated.
            around = sample.crop[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            blackest.append(int(around.min()))
    assert seen_absent
    assert seen_outside
    assert max(blackest) == 0


def test_visibility_of_a_set_without_visibility_labels_is_masked() -> None:
    subject = person()
    unlabelled = TrainPerson(**{**subject.__dict__, "visibility_labelled": False})
    assert not augment(unlabelled, np.random.default_rng(0), FRAME, STILL).visibility_mask.any()


def test_random_border_never_leaves_an_empty_box() -> None:
    box, border = np.array([10.0, 10, 40, 60]), np.array([0.0, 0, 100, 100])
    for seed in range(200):
        x0, y0, x1, y1 = random_border(box, border, np.random.default_rng(seed), (0.05, 0.4))
        assert min(x1, box[2]) - max(x0, box[0]) >= 8
        assert min(y1, box[3]) - max(y0, box[1]) >= 8


def test_window_within_knows_rotation() -> None:
    outer = np.array([50.0, 50, 40, 40])
    assert window_within(np.array([50.0, 50]), np.array([38.0, 38]), 0.0, outer)
    assert not window_within(np.array([50.0, 50]), np.array([38.0, 38]), np.pi / 4, outer)


def test_drawn_people_survive_every_augmentation() -> None:
    config = AugmentConfig(half_body=1.0, crop=1.0, rotate=1.0)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sample = augment(DrawnSet().sample(rng), rng, FRAME, config)
        assert sample.crop.shape == (256, 192, 3)
        assert np.isfinite(sample.points_cell).all()
        assert sample.area_cell > 0


def test_a_pasted_piece_hides_what_it_covers_and_nothing_else() -> None:
    """Somebody else in pure green: whatever turned green is hidden, stays present, and keeps its place."""
    other = TrainPerson(
        image=np.full((90, 60, 3), (0, 255, 0), np.uint8),
        keypoints=np.zeros((17, 3)),
        bbox_xyxy=np.array([0.0, 0, 60, 90]),
        area=900.0,
        visibility_labelled=True,
    )
    pasting = dataclasses.replace(STILL, paste=1.0)
    hidden = 0
    for seed in range(20):
        plain = augment(person(), np.random.default_rng(seed), FRAME, STILL)
        sample = augment(person(), np.random.default_rng(seed), FRAME, pasting, lambda: other)
        green = (sample.crop == (0, 255, 0)).all(2)
        assert 0.01 < green.mean() < 0.6
        np.testing.assert_array_equal(sample.crop[~green], plain.crop[~green])
        np.testing.assert_array_equal(sample.points_cell, plain.points_cell)
        np.testing.assert_array_equal(sample.presence, plain.presence)
        for (x, y), inside, visible in zip(
            plain.points_cell * np.array([191 / 47, 255 / 63]), plain.map_mask, sample.visibility, strict=True
        ):
            if inside and 2 < x < 189 and 2 < y < 253:
                area = green[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
                if area.all() or not area.any():
                    assert visible == (not area.any())
                    hidden += int(area.all())
    assert hidden > 10


def test_nothing_is_pasted_outside_the_picture() -> None:
    other = person()
    edge = TrainPerson(
        image=np.full((120, 100, 3), 200, np.uint8),
        keypoints=np.zeros((17, 3)),
        bbox_xyxy=np.array([0.0, 0, 100, 120]),
        area=900.0,
        visibility_labelled=True,
    )
    for seed in range(10):
        plain = augment(edge, np.random.default_rng(seed), FRAME, STILL)
        sample = augment(edge, np.random.default_rng(seed), FRAME, dataclasses.replace(STILL, paste=1.0), lambda: other)
        outside = (plain.crop == 0).all(2)
        assert outside.any()
        assert (sample.crop[outside] == 0).all()
