"""Checks of data sets: every kind of damage is found, named and counted, and sound sets are left alone."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from probpose_edge.exceptions import AnnotationError
from probpose_eval import crop_annotations, domain_shares, read_annotations
from probpose_eval.calibration.picture_hashes import look_hash, short_hashes
from probpose_eval.checks.check_data import SetCheck, check_between, check_set, complete_pictures

Document = dict[str, Any]
Change = Callable[[Document], None]


def found(check: SetCheck, *, broken: bool = True) -> dict[str, int]:
    return {finding.kind: finding.count for finding in check.findings if finding.broken == broken}


def annotation(**changes: Any) -> Change:
    return lambda document: document["annotations"][0].update(changes)


def keypoint(index: int, *values: float) -> Change:
    def change(document: Document) -> None:
        document["annotations"][0]["keypoints"][3 * index : 3 * index + 3] = values

    return change


def image(**changes: Any) -> Change:
    return lambda document: document["images"][0].update(changes)


def again(part: str, **changes: Any) -> Change:
    return lambda document: document[part].append({**copy.deepcopy(document[part][0]), **changes})


@pytest.fixture
def written(document: Document, tmp_path: Path) -> Callable[[Change | None], Path]:
    def write(change: Change | None) -> Path:
        if change is not None:
            change(document)
        path = tmp_path / "set.json"
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (again("annotations"), "duplicated annotation id"),
        (again("images"), "duplicated image id"),
        (again("images", id=4), "duplicated file name"),
        (image(id="3"), "image without id"),
        (image(width=0), "image without a size"),
        (image(file_name=None), "image without a file name"),
        (annotation(id=None), "annotation without id"),
        (annotation(image_id=99), "annotation of an unknown image"),
        (annotation(bbox=[1, 2, 3]), "box that is not four numbers"),
        (annotation(bbox=[1, float("nan"), 30, 40]), "box with NaN or infinity"),
        (annotation(bbox=[50, 50, -30, 40]), "box of negative size"),
        (annotation(bbox=[50, 50, 0, 40]), "box without area around labelled keypoints"),
        (annotation(bbox=[250, 20, 60, 120]), "box outside the picture"),
        (annotation(area=0), "area 0 of a person with keypoints"),
        (annotation(area=float("nan")), "area that is no positive number"),
        (annotation(keypoints=[1, 2, 2]), "wrong number of keypoints"),
        (annotation(keypoints=None), "wrong number of keypoints"),
        (keypoint(3, float("inf"), 2, 2), "keypoints with NaN or infinity"),
        (keypoint(3, 50, 50, 4), "visibility other than 0, 1, 2, 3"),
        (keypoint(3, 50, 50, 1.5), "visibility other than 0, 1, 2, 3"),
        (annotation(num_keypoints=3), "num_keypoints unlike the keypoints"),
        (annotation(keypoints=[0] * 51), "person without keypoints that claims some"),
        (annotation(iscrowd="yes", area="a"), "area that is no positive number"),
    ],
)
def test_damage_is_named(written: Callable[[Change | None], Path], change: Change, kind: str) -> None:
    check = check_set(written(change), None)
    assert found(check)[kind] == 1
    assert check_between([check]).broken


@pytest.mark.parametrize(
    ("change", "kind", "count"),
    [
        (annotation(bbox=[-20, 20, 80, 120]), "box reaching beyond the picture", 1),
        (keypoint(3, 202, 50, 2), "labels outside the picture with v = 1 or 2", 1),
        (
            lambda d: [keypoint(k, 0, 0, 3)(d) for k in (2, 5)],
            "keypoints with v = 3 (outside the activation window)",
            2,
        ),
    ],
)
def test_what_may_be_meant_is_a_remark(
    written: Callable[[Change | None], Path], change: Change, kind: str, count: int
) -> None:
    check = check_set(written(change), None)
    assert found(check, broken=False)[kind] == count
    assert not check_between([check]).broken


def test_a_sound_set_has_no_findings_and_a_domain(written: Callable[[Change | None], Path]) -> None:
    check = check_set(written(None), None, crop_seed=0)
    assert check.findings == ()
    assert (check.images, check.persons, check.labelled, check.pictures) == (1, 1, 1, None)
    assert check.domains["all pictures"]["A"] == 100
    assert sum(check.domains["cropped with seed 0"].values()) == pytest.approx(100)


def test_a_rule_without_a_name_of_its_own_is_reported_too(written: Callable[[Change | None], Path]) -> None:
    check = check_set(written(annotation(category_id=9)), None)
    (finding,) = check.findings
    assert finding.kind == "annotations that cannot be used"
    assert "Every annotation must have a category of the file ([1]), but annotation 7" in finding.examples[0]
    assert check.domains == {}
    assert check.labelled is None


def test_examples_are_few_and_counts_are_not(written: Callable[[Change | None], Path]) -> None:
    def many(document: Document) -> None:
        document["annotations"] = [{**document["annotations"][0], "id": i, "num_keypoints": 1} for i in range(40)]

    (finding,) = check_set(written(many), None).findings
    assert (finding.count, len(finding.examples)) == (40, 5)
    assert finding.examples[0] == "annotation 0: says 1, has 17"


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(AnnotationError, match=r"must be JSON, but .*a\.json is not"):
        check_set(tmp_path / "a.json", None)
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(AnnotationError, match=r"must hold the lists images, annotations and categories, but .*a\.json"):
        check_set(tmp_path / "a.json", None)
    with pytest.raises(AnnotationError, match=r"b\.json cannot be read: No such file.* Check the path"):
        check_set(tmp_path / "b.json", None)


def test_pictures_are_read(photographed: tuple[Path, Path]) -> None:
    path, folder = photographed
    steps: list[tuple[int, int]] = []
    check = check_set(path, folder, progress=lambda done, total: steps.append((done, total)))
    assert found(check) == {}
    assert check.pictures is not None
    assert len(check.pictures) == 6
    assert steps == [(i, 6) for i in range(1, 7)]

    names = sorted(p.name for p in folder.iterdir())
    (folder / names[0]).unlink()
    (folder / names[1]).write_bytes((folder / names[1]).read_bytes()[:-5000])
    (folder / names[2]).write_bytes(b"not a picture")
    cv2.imwrite(str(folder / names[3]), np.zeros((100, 320, 3), dtype=np.uint8))
    (folder / names[4]).write_bytes((folder / names[5]).read_bytes())
    document = json.loads(path.read_text())
    document["images"].append({"id": 77, "file_name": "../out.png", "width": 4, "height": 4})
    path.write_text(json.dumps(document))
    check = check_set(path, folder)
    assert found(check) == {
        "missing picture": 1,
        "truncated picture": 1,
        "broken picture": 1,
        "picture of another size than its entry": 1,
        "the same picture twice": 1,
        "file name that leaves the folder": 1,
    }
    assert any("000004.png is 320 × 100, entry 320 × 240" in f.examples[0] for f in check.findings)


@pytest.fixture
def two_sets(tmp_path: Path, document: Document) -> Callable[..., tuple[SetCheck, SetCheck]]:
    """Two sets of two structured pictures; `make` may write others of the second before they are checked."""

    def make(prepare: Callable[[Path, Path, Document], None] | None = None) -> tuple[SetCheck, SetCheck]:
        rng = np.random.default_rng(0)
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            mine = copy.deepcopy(document)
            for i in (1, 2):
                small = rng.integers(0, 255, (6, 7, 3), dtype=np.uint8)
                picture = cv2.resize(small, (200, 160), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(tmp_path / name / f"{name}{i}.png"), picture)
            mine["images"] = [{"id": i, "file_name": f"{name}{i}.png", "width": 200, "height": 160} for i in (1, 2)]
            mine["annotations"][0]["image_id"] = 1
            if name == "two" and prepare is not None:
                prepare(tmp_path / "one", tmp_path / "two", mine)
            (tmp_path / f"{name}.json").write_text(json.dumps(mine))
        return (
            check_set(tmp_path / "one.json", tmp_path / "one"),
            check_set(tmp_path / "two.json", tmp_path / "two"),
        )

    return make


def between(checks: tuple[SetCheck, SetCheck]) -> dict[str, bool]:
    (findings,) = check_between(checks).between.values()
    return {finding.kind: finding.broken for finding in findings}


def test_different_sets_share_nothing(two_sets: Callable[..., tuple[SetCheck, SetCheck]]) -> None:
    assert between(two_sets()) == {}


def test_the_same_content_is_leakage_whatever_its_name(two_sets: Callable[..., tuple[SetCheck, SetCheck]]) -> None:
    def copied(one: Path, two: Path, document: Document) -> None:
        (two / "two2.png").write_bytes((one / "one1.png").read_bytes())

    assert between(two_sets(copied)) == {"leakage: the same picture": True}


def test_a_compressed_copy_looks_alike(two_sets: Callable[..., tuple[SetCheck, SetCheck]]) -> None:
    def smaller(one: Path, two: Path, document: Document) -> None:
        picture = cv2.resize(cv2.imread(str(one / "one1.png")), (150, 120), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(two / "two2.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 60])
        document["images"][1] |= {"file_name": "two2.jpg", "width": 150, "height": 120}

    assert between(two_sets(smaller)) == {"leakage: pictures that look alike": False}


def test_the_same_name_is_leakage_where_pictures_look_alike(
    two_sets: Callable[..., tuple[SetCheck, SetCheck]],
) -> None:
    def named(one: Path, two: Path, document: Document) -> None:
        cv2.imwrite(str(two / "one1.png"), cv2.imread(str(one / "one1.png")) // 2)
        cv2.imwrite(str(two / "one2.png"), cv2.imread(str(two / "two2.png")))
        document["images"][0]["file_name"], document["images"][1]["file_name"] = "one1.png", "one2.png"

    checks = two_sets(named)
    assert between(checks) == {"leakage: the same name and look": True, "the same name, another picture": False}
    unread = (dataclasses.replace(checks[0], pictures=None), checks[1])
    assert between(unread) == {"leakage: the same name (pictures not read)": True}


def test_other_keypoints_are_named(two_sets: Callable[..., tuple[SetCheck, SetCheck]]) -> None:
    def renamed(one: Path, two: Path, document: Document) -> None:
        document["categories"][0]["keypoints"][0] = "chin"

    checks = two_sets(renamed)
    assert between(checks) == {"different keypoints": True}
    (findings,) = check_between(checks).between.values()
    assert findings[0].examples[0] == "only the first has nose; only the second has chin"
    order = tuple(reversed(checks[0].keypoint_names))
    swapped = check_between([checks[0], dataclasses.replace(checks[0], name="x", pictures=(), keypoint_names=order)])
    (findings,) = swapped.between.values()
    assert findings[0].examples[0] == "the same names in another order"


def test_hashes(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(90, dtype=np.uint8)[:, None], (80, 1, 3))
    assert look_hash(ramp) == 0
    assert look_hash(ramp[:, ::-1]) == 2**64 - 1
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    assert short_hashes([tmp_path / "b", tmp_path / "a", tmp_path / "a"]) == "3e23e8160039 ca978112ca1b"


@pytest.mark.shared
def test_the_domain_of_coco_is_the_papers(shared: Path) -> None:
    annotations = read_annotations(shared / "data" / "coco-annotations" / "person_keypoints_val2017_part.json")
    complete = complete_pictures(annotations)
    assert complete is not None
    assert len(complete.images) == 538
    coco = {"A": 95.8, "B": 3.9, "C": 0, "D": 0.2, "E": 0}
    assert domain_shares(complete) == pytest.approx(coco, abs=1.5)
    assert domain_shares(annotations) == pytest.approx(coco, abs=1.5)
    cropped = [domain_shares(crop_annotations(complete, seed=seed).annotations) for seed in range(6)]
    paper = {"A": 68.8, "B": 2.2, "C": 23.5, "D": 0.1, "E": 5.3}
    for shares in cropped:
        assert shares == pytest.approx(paper, abs=3)
    mean = {area: float(np.mean([shares[area] for shares in cropped])) for area in paper}
    assert mean == pytest.approx(paper, abs=2)
