"""Crops for a network that is taught by another: boxes are enough, sample n depends on the seed and n alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import AnnotationError
from probpose_models import ProbPoseS, checkpoint_contract
from probpose_train.boxed_crops import BoxedCrops
from probpose_train.config import DataSource


@pytest.fixture(scope="module")
def contract() -> ModelContract:
    return checkpoint_contract(ProbPoseS(channels=24, depth=1, heads=2, deconvolutions=(8, 8)))


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 240}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [5, 10, 90, 200]},
            {"id": 2, "image_id": 1, "category_id": 7, "bbox": [95, 10, 90, 200], "iscrowd": 1},
            {"id": 3, "image_id": 1, "category_id": 8, "bbox": [0, 0, 10, 10]},
        ],
        "categories": [{"id": 8, "name": "dog"}, {"id": 7, "name": "person"}],
    }


def stream(document: dict[str, Any], folder: Path, contract: ModelContract) -> BoxedCrops:
    picture = np.full((240, 200, 3), (10, 200, 90), np.uint8)
    cv2.imwrite(str(folder / "a.png"), picture)
    (folder / "boxes.json").write_text(json.dumps(document))
    source = DataSource(annotations=str(folder / "boxes.json"), images=str(folder))
    return BoxedCrops((source,), contract, seed=4)


def test_persons_come_from_boxes_alone(document: dict[str, Any], tmp_path: Path, contract: ModelContract) -> None:
    crops = stream(document, tmp_path, contract)
    (people,) = crops._sets
    assert [person.id for person in people.persons] == [1]  # type: ignore[union-attr]
    some = crops.crops(0, 6)
    assert some.shape == (6, 256, 192, 3)
    assert some.dtype == np.uint8
    np.testing.assert_array_equal(crops.crops(4, 2), some[4:])
    assert len({crop.tobytes() for crop in some}) == 6
    # The picture is of one colour; what is black lies beyond its border or a cut.
    shares = [(crop.max(-1) == 0).mean() for crop in crops.crops(0, 12)]
    assert max(shares) > min(shares) + 0.1


def test_boxes_without_persons(document: dict[str, Any], tmp_path: Path, contract: ModelContract) -> None:
    document["categories"][1]["name"] = "human"
    with pytest.raises(AnnotationError, match=r"must have a category called person, but .*boxes\.json has none\. Ren"):
        stream(document, tmp_path, contract)
    document["categories"][1]["name"] = "person"
    document["annotations"] = document["annotations"][1:]
    with pytest.raises(AnnotationError, match=r"has none\. Leave it out or label it"):
        stream(document, tmp_path, contract)
