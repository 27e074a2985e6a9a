"""Crops made from plans on the device, against the same plans by OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probpose_edge.skeletons.skeleton import COCO_17
from probpose_train.augment import WindowFrame, augment, plan_sample
from probpose_train.config import AugmentConfig, DataSource, TrainConfig
from probpose_train.cut_crop import CropPlan, cut_crop
from probpose_train.dataset import SampleStream, make_loader
from probpose_train.device_augment import PackedPlans, pack_plans, render
from probpose_train.distort import Distortion
from probpose_train.losses import Targets
from probpose_train.sources import DrawnSet

FRAME = WindowFrame(input_wh=(192, 256), heatmap_wh=(48, 64), padding=1.25, flip_permutation=COCO_17.flip_permutation)
CPU = torch.device("cpu")
MEAN_BOUND = 2.0
"""Grey levels; OpenCV's warp rounds source places to 1/32 px, and its colour spaces to 8 bits."""


def plans_of(config: AugmentConfig, count: int) -> list[CropPlan]:
    drawn = DrawnSet()
    plans = []
    for number in range(count):
        rng = np.random.default_rng((3, number))
        person = drawn.sample(rng)
        plans.append(plan_sample(person, rng, FRAME, config, lambda rng=rng: drawn.sample(rng)).plan)
    return plans


def difference(plans: list[CropPlan]) -> np.ndarray:
    ours = render(pack_plans(plans, FRAME.input_wh), FRAME.input_wh, CPU)
    assert ours.dtype == torch.uint8
    theirs = np.stack([cut_crop(plan, FRAME.input_wh) for plan in plans])
    return np.abs(ours.numpy().astype(float) - theirs).mean((1, 2, 3))


def test_warped_and_pasted_pixels_agree_with_opencv() -> None:
    plans = plans_of(AugmentConfig(colour=0, blur=0, paste=1.0, rotate=1.0), 6)
    assert all(plan.paste is not None for plan in plans)
    assert difference(plans).max() < MEAN_BOUND


@pytest.mark.parametrize(
    "distortion",
    [
        Distortion(shrink=2.7),
        Distortion(blur_sigma=1.3),
        Distortion(grey=True, gain_bgr=(1.2, 1.1, 0.9), offset=12.0),
        Distortion(hue_steps=-9, saturation=1.4, gain_bgr=(0.7, 0.7, 0.75), offset=-20.0),
    ],
)
def test_distortions_agree_with_opencv(distortion: Distortion) -> None:
    plan = plans_of(AugmentConfig(colour=0, blur=0), 1)[0]
    plan = CropPlan(**{**plan.__dict__, "distortion": distortion})
    assert difference([plan]).max() < MEAN_BOUND
    plain = cut_crop(CropPlan(**{**plan.__dict__, "distortion": Distortion()}), FRAME.input_wh)
    assert np.abs(cut_crop(plan, FRAME.input_wh).astype(float) - plain).mean() > 0.5


def test_what_lies_outside_the_picture_stays_black() -> None:
    picture = np.full((80, 60, 3), 90, np.uint8)
    plan = CropPlan(
        picture=picture,
        matrix=np.array([[1.0, 0, 40], [0, 1.0, 50]]),
        border_xyxy=np.array([10.0, 0, 60, 80]),
        paste=None,
        distortion=Distortion(offset=30.0),
    )
    crop = render(pack_plans([plan], FRAME.input_wh), FRAME.input_wh, CPU)[0]
    assert crop[60, 60].tolist() == [120, 120, 120]
    for y, x in ((60, 45), (60, 105), (30, 60), (140, 60)):
        assert crop[y, x].tolist() == [0, 0, 0]


def test_the_loader_gives_the_same_truth_and_plans_instead_of_pixels() -> None:
    settings = {"sources": (DataSource(annotations="synth"),), "samples": 4, "batch_size": 4}
    loaded = {}
    for place in ("cpu", "device"):
        config = TrainConfig(**settings, augment_on=place)  # type: ignore[arg-type]
        loaded[place] = next(iter(make_loader(SampleStream(config, FRAME, COCO_17.keypoint_names), config, 0)))
    crops, truth = loaded["cpu"]
    plans, same_truth = loaded["device"]
    assert isinstance(plans, PackedPlans)
    for name in Targets._fields:
        torch.testing.assert_close(getattr(truth, name), getattr(same_truth, name), rtol=0, atol=0)
    rendered = render(plans, FRAME.input_wh, CPU)
    assert (rendered.float() - crops.float()).abs().mean() < MEAN_BOUND


def test_augment_is_the_plan_with_its_pixels() -> None:
    drawn = DrawnSet()
    rng, again = np.random.default_rng(5), np.random.default_rng(5)
    sample = augment(drawn.sample(rng), rng, FRAME, AugmentConfig())
    planned = plan_sample(drawn.sample(again), again, FRAME, AugmentConfig())
    np.testing.assert_array_equal(sample.crop, cut_crop(planned.plan, FRAME.input_wh))
    np.testing.assert_array_equal(sample.points_cell, planned.points_cell)
