"""Drawn people: the truth must agree with the picture's id buffer, with geometry, and with itself."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from probpose_edge.exceptions import InputError
from probpose_edge.skeletons.skeleton import COCO_17
from probpose_eval.synth import Scene, draw_scene
from probpose_eval.synth.body import sample_body, sample_skeleton
from probpose_eval.synth.canvas import Canvas
from probpose_eval.synth.figure import draw_figure
from probpose_eval.synth.looks import sample_looks
from probpose_eval.synth.person import OWN_PARTS, PART, PARTS_PER_PERSON, make_figure

INDEX = {name: index for index, name in enumerate(COCO_17.keypoint_names)}


def scenes(count: int, **options: object) -> list[Scene]:
    return [draw_scene(np.random.default_rng([21, index]), **options) for index in range(count)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def mixed() -> list[Scene]:
    return scenes(25, width=240, height=200, persons=(1, 4), cut_share=0.5, occluder_share=0.7)


def test_same_seed_draws_the_same_and_another_seed_another() -> None:
    first, again, other = (draw_scene(np.random.default_rng(seed), width=200, height=160) for seed in (1, 1, 2))
    assert first.image.shape == (160, 200, 3)
    assert first.image.dtype == np.uint8
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.persons[0].keypoints, again.persons[0].keypoints)
    assert (first.image != other.image).any()


def test_every_scene_lists_somebody_even_in_a_crowd_across_the_border() -> None:
    for scene in scenes(25, width=100, height=80, persons=(1, 12), cut_share=1.0, occluder_share=1.0):
        assert 1 <= len(scene.persons) <= 12
        for person in scene.persons:
            assert person.keypoints.shape == (17, 3)
            assert np.isfinite(person.keypoints).all()
            assert (person.keypoints[:, 2] == 2).any()


def test_visible_keypoints_lie_on_their_own_part(mixed: list[Scene]) -> None:
    seen = hidden = 0
    for scene in mixed:
        for index, person in enumerate(scene.persons):
            for k, (x, y, v) in enumerate(person.keypoints):
                column, row = math.floor(x + 0.5), math.floor(y + 0.5)
                inside = 0 <= column < scene.image.shape[1] and 0 <= row < scene.image.shape[0]
                part = int(scene.ids[row, column]) - 1 - PARTS_PER_PERSON * index if inside else -1
                if v == 2:
                    seen += 1
                    assert part in OWN_PARTS[k]
                elif inside and part not in range(PARTS_PER_PERSON):
                    hidden += 1  # by another person, a thing, or the point is off the silhouette
                assert v in (1, 2)
    assert seen > 200
    assert hidden > 20


def test_boxes_and_areas_are_those_of_the_silhouettes(mixed: list[Scene]) -> None:
    for scene in mixed:
        for index, person in enumerate(scene.persons):
            first = 1 + PARTS_PER_PERSON * index
            own = (scene.ids >= first) & (scene.ids < first + PARTS_PER_PERSON)
            rows, columns = np.nonzero(own)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_array_equal(person.bbox_xyxy, box)
            assert person.area == own.sum()


def test_keypoints_beyond_the_border_keep_a_place_and_are_not_visible() -> None:
    beyond = 0
    for scene in scenes(20, width=160, height=120, persons=(1, 1), cut_share=1.0, occluder_share=0.0):
        points = scene.persons[0].keypoints
        outside = ((points[:, :2] < -0.5) | (points[:, :2] >= (159.5, 119.5))).any(axis=1)
        beyond += int(outside.sum())
        assert (points[outside, 2] == 1).all()
    assert beyond > 40


def test_a_small_picture_is_a_cut_out_of_a_large_one() -> None:
    """Parts beyond the border are where they would be drawn if the picture went on."""
    rng = np.random.default_rng(5)
    body, looks = sample_body(rng), sample_looks(rng)
    skeleton = sample_skeleton(rng, body, yaw=0.3)

    def ids(size: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
        canvas = Canvas(
            image=np.zeros((size, size, 3), np.uint8), ids=np.zeros((size, size), np.uint8),
            light=np.array([0.0, 0.0, -1.0]), ambient=0.5, tint=np.ones(3, np.float32),
        )  # fmt: skip
        figure = make_figure(
            body, looks, skeleton, origin_px=np.array([20.0 + shift, 90.0 + shift]), scale=200.0, distance=6.0
        )
        draw_figure(canvas, figure, 1)
        return canvas.ids, figure.keypoints_px - shift

    small, small_points = ids(128, 0.0)
    large, large_points = ids(384, 128.0)
    np.testing.assert_allclose(small_points, large_points, atol=1e-9)
    assert (large > 0).sum() > 1.3 * (small > 0).sum() > 0
    assert np.mean(small == large[128:256, 128:256]) > 0.999


def test_left_is_on_the_viewers_right_from_the_front_and_on_the_left_from_behind() -> None:
    """Most people stand upright; those who lie or do a handstand may be the other way round."""
    for yaw, sign in ((0.0, 1), (math.pi, -1)):
        shoulders, noses, eyes = [], [], []
        for scene in scenes(30, width=120, height=160, persons=(1, 1), cut_share=0.0, occluder_share=0.0, yaw=yaw):
            points = scene.persons[0].keypoints
            shoulders.append(sign * (points[INDEX["left_shoulder"], 0] - points[INDEX["right_shoulder"], 0]) > 0)
            noses.append(points[INDEX["nose"], 2] == 2)
            left, right = points[INDEX["left_eye"]], points[INDEX["right_eye"]]
            if left[2] == right[2] == 2:
                eyes.append(left[0] > right[0])
        assert np.mean(shoulders) > 0.8
        if sign > 0:
            assert np.mean(noses) > 0.6
            assert len(eyes) > 12
            assert np.mean(eyes) > 0.85
        else:
            assert np.mean(noses) < 0.25


def test_yaw_turns_the_body_and_never_mirrors_it() -> None:
    for seed in range(20):
        joints = []
        for yaw in (0.0, 1.0, math.pi, 4.5):
            rng = np.random.default_rng(seed)
            skeleton = sample_skeleton(rng, sample_body(rng), yaw=yaw)
            joints.append(np.stack(list(skeleton.joints.values())))
            for frame in skeleton.frames.values():
                np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-9)
                assert np.linalg.det(frame) == pytest.approx(1.0)
            hips = skeleton.joints["left_hip"] - skeleton.joints["right_hip"]
            assert hips @ skeleton.frames["pelvis"][:, 0] > 0
        distances = [np.linalg.norm(points[:, None] - points[None], axis=2) for points in joints]
        for turned in distances[1:]:
            np.testing.assert_allclose(turned, distances[0], atol=1e-9)


def test_the_far_shoulder_of_a_profile_is_hidden() -> None:
    """Turned to the own left by a quarter, the right side is towards the viewer."""
    near = far = 0
    for scene in scenes(30, width=120, height=160, persons=(1, 1), cut_share=0.0, occluder_share=0.0, yaw=math.pi / 2):
        points = scene.persons[0].keypoints
        near += points[INDEX["right_shoulder"], 2] == 2
        far += points[INDEX["left_shoulder"], 2] == 2
    assert near > 20
    assert far < 10


@pytest.mark.shared
def test_a_network_trained_on_photographs_finds_drawn_people(shared: Path) -> None:
    """MoveNet Lightning has mean OKS 0.57 on photographs of the reference data; drawings are about as easy."""
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    model = shared / "models" / "movenet_singlepose_lightning_int8.tflite"
    if not model.is_file():
        pytest.skip("needs the MoveNet model of the reference data, which is not here")
    interpreter = interpreter_module.Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    scores = []
    for scene in scenes(30, width=320, height=400, persons=(1, 1), cut_share=0.0, occluder_share=0.0):
        person = scene.persons[0]
        x0, y0, x1, y1 = person.bbox_xyxy
        side = 1.25 * max(x1 - x0, y1 - y0)
        left, top, scale = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2, 191 / side
        crop = cv2.warpAffine(scene.image, np.array([[scale, 0, -left * scale], [0, scale, -top * scale]]), (192, 192))
        interpreter.set_tensor(entry, np.ascontiguousarray(crop[None, :, :, ::-1]))
        interpreter.invoke()
        found = interpreter.get_tensor(result)[0, 0, :, 1::-1] * side + (left, top)
        distance2 = ((found - person.keypoints[:, :2]) ** 2).sum(axis=1)
        oks = np.exp(-distance2 / (2 * person.area * (2 * np.array(COCO_17.sigmas)) ** 2))
        scores.append(oks[person.keypoints[:, 2] == 2].mean())
    assert np.mean(scores) > 0.5


def test_limb_lengths_follow_the_body() -> None:
    rng = np.random.default_rng(3)
    body = sample_body(rng)
    joints = sample_skeleton(rng, body).joints
    for side in ("left", "right"):
        for upper, lower, length in (("hip", "knee", body.thigh), ("elbow", "wrist", body.forearm)):
            span = np.linalg.norm(joints[f"{side}_{upper}"] - joints[f"{side}_{lower}"])
            assert span == pytest.approx(length)


def test_ids_of_all_persons_fit_a_byte() -> None:
    assert len(PART) == PARTS_PER_PERSON
    assert 1 + 12 * PARTS_PER_PERSON < 254


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 63}, r"width must be .* in \[64, 8192\], got 63"),
        ({"height": 100.5}, r"height must be a whole number .* got 100.5"),
        ({"persons": (0, 2)}, r"persons must be \(fewest, most\) .* got \(0, 2\)"),
        ({"persons": (3, 2)}, r"persons must be .* got \(3, 2\)"),
        ({"persons": (1, 13)}, r"most <= 12, got \(1, 13\)"),
        ({"persons": 2}, r"persons must be .* got 2"),
        ({"cut_share": 1.5}, r"cut_share must lie in \[0, 1\], got 1.5"),
        ({"occluder_share": math.nan}, r"occluder_share must lie in \[0, 1\], got nan"),
        ({"yaw": math.inf}, r"yaw must be None or a finite angle .* got inf"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw_scene(np.random.default_rng(0), **options)  # type: ignore[arg-type]


def test_a_seed_instead_of_a_generator_is_refused() -> None:
    with pytest.raises(InputError, match=r"rng must be a numpy Generator, got 3\. Pass"):
        draw_scene(3)  # type: ignore[arg-type]
