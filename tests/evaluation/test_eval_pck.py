"""PCK by the head where a skeleton has one, else by the box."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probpose_edge.skeletons.skeleton_presets import CROWDPOSE_14, MPII_16
from probpose_eval import parse_annotations
from probpose_eval.metrics.pck import pck, pck_lengths


def test_coco_is_measured_by_the_longer_side_of_the_box(document: dict[str, Any]) -> None:
    annotations = parse_annotations(document)
    rule, lengths = pck_lengths(annotations, annotations.persons)
    assert (rule.normalised_by, rule.persons, rule.thresholds) == ("box", 1, (0.05, 0.1, 0.2))
    assert lengths.tolist() == [120]


@pytest.mark.parametrize("skeleton", [MPII_16, CROWDPOSE_14], ids=["MPII", "CrowdPose"])
def test_a_head_is_measured_where_both_its_ends_are_labelled(document: dict[str, Any], skeleton: Any) -> None:
    names = list(skeleton.keypoint_names)
    top, neck = ("head_top", "upper_neck") if skeleton is MPII_16 else ("head", "neck")
    document["categories"] = [{"id": 1, "name": "person", "keypoints": names}]
    person = document["annotations"][0]
    points = np.tile([60.0, 60.0, 2.0], (len(names), 1))
    points[names.index(top)], points[names.index(neck)] = (50, 30, 2), (53, 34, 1)
    without = points.copy()
    without[names.index(top), 2] = 0
    document["annotations"] = [
        {**person, "id": i, "keypoints": each.reshape(-1).tolist()} for i, each in enumerate((points, without))
    ]
    annotations = parse_annotations(document)
    rule, lengths = pck_lengths(annotations, annotations.persons)
    assert (rule.normalised_by, rule.persons, rule.thresholds) == ("head", 1, (0.1, 0.2, 0.5))
    assert lengths[0] == pytest.approx(5)
    assert np.isnan(lengths[1])


def test_shares_within_the_thresholds() -> None:
    distances = np.array([[0.05, 0.1, np.nan], [0.11, 0.2, 3.0]])
    assert pck(distances, (0.05, 0.1, 0.2)) == pytest.approx({"0.05": 0.2, "0.1": 0.4, "0.2": 0.8})
    assert pck(distances[:, 2:][:1], (0.5,)) == {"0.5": None}
