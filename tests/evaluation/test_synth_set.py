"""The written set: COCO form, CropCOCO's visibility values, reproducible, and never half there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from probpose_edge.exceptions import InputError
from probpose_edge.skeletons.skeleton import COCO_17
from probpose_eval.annotations.coco import read_annotations
from probpose_eval.synth import draw_scene, write_synth_set

SMALL: dict[str, Any] = {"width": 120, "height": 100, "persons": (1, 2), "seed": 9}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "set"
    options = SMALL | {"cut_share": 0.7, "image_format": "png"}
    assert write_synth_set(out, count=14, **options) == out / "annotations.json"
    return out


def test_the_project_reads_its_own_set(written: Path) -> None:
    annotations = read_annotations(written / "annotations.json")
    assert len(annotations.images) == 14
    assert len(annotations.persons) >= 14


def test_document_has_the_coco_form(written: Path) -> None:
    document = json.loads((written / "annotations.json").read_text())
    category = document["categories"][0]
    assert category["keypoints"] == list(COCO_17.keypoint_names)
    assert min(min(edge) for edge in category["skeleton"]) == 1  # COCO counts from 1
    assert [a["id"] for a in document["annotations"]] == list(range(1, len(document["annotations"]) + 1))
    assert {a["image_id"] for a in document["annotations"]} == {image["id"] for image in document["images"]}
    assert sorted(p.name for p in (written / "images").iterdir()) == [i["file_name"] for i in document["images"]]


def test_pictures_depend_on_seed_and_index_alone(written: Path, tmp_path: Path) -> None:
    third = draw_scene(np.random.default_rng([9, 2]), width=120, height=100, persons=(1, 2), cut_share=0.7)
    np.testing.assert_array_equal(cv2.imread(str(written / "images" / "000003.png")), third.image)
    write_synth_set(tmp_path / "short", count=3, cut_share=0.7, image_format="png", **SMALL)
    long = json.loads((written / "annotations.json").read_text())
    short = json.loads((tmp_path / "short" / "annotations.json").read_text())
    assert short["annotations"] == long["annotations"][: len(short["annotations"])]


def test_a_larger_window_keeps_more_places(written: Path, tmp_path: Path) -> None:
    options = SMALL | {"cut_share": 0.7, "image_format": "png"}
    path = write_synth_set(tmp_path / "wide", count=14, padding=1.5625, **options)
    absent = []
    for file in (written / "annotations.json", path):
        persons = read_annotations(file).persons
        absent.append(np.array([person.keypoints[:, 2] == 3 for person in persons]))
    assert (absent[1] <= absent[0]).all()
    assert 0 < absent[1].sum() < absent[0].sum()


def test_visibility_values_follow_the_activation_window(written: Path) -> None:
    """v = 3 and (0, 0) outside the window; the true place inside it, v = 1 beyond the border."""
    document = json.loads((written / "annotations.json").read_text())
    outside_window = beyond_border = 0
    for image in document["images"]:
        scene = draw_scene(
            np.random.default_rng([9, image["id"] - 1]), width=120, height=100, persons=(1, 2), cut_share=0.7
        )
        records = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        assert len(records) == len(scene.persons)
        for record, person in zip(records, scene.persons, strict=True):
            x, y, w, h = record["bbox"]
            assert x >= 0
            assert y >= 0
            assert x + w <= 120
            assert y + h <= 100
            assert record["area"] == person.area
            # The window by its definition: enlarged to 3:4 about its middle, then by 1.25.
            side_w, side_h = 1.25 * max(w, h * 0.75), 1.25 * max(h, w / 0.75)
            values = np.array(record["keypoints"], float).reshape(17, 3)
            for (px, py, v), (true_x, true_y, true_v) in zip(values, person.keypoints, strict=True):
                inside = abs(true_x - x - w / 2) <= side_w / 2 and abs(true_y - y - h / 2) <= side_h / 2
                if not inside:
                    outside_window += 1
                    assert (px, py, v) == (0, 0, 3)
                    continue
                assert (px, py) == pytest.approx((true_x, true_y), abs=0.006)
                assert v == true_v
                if not (-0.5 <= true_x < 119.5 and -0.5 <= true_y < 99.5):
                    beyond_border += 1
                    assert v == 1
            assert record["num_keypoints"] == np.isin(values[:, 2], (1, 2)).sum()
    assert outside_window > 10
    assert beyond_border > 5


def test_an_interrupted_set_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 5
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synth_set(tmp_path / "set", count=5, progress=stop, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_bad_drawing_options_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="width must be"):
        write_synth_set(tmp_path / "set", count=1, width=10)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_used_and_a_full_one_kept(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_synth_set(tmp_path / "empty", count=1, **SMALL)
    assert (tmp_path / "empty" / "images" / "000001.jpg").is_file()
    before = (tmp_path / "empty" / "annotations.json").read_bytes()
    with pytest.raises(InputError, match=r"must be new or empty, but .*empty is not\. Choose another"):
        write_synth_set(tmp_path / "empty", count=2, **SMALL)
    assert (tmp_path / "empty" / "annotations.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, r"count must be a whole number of at least 1, got 0"),
        ({"count": 2.5}, r"count must be .* got 2.5"),
        ({"seed": -1}, r"seed must be a whole number, at least 0, got -1"),
        ({"image_format": "gif"}, r'image_format must be "jpg" or "png", got \'gif\''),
        ({"padding": 0}, r"padding must lie in \[0\.5, 10\], got 0\. Choose for example 1\.25"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_synth_set(tmp_path / "set", **({"count": 1} | SMALL | options))
    assert list(tmp_path.iterdir()) == []
