"""A network with other keypoints: shared ones keep their outputs, everything else but the last layers stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from probpose_edge import COCO_17, MPII_16, WHOLEBODY_133, Skeleton
from probpose_models import build_model
from probpose_models.change_keypoints import change_keypoints

SMALL_M = {"input_wh": (96, 128)}
SMALL_S = {"channels": 24, "depth": 1, "heads": 2, "deconvolutions": (8, 8)}


@pytest.mark.parametrize("target", [MPII_16, WHOLEBODY_133], ids=["16", "133"])
@pytest.mark.parametrize(
    ("name", "sizes"), [("probpose-m", SMALL_M), ("probpose-m-dh", SMALL_M), ("probpose-s", SMALL_S)]
)
def test_shared_keypoints_keep_their_outputs(name: str, sizes: dict[str, Any], target: Skeleton) -> None:
    torch.manual_seed(0)
    names = target.keypoint_names
    source = build_model(name, 17, **sizes).eval()
    changed, origin = change_keypoints(source, COCO_17.keypoint_names, names)
    assert changed.keypoints == len(names)
    assert {names[k]: COCO_17.keypoint_names[index] for k, index in enumerate(origin) if index >= 0} == {
        shared: shared for shared in names if shared in COCO_17.keypoint_names
    }
    image = torch.randn(1, 3, source.input_wh[1], source.input_wh[0])
    with torch.no_grad():
        before, after = source(image), changed.eval()(image)
    for old, new in zip(before, after, strict=True):
        if old is not None:
            for k, index in enumerate(origin):
                if index >= 0:
                    torch.testing.assert_close(new[:, k], old[:, index])


def test_the_same_number_of_other_keypoints_is_no_reason_to_copy_rows() -> None:
    """16 is also a number of hidden channels: only the last layers may be exchanged."""
    source = build_model("probpose-m", 16, input_wh=(96, 128))
    names = ("left_wrist", *(f"p{k}" for k in range(15)))
    changed, origin = change_keypoints(source, MPII_16.keypoint_names, names)
    assert origin == (15, *[-1] * 15)
    given, state = source.state_dict(), changed.state_dict()
    different = {key for key in state if not torch.equal(given[key], state[key])}
    assert different
    assert all(key.rpartition(".")[0].endswith(("map_head.final", "layers.5")) for key in different), different
    torch.testing.assert_close(state["map_head.final.weight"][0], given["map_head.final.weight"][15])


def test_names_in_another_spelling_and_order() -> None:
    source = build_model("probpose-m", 2, input_wh=(96, 128))
    _, origin = change_keypoints(source, ("left_wrist", "right_wrist"), ("r_wrist", "LWrist", "nose"))
    assert origin == (1, 0, -1)
