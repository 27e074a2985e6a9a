"""Cropped sets: the same for a seed, keypoints outside the window become v = 3, nothing half-written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from probpose_edge.exceptions import AnnotationError, InputError
from probpose_edge.window import box_to_window
from probpose_eval import (
    AnnotationSet,
    CropRecipe,
    annotations_to_document,
    crop_annotations,
    domain_shares,
    parse_annotations,
    read_annotations,
    read_picture,
    write_crop_set,
)
from probpose_eval.annotations.crop_set import _crop_person

Document = dict[str, Any]


@pytest.fixture
def crowd(document: Document) -> AnnotationSet:
    """Forty pictures with the person of `document`, and one picture without anybody."""
    template = document["annotations"][0]
    document["images"] = [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 160} for i in range(41)]
    document["annotations"] = [{**template, "id": 100 + i, "image_id": i, "segmentation": [[1, 2]]} for i in range(40)]
    return parse_annotations(document)


def test_same_seed_same_set(crowd: AnnotationSet) -> None:
    one, two, other = (crop_annotations(crowd, seed=seed) for seed in (5, 5, 6))
    assert annotations_to_document(one.annotations) == annotations_to_document(two.annotations)
    assert one.rectangles_xyxy == two.rectangles_xyxy != other.rectangles_xyxy
    assert len(set(one.rectangles_xyxy.values())) > 10


def test_a_picture_is_cut_the_same_in_any_set(crowd: AnnotationSet) -> None:
    few = dataclasses.replace(
        crowd, images={7: crowd.images[7]}, persons=tuple(p for p in crowd.persons if p.image_id == 7)
    )
    alone = crop_annotations(few, seed=5)
    assert alone.rectangles_xyxy[7] == crop_annotations(crowd, seed=5).rectangles_xyxy[7]


def test_every_keypoint_follows_the_rules(crowd: AnnotationSet) -> None:
    before = {person.id: person for person in crowd.persons}
    cropped = crop_annotations(crowd, seed=1)
    assert 40 not in cropped.annotations.images
    levels = set()
    for person in cropped.annotations.persons:
        source = before[person.id]
        x0, y0, x1, y1 = cropped.rectangles_xyxy[person.image_id]
        entry = cropped.annotations.images[person.image_id]
        assert (entry.width, entry.height) == (x1 - x0, y1 - y0)
        assert entry.extra["crop_xyxy"] == [x0, y0, x1, y1]
        expected_box = np.maximum(source.bbox_xyxy, [x0, y0, 0, 0])
        expected_box = np.minimum(expected_box, [np.inf, np.inf, x1, y1]) - [x0, y0, x0, y0]
        assert person.bbox_xyxy.tolist() == expected_box.tolist()
        sides, whole = expected_box[2:] - expected_box[:2], source.bbox_xyxy[2:] - source.bbox_xyxy[:2]
        assert person.area == pytest.approx(source.area * np.prod(sides) / np.prod(whole))
        (cx, cy, w, h) = box_to_window(expected_box, (192, 256), 1.25)[0]
        for was, now in zip(source.keypoints, person.keypoints, strict=True):
            x, y = was[0] - x0, was[1] - y0
            inside = abs(x - cx) <= w / 2 and abs(y - cy) <= h / 2
            assert now.tolist() == ([x, y, was[2]] if inside else [0, 0, 3])
            levels.add((now[2], inside and not (0 <= x <= x1 - x0 and 0 <= y <= y1 - y0)))
        assert person.num_keypoints == int((person.keypoints[:, 2] < 3).sum())
        assert "segmentation" not in person.extra
        assert "area_source" not in person.extra
    assert (3.0, False) in levels, "no keypoint left the window"
    assert (2.0, True) in levels, "no keypoint lies outside the picture and inside the window"


def test_unlabelled_keypoints_stay_unlabelled(document: Document) -> None:
    document["annotations"][0]["keypoints"][:3] = [0, 0, 0]
    (person,) = crop_annotations(parse_annotations(document), seed=0).annotations.persons
    assert person.keypoints[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("rectangle", "kept", "labels"),
    [
        ((0, 0, 200, 160), True, 17),
        ((0, 0, 47, 160), False, 0),  # 7 px of the box: less than 8
        ((95, 60, 200, 160), False, 0),  # 5 px wide
        ((85, 21, 200, 160), True, None),  # a quarter of the width
        ((90, 21, 200, 60), False, 0),  # less than a tenth of the box
        ((40, 95, 60, 160), True, 0),  # the box reaches in, no keypoint does
    ],
)
def test_who_stays(document: Document, rectangle: tuple[int, ...], kept: bool, labels: int | None) -> None:
    (person,) = parse_annotations(document).persons
    recipe = CropRecipe(min_kept_share=0.1, min_side_px=8)
    cropped = _crop_person(person, np.array(rectangle), recipe)
    assert (cropped is not None) == kept
    if cropped is not None and labels is not None:
        assert cropped.num_keypoints == labels
        assert bool((cropped.keypoints[:, 2] > 0).any()) == bool(labels)


def test_domain_shares(document: Document) -> None:
    # Box 40..100 x 20..140: window 118.1 x 150 (aspect 3:4 of 120, padded), x 13.75 to 126.25, y 5 to 155.
    keypoints = [[70, 80, 2]] * 8 + [[20, 80, 1]] * 4 + [[180, 80, 2]] * 2 + [[0, 0, 3]] + [[0, 0, 0]] * 2
    document["annotations"][0]["keypoints"] = [value for point in keypoints for value in point]
    shares = domain_shares(parse_annotations(document))
    assert shares == pytest.approx({"A": 800 / 15, "B": 400 / 15, "C": 0, "D": 200 / 15, "E": 100 / 15})
    document["images"][0]["width"] = 110
    document["annotations"][0]["keypoints"][0] = 115
    shares = domain_shares(parse_annotations(document))
    assert shares == pytest.approx({"A": 700 / 15, "B": 400 / 15, "C": 100 / 15, "D": 0, "E": 300 / 15})


def test_the_default_moves_keypoints_out_of_view(crowd: AnnotationSet) -> None:
    shares = domain_shares(crop_annotations(crowd, seed=0).annotations)
    assert domain_shares(crowd)["A"] == 100
    assert 50 < shares["A"] < 85
    assert shares["C"] > 5
    assert shares["E"] > 1


@pytest.fixture
def files(crowd: AnnotationSet, tmp_path: Path) -> tuple[Path, Path]:
    few = dataclasses.replace(
        crowd, images={i: crowd.images[i] for i in range(4)}, persons=tuple(p for p in crowd.persons if p.image_id < 4)
    )
    (tmp_path / "pictures").mkdir()
    (tmp_path / "set.json").write_text(json.dumps(annotations_to_document(few)))
    rng = np.random.default_rng(0)
    for entry in few.images.values():
        cv2.imwrite(str(tmp_path / "pictures" / entry.file_name), rng.integers(0, 255, (160, 200, 3), dtype=np.uint8))
    return tmp_path / "set.json", tmp_path / "pictures"


def test_written_pictures_are_cut_out(files: tuple[Path, Path], tmp_path: Path) -> None:
    steps = []
    made = write_crop_set(*files, tmp_path / "out", seed=3, progress=lambda done, total: steps.append((done, total)))
    again = read_annotations(tmp_path / "out" / "annotations.json")
    assert annotations_to_document(again)["annotations"] == annotations_to_document(made.annotations)["annotations"]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert again.info["crop_seed"] == 3
    source = read_annotations(files[0])
    for image_id, (x0, y0, x1, y1) in made.rectangles_xyxy.items():
        cut = read_picture(tmp_path / "out" / "images", again.images[image_id])
        assert np.array_equal(cut, read_picture(files[1], source.images[image_id])[y0:y1, x0:x1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures", "set.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_is_left_when_writing_stops(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(path: Path, picture: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        raise error

    monkeypatch.setattr("probpose_eval.annotations.crop_set._write_picture", fail)
    with pytest.raises(type(error)):
        write_crop_set(*files, tmp_path / "out", seed=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "set.json"]


def test_bad_input_is_named(files: tuple[Path, Path], tmp_path: Path, crowd: AnnotationSet) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(InputError, match=r"output folder of a cropped set must be new or empty, but .*full is not"):
        write_crop_set(*files, tmp_path / "full", seed=0)
    with pytest.raises(InputError, match=r"seed must be a whole number of at least 0, got -1"):
        crop_annotations(crowd, seed=-1)
    with pytest.raises(InputError, match=r"lost_share must lie in \[0, 1\), got \(0\.5, 1\.0\)"):
        CropRecipe(lost_share=(0.5, 1.0))
    with pytest.raises(InputError, match=r"sideways must lie in \[0, 1\], got 2"):
        CropRecipe(sideways=2)
    with pytest.raises(InputError, match=r"min_side_px must be positive, got 0"):
        CropRecipe(min_side_px=0)
    (files[1] / "2.png").unlink()
    with pytest.raises(AnnotationError, match=r"picture of image 2 must be at .*2\.png"):
        write_crop_set(*files, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()
    empty = dataclasses.replace(crowd, persons=())
    (tmp_path / "empty.json").write_text(json.dumps(annotations_to_document(empty)))
    with pytest.raises(AnnotationError, match=r"needs pictures with labelled persons, but .*empty\.json has none"):
        write_crop_set(tmp_path / "empty.json", files[1], tmp_path / "out", seed=0)


@pytest.mark.shared
def test_shares_are_near_the_papers(shared: Path) -> None:
    annotations = read_annotations(shared / "data" / "coco-annotations" / "person_keypoints_val2017_part.json")
    complete = {i: entry for i, entry in annotations.images.items() if entry.extra["complete_annotations"]}
    persons = tuple(person for person in annotations.persons if person.image_id in complete)
    whole = dataclasses.replace(annotations, images=complete, persons=persons)
    shares = domain_shares(crop_annotations(whole, seed=0).annotations)
    paper = {"A": 68.8, "B": 2.2, "C": 23.5, "D": 0.1, "E": 5.3}
    assert shares == pytest.approx(paper, abs=4)
