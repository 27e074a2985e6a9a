"""Annotation files of public data sets, in the form they are distributed in, written small here."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import COCO_17, CROWDPOSE_14, MPII_16, WHOLEBODY_133
from probpose_edge.exceptions import AnnotationError
from probpose_eval import annotations_to_document, evaluate, labelled_persons, parse_annotations, read_annotations
from probpose_eval.annotations.coco import sigmas_of, skeleton_of, with_skeleton
from probpose_eval.annotations.coco_forms import WHOLE_BODY_PARTS
from probpose_eval.annotations.crop_set import crop_annotations, domain_shares

Document = dict[str, Any]
COCO_LIMBS = [[a + 1, b + 1] for a, b in COCO_17.edges]


def points_in(box: tuple[float, float, float, float], count: int, v: int = 2) -> list[float]:
    x, y, w, h = box
    rng = np.random.default_rng(count)
    xy = rng.uniform((x, y), (x + w, y + h), (count, 2)).round(1)
    return np.column_stack([xy, np.full(count, v)]).reshape(-1).tolist()


def crowdpose() -> Document:
    """No area and no segmentation; crowdIndex at the image; limbs left over from COCO."""
    box = (30.0, 20.0, 60.0, 120.0)
    persons = [
        {"num_keypoints": 14, "iscrowd": 0, "keypoints": points_in(box, 14), "bbox": list(box), "id": 1},
        {"num_keypoints": 0, "iscrowd": 0, "keypoints": [0] * 42, "bbox": [100, 20, 50, 90], "id": 2},
    ]
    return {
        "images": [{"file_name": "108000.jpg", "id": 108000, "height": 160, "width": 200, "crowdIndex": 0.73}],
        "annotations": [{**person, "image_id": 108000, "category_id": 1} for person in persons],
        "categories": [
            {
                "supercategory": "person",
                "id": 1,
                "name": "person",
                "keypoints": list(CROWDPOSE_14.keypoint_names),
                "skeleton": COCO_LIMBS[:12],
            }
        ],
    }


def ochuman() -> Document:
    """The COCO-style form: area is the whole box, v = 1 hidden by others, missing keypoints keep (0, 0), RLE masks."""
    box = (30.0, 20.0, 60.0, 120.0)
    keypoints = points_in(box, 17)
    keypoints[:3], keypoints[5] = [0, 0, 0], 1
    person = {
        "image_id": 1,
        "area": 7200,
        "num_keypoints": 16,
        "iscrowd": 0,
        "id": 1,
        "category_id": 1,
        "keypoints": keypoints,
        "segmentation": {"size": [160, 200], "counts": "PPYo0"},
        "bbox": list(box),
    }
    return {
        "categories": [
            {
                "supercategory": "person",
                "id": 1,
                "name": "person",
                "skeleton": COCO_LIMBS,
                "keypoints": list(COCO_17.keypoint_names),
            }
        ],
        "annotations": [person],
        "images": [{"id": 1, "file_name": "000001.jpg", "height": 160, "width": 200}],
    }


def cropcoco() -> Document:
    """v = 3 at (0, 0): outside the activation window; inside it a place may be beyond the picture."""
    document = ochuman()
    box = (30.0, 2.0, 60.0, 120.0)
    keypoints = points_in(box, 17)
    keypoints[:3], keypoints[3:6] = [0, 0, 3], [27.0, -6.0, 1]
    document["annotations"][0] |= {"bbox": list(box), "area": 3000.0, "keypoints": keypoints}
    return document


def wholebody() -> Document:
    """COCO's annotation with the other parts in fields of their own; face and hands have v = 1 where labelled."""
    document = ochuman()
    person = document["annotations"][0]
    for name, count in WHOLE_BODY_PARTS:
        person[name] = points_in((40, 30, 30, 90), count, 1) if name != "lefthand_kpts" else [0.0] * 63
    person |= {"face_valid": True, "lefthand_valid": False, "face_box": [40, 30, 10, 10]}
    return document


