"""Pictures that a model was calibrated on are found by their content, and refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from probpose_edge import ModelContract, PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_eval import AnnotationSet, read_annotations
from probpose_eval.calibration.picture_hashes import short_hashes
from probpose_eval.calibration.shared_pictures import count_shared_pictures, shared_pictures

Calibrated = Callable[[list[int]], ModelContract]


@pytest.fixture
def data(photographed: tuple[Path, Path]) -> tuple[AnnotationSet, Path]:
    return read_annotations(photographed[0]), photographed[1]


@pytest.fixture
def calibrated(data: tuple[AnnotationSet, Path], template_estimator: Callable[..., PoseEstimator]) -> Calibrated:
    """The contract of a model calibrated on the pictures with these ids."""
    contract = template_estimator().contract

    def make(ids: list[int]) -> ModelContract:
        hashes = short_hashes(data[1] / f"{image_id:06d}.png" for image_id in ids)
        return contract.replace(calibration={"picture_hashes": hashes, "pictures": len(ids)})

    return make


def test_shared_pictures_are_found_by_content(data: tuple[AnnotationSet, Path], calibrated: Calibrated) -> None:
    contracts = {"some": calibrated([2, 5]), "none": calibrated([])}
    assert shared_pictures(contracts, *data) == {"some": ("000002.png", "000005.png"), "none": ()}
    (data[1] / "000002.png").rename(data[1] / "kept.png")
    (data[1] / "000002.png").write_bytes((data[1] / "000005.png").read_bytes())
    picture = cv2.imread(str(data[1] / "000005.png"))
    cv2.imwrite(str(data[1] / "000005.png"), picture[::-1])
    assert shared_pictures(contracts, *data)["some"] == ("000002.png",)


def test_pictures_on_which_nobody_is_judged_do_not_count(
    photographed: tuple[Path, Path], data: tuple[AnnotationSet, Path], calibrated: Calibrated
) -> None:
    document = json.loads(photographed[0].read_text())
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] != 2]
    photographed[0].write_text(json.dumps(document))
    (data[1] / "000002.png").rename(data[1] / "away.png")
    contract = calibrated([3])
    assert shared_pictures({"a": contract}, read_annotations(photographed[0]), data[1]) == {"a": ("000003.png",)}


def test_they_are_refused_unless_allowed(data: tuple[AnnotationSet, Path], calibrated: Calibrated) -> None:
    contracts = {"good.onnx": calibrated([]), "bad.onnx": calibrated([1, 2, 3, 4, 5])}
    with pytest.raises(
        InputError,
        match=r"bad\.onnx was calibrated on 5 of this set: 000001\.png, 000002\.png, 000003\.png and 2 more\. Give "
        r"other pictures, calibrate it on others, or add --allow-calibration-pictures, which marks its row\.",
    ):
        count_shared_pictures(contracts, *data)
    assert count_shared_pictures(contracts, *data, allow=True) == {"good.onnx": 0, "bad.onnx": 5}
    with pytest.raises(InputError, match=r"on 1 of this set: 000004\.png\. Give"):
        count_shared_pictures({"one": calibrated([4])}, *data)
    assert count_shared_pictures({"good.onnx": calibrated([])}, data[0], "no/such/folder") == {"good.onnx": 0}
