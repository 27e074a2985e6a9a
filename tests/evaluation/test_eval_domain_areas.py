"""Areas A to E of appendix A, on points placed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probpose_eval import domain_shares, parse_annotations
from probpose_eval.metrics.domain_areas import areas_of_keypoints

# The picture is 200 wide and 160 high, the box x 40 to 100, y 20 to 140; its window, 3:4 and padded by 1.25, is
# x 13.75 to 126.25 (112.5 wide) and y 5 to 155 (150 high). Moved to the border, the box is x 0 to 60.
PLACES = {
    "A": (70, 80, 2),
    "B": (120, 80, 1),
    "C": (-10, 80, 2),
    "D": (180, 80, 1),
    "E": (-60, 80, 2),
}


def test_each_point_lies_in_its_area(document: dict[str, Any]) -> None:
    person = document["annotations"][0]
    person["bbox"] = [0, 20, 60, 120]
    points = [*PLACES.values(), (0, 0, 3), (5, 5, 0)]
    moved = [(x - 40 if area in "AB" else x, y, v) for area, (x, y, v) in zip("ABCDE__", points, strict=True)]
    person["keypoints"] = [value for point in moved for value in point] + [0] * 30
    annotations = parse_annotations(document)
    areas = areas_of_keypoints(annotations, annotations.persons)
    assert areas[0].tolist() == [*"ABCDE", "E", *[""] * 11]
    shares = domain_shares(annotations)
    assert shares == pytest.approx({"A": 100 / 6, "B": 100 / 6, "C": 100 / 6, "D": 100 / 6, "E": 100 / 3})
    wide = areas_of_keypoints(annotations, annotations.persons, padding=2.5)
    assert wide[0].tolist()[:6] == ["A", "B", "C", "D", "C", "E"]


def test_nobody(document: dict[str, Any]) -> None:
    annotations = parse_annotations(document)
    assert areas_of_keypoints(annotations, ()).shape == (0, 17)
    assert np.asarray(areas_of_keypoints(annotations, annotations.persons)).shape == (1, 17)