def mpii_like(first: int) -> Document:
    """A COCO file of 16 keypoints without sigmas and area, whose limbs count from `first`."""
    box = (30.0, 20.0, 60.0, 120.0)
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": points_in(box, 16), "bbox": list(box)}
    category = {"id": 1, "name": "person", "keypoints": list(MPII_16.keypoint_names)}
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 160, "width": 200}],
        "annotations": [person],
        "categories": [{**category, "skeleton": [[a + first, b + first] for a, b in MPII_16.edges]}],
    }


def perfect(annotations: Any) -> list[dict[str, Any]]:
    rows = [(p.image_id, np.column_stack([p.keypoints[:, :2], np.ones(len(p.keypoints))])) for p in annotations.persons]
    return [{"image_id": i, "keypoints": k.reshape(-1).tolist(), "score": 0.9} for i, k in rows]


def test_crowdpose() -> None:
    annotations = parse_annotations(crowdpose())
    first, unlabelled = annotations.persons
    assert skeleton_of(annotations) == CROWDPOSE_14
    assert first.area == pytest.approx(0.53 * 60 * 120)
    assert first.extra["area_source"] == "0.53 * box"
    assert annotations.images[108000].extra == {"crowdIndex": 0.73}
    assert labelled_persons(annotations) == (first,)
    assert unlabelled.num_keypoints == 0
    assert evaluate(annotations, perfect(annotations))["AP"] == pytest.approx(1)


def test_leftover_limbs_of_coco_need_known_keypoints() -> None:
    document = crowdpose()
    document["categories"][0]["keypoints"][0] = "beak"
    with pytest.raises(AnnotationError, match=r"pairs of keypoint numbers from 1 to 14, but f.json has \[\[16, 14\]"):
        parse_annotations(document, source="f.json")


def test_ochuman() -> None:
    annotations = parse_annotations(ochuman())
    (person,) = annotations.persons
    assert person.area == 7200  # the whole box, not its mask: OKS is more lenient than COCO's
    assert person.bbox_xyxy.tolist() == [30, 20, 90, 140]
    assert person.keypoints[:2, 2].tolist() == [0, 1]
    assert skeleton_of(annotations) == COCO_17
    assert evaluate(annotations, perfect(annotations))["AP"] == pytest.approx(1)


def test_cropcoco() -> None:
    annotations = parse_annotations(cropcoco())
    (person,) = annotations.persons
    assert person.keypoints[0].tolist() == [0, 0, 3]
    assert person.keypoints[1].tolist() == [27, -6, 1]
    shares = domain_shares(annotations)
    assert shares["E"] == pytest.approx(100 / 17)
    assert shares["C"] == pytest.approx(100 / 17)
    assert evaluate(annotations, perfect(annotations))["AP"] == pytest.approx(1)
    said_present = evaluate(annotations, perfect(annotations), extended=True)["Ex-AP"]
    honest = perfect(annotations)
    honest[0]["keypoints"][2] = 0.1
    assert evaluate(annotations, honest, extended=True)["Ex-AP"] == pytest.approx(1)
    assert said_present <= 1


def test_wholebody_is_joined_to_133_keypoints() -> None:
    document = wholebody()
    annotations = parse_annotations(document)
    (person,) = annotations.persons
    assert skeleton_of(annotations) == WHOLEBODY_133
    assert person.keypoints.shape == (133, 3)
    assert person.num_keypoints == 16 + 6 + 68 + 21
    v = person.keypoints[:, 2]
    assert set(v[17:23]) == {1.0}  # the feet keep what was labelled
    assert set(v[23:91]) == {2.0}  # "labelled" means "seen" for face and hands
    assert set(v[91:112]) == {0.0}
    assert person.keypoints[23, :2].tolist() == document["annotations"][0]["face_kpts"][:2]
    assert person.extra["face_valid"] is True
    assert evaluate(annotations, perfect(annotations))["AP"] == pytest.approx(1)
    written = annotations_to_document(annotations)
    again = parse_annotations(written)
    np.testing.assert_array_equal(again.persons[0].keypoints, person.keypoints)
    assert annotations_to_document(again) == written


