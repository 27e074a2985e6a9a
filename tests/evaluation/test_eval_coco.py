"""The annotation reader: what it keeps, and what it says about files that break a rule."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge.exceptions import AnnotationError, ImageReadError
from probpose_eval import (
    ImageEntry,
    annotations_to_document,
    image_path,
    labelled_persons,
    parse_annotations,
    read_annotations,
    read_picture,
    write_annotations,
)
from probpose_eval.annotations.coco import sigmas_of

Document = dict[str, Any]


def test_reads_every_field(document: Document) -> None:
    document["images"][0]["shard"] = 2
    document["images"][0]["complete_annotations"] = True
    annotations = parse_annotations(document)
    (person,) = annotations.persons
    assert person.id == 7
    assert person.image_id == 3
    assert person.bbox_xyxy.tolist() == [40, 20, 100, 140]
    assert person.area == 4000
    assert person.keypoints.shape == (17, 3)
    assert person.keypoints.dtype == np.float64
    assert not person.iscrowd
    assert person.num_keypoints == 17
    assert person.extra == {"area_source": "test"}
    assert annotations.images[3].extra == {"shard": 2, "complete_annotations": True}
    assert annotations.skeleton == ((15, 13), (13, 11))
    assert annotations.keypoint_names[0] == "nose"
    assert sigmas_of(annotations)[0] == 0.026
    assert annotations.persons_of() == {3: (person,)}
    with pytest.raises(ValueError, match="read-only"):
        person.keypoints[0, 0] = 1


def test_optional_fields(document: Document) -> None:
    del document["categories"][0]["skeleton"]
    document["categories"][0]["sigmas"] = [0.05] * 17
    del document["annotations"][0]["iscrowd"], document["annotations"][0]["num_keypoints"]
    document["annotations"][0]["keypoints"][2] = 0
    annotations = parse_annotations(document)
    assert annotations.skeleton == ()
    assert sigmas_of(annotations) == (0.05,) * 17
    assert annotations.persons[0].num_keypoints == 16
    assert not annotations.persons[0].iscrowd


def test_written_sets_read_back_the_same(document: Document, tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.json", parse_annotations(document))
    again = read_annotations(tmp_path / "a.json")
    assert annotations_to_document(again) == annotations_to_document(parse_annotations(document))
    assert again.persons[0].keypoints.tolist() == parse_annotations(document).persons[0].keypoints.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_file(
    document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_annotations(tmp_path / "a.json", parse_annotations(document))
    before = (tmp_path / "a.json").read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("probpose_edge.atomic_write.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_annotations(tmp_path / "a.json", parse_annotations(document))
    assert (tmp_path / "a.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_labelled_persons(document: Document) -> None:
    template = document["annotations"][0]
    for index, change in enumerate(
        ({"iscrowd": 1}, {"num_keypoints": 0}, {"keypoints": [0, 0, 3] * 17}, {"keypoints": [0, 0, 3] * 16 + [1, 1, 1]})
    ):
        document["annotations"].append({**copy.deepcopy(template), **change, "id": 20 + index})
    assert [person.id for person in labelled_persons(parse_annotations(document))] == [7, 23]


def test_other_declared_categories_are_left_out(document: Document) -> None:
    document["categories"].append({"id": 2, "name": "dog"})
    document["annotations"].append({"id": 8, "image_id": 3, "category_id": 2, "bbox": [0, 0, 1, 1]})
    assert [person.id for person in parse_annotations(document).persons] == [7]


def _set(path: tuple[str | int, ...], value: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        target: Any = document
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value

    return change


def _double(name: str) -> Callable[[Document], None]:
    return lambda document: document[name].append(copy.deepcopy(document[name][0]))


A: tuple[str | int, ...] = ("annotations", 0)
BAD: list[tuple[Callable[[Document], Any], str]] = [
    (lambda d: d.pop("images"), r"must have the list 'images', but f.json has none\. Give a COCO keypoint"),
    (lambda d: d.pop("annotations"), r"must have the list 'annotations'"),
    (lambda d: d.pop("categories"), r"must have the list 'categories'"),
    (_set(("images",), {}), r"must have the list 'images'"),
    (_set(("categories", 0, "keypoints"), []), r"exactly one category with keypoints, but f.json has 0"),
    (_double("categories"), r"exactly one category with keypoints, but f.json has 2"),
    (_set(("categories", 0, "keypoints"), ["a", "a"]), r"list of different names, but f.json has \['a', 'a'\]"),
    (
        _set(("categories", 0, "skeleton"), [[1, 99]]),
        r"pairs of keypoint numbers from 1 to 17, but f.json has \[\[1, 99\]\]",
    ),
    (_set(("categories", 0, "sigmas"), [1, 2]), r"one positive number per keypoint \(17\)"),
    (
        _set((*A, "category_id"), 5),
        r"category of the file \(\[1\]\), but annotation 7 of f.json has 5\. Declare the category",
    ),
    (_set((*A, "image_id"), 4), r"annotation 7 of f.json names the unknown image 4\. Add the image entry or remove"),
    (
        _set((*A, "keypoints"), [1, 2, 2]),
        r"must have 51 keypoint numbers .* but annotation 7 of f.json has 3\. Correct",
    ),
    (lambda d: d["annotations"][0].pop("keypoints"), r"must have 51 keypoint numbers .* has none"),
    (_set((*A, "keypoints"), ["1"] * 51), r"must have 51 keypoint numbers .* has none"),
    (_set((*A, "keypoints", 0), float("nan")), r"must be finite, but annotation 7 of f.json has NaN or infinity"),
    (_set((*A, "area"), float("inf")), r"must be finite"),
    (_set((*A, "keypoints", 2), 4), r"must be 0, 1, 2 or 3, but annotation 7 of f.json has \[1\.0, 2\.0, 4\.0\]"),
    (
        _set((*A, "bbox"), [1, 2, 3]),
        r"bbox of 4 numbers \[left, top, width, height\], but annotation 7 of f.json has \[1, 2, 3\]",
    ),
    (_set((*A, "bbox"), [1, 2, -3, 4]), r"must not be negative, but annotation 7"),
    (_set((*A, "area"), None), r"must be a number of square pixels, but annotation 7 of f.json has None\. Correct it"),
    (_set((*A, "id"), "7"), r"'id' must be a whole number, but an annotation of f.json has '7'"),
    (_double("annotations"), r"Annotation ids must be unique, but f.json has id 7 twice\. Renumber"),
    (_double("images"), r"Image ids must be unique, but f.json has id 3 twice\. Renumber"),
    (_set(("images", 0, "width"), 0), r"at least 1×1 pixel, but image 3 of f.json has 0×160"),
    (_set(("images", 0, "file_name"), None), r"must have a file name, but image 3 of f.json has None"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_documents_are_named(document: Document, change: Callable[[Document], Any], message: str) -> None:
    change(document)
    with pytest.raises(AnnotationError, match=message):
        parse_annotations(document, source="f.json")


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"The annotation file .*none\.json does not exist\. Check the path"):
        read_annotations(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("{not json")
    with pytest.raises(AnnotationError, match=r"must be JSON, but .*a\.json is not: .*Give a COCO"):
        read_annotations(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00\x01\x80")
    with pytest.raises(AnnotationError, match="must be JSON"):
        read_annotations(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps([1]))
    with pytest.raises(AnnotationError, match=r"must hold a JSON object .* holds a list"):
        read_annotations(tmp_path / "a.json")


def test_sigmas_of_unknown_keypoints(document: Document) -> None:
    document["categories"][0]["keypoints"] = [f"point{k}" for k in range(17)]
    with pytest.raises(AnnotationError, match="OKS needs one sigma per keypoint, but the category names none"):
        sigmas_of(parse_annotations(document))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x.png", "a/../../x.png", "C:\\x.png", "a\\..\\..\\x.png", "\\x.png", "", "a\0b"]
)
def test_picture_names_stay_inside(tmp_path: Path, name: str) -> None:
    entry = ImageEntry(id=3, file_name=name, width=4, height=4)
    with pytest.raises(AnnotationError, match="must stay inside the image folder, but image 3 has"):
        image_path(tmp_path, entry)


def test_pictures_must_exist_and_fit(tmp_path: Path) -> None:
    import cv2

    (tmp_path / "sub").mkdir()
    entry = ImageEntry(id=3, file_name="sub/x.png", width=5, height=4)
    with pytest.raises(AnnotationError, match=r"picture of image 3 must be at .*x\.png, but no such file"):
        image_path(tmp_path, entry)
    cv2.imwrite(str(tmp_path / "sub" / "x.png"), np.zeros((4, 5, 3), np.uint8))
    assert read_picture(tmp_path, entry).shape == (4, 5, 3)
    with pytest.raises(AnnotationError, match=r"is 5×4 and image 3 says 6×4\. Use the original pictures"):
        read_picture(tmp_path, ImageEntry(id=3, file_name="sub/x.png", width=6, height=4))
    (tmp_path / "sub" / "x.png").write_bytes(b"no picture")
    with pytest.raises(ImageReadError):
        read_picture(tmp_path, entry)