def test_wholebody_with_a_part_missing() -> None:
    document = wholebody()
    del document["annotations"][0]["foot_kpts"]
    with pytest.raises(
        AnnotationError, match=r"must have 18 numbers in 'foot_kpts', but annotation 1 of f.json has none"
    ):
        parse_annotations(document, source="f.json")


@pytest.mark.parametrize("first", [0, 1])
def test_mpii_like(first: int) -> None:
    annotations = parse_annotations(mpii_like(first))
    assert skeleton_of(annotations) == MPII_16
    assert evaluate(annotations, perfect(annotations))["AP"] == pytest.approx(1)
    cropped = crop_annotations(annotations, seed=1).annotations
    assert cropped.persons[0].keypoints.shape == (16, 3)


def test_original_forms_are_refused_with_the_way_out() -> None:
    with pytest.raises(AnnotationError, match=r"f.json is OCHuman's own form .*ochuman_coco_format_\*\.json"):
        parse_annotations({"keypoint_names": [], "keypoint_visible": {}, "images": []}, source="f.json")
    entry = {"joints_vis": [1] * 16, "joints": [[0, 0]] * 16, "image": "a.jpg", "scale": 3.0, "center": [594, 257]}
    with pytest.raises(AnnotationError, match=r"f.json is the list form of MPII .* docs/data.md says how"):
        parse_annotations([entry], source="f.json")


def test_own_sigmas_and_flip_pairs_of_a_category() -> None:
    document = mpii_like(1)
    category = document["categories"][0]
    category |= {"keypoints": [f"p{k}" for k in range(16)], "sigmas": [0.05] * 16, "flip_pairs": [["p3", "p2"]]}
    annotations = parse_annotations(document)
    skeleton = skeleton_of(annotations)
    assert skeleton.sigmas == (0.05,) * 16
    assert skeleton.flip_pairs == ((3, 2),)
    assert parse_annotations(annotations_to_document(annotations)).flip_pairs == ((3, 2),)
    broken = copy.deepcopy(document)
    broken["categories"][0]["flip_pairs"] = [["p3", "p99"]]
    with pytest.raises(
        AnnotationError, match=r"'flip_pairs' must be pairs of keypoint names, but the category of f.js"
    ):
        parse_annotations(broken, source="f.json")


def test_a_category_that_cannot_be_completed() -> None:
    document = mpii_like(1)
    document["categories"][0]["keypoints"] = ["left_p", *(f"p{k}" for k in range(15))]
    annotations = parse_annotations(document)
    with pytest.raises(
        AnnotationError, match=r"OKS needs one sigma per keypoint, but the category names none .*skelet"
    ):
        sigmas_of(annotations)
    document["categories"][0]["sigmas"] = [0.05] * 16
    with pytest.raises(AnnotationError, match=r"category 'person' has no whole skeleton: .*'left_p' has none\. Name"):
        skeleton_of(parse_annotations(document))


def test_a_model_fills_what_the_category_leaves_open() -> None:
    document = mpii_like(1)
    names = tuple(f"p{k}" for k in range(16))
    document["categories"][0]["keypoints"] = list(names)
    del document["categories"][0]["skeleton"]
    model = dataclasses.replace(MPII_16, keypoint_names=names)
    annotations = with_skeleton(parse_annotations(document), model)
    assert skeleton_of(annotations) == model
    own = dataclasses.replace(annotations, sigmas=(0.05,) * 16)
    assert with_skeleton(own, model).sigmas == (0.05,) * 16
    with pytest.raises(AnnotationError, match=r"must have the keypoints of the set \(p0, .*but has right_ankle"):
        with_skeleton(annotations, MPII_16)


def test_files_on_disk_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "crowdpose_test.json").write_text(json.dumps(crowdpose()))
    assert read_annotations(tmp_path / "crowdpose_test.json").keypoint_names == CROWDPOSE_14.keypoint_names
