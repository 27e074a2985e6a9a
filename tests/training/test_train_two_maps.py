"""Two maps: the truth over the larger window, each map's own keypoints, and a few steps that teach both."""

from __future__ import annotations

import dataclasses
import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from probpose_edge.exceptions import TrainingError
from probpose_edge.skeletons.skeleton import COCO_17
from probpose_eval.synth.set import write_synth_set
from probpose_models.checkpoint import build_model, checkpoint_contract, load_checkpoint, save_checkpoint
from probpose_models.deploy import Deployable
from probpose_models.outputs import PoseOutputs
from probpose_train.augment import TrainSample, WindowFrame, augment
from probpose_train.config import AugmentConfig, DataSource, LossConfig, TrainConfig
from probpose_train.loss_kernels import make_kernels
from probpose_train.losses import LossKernels, Targets, change_window, compute_losses, inside_map
from probpose_train.sources import TrainPerson
from probpose_train.training_loop import train

RATIO = 1.25
ONE = WindowFrame(input_wh=(192, 256), heatmap_wh=(48, 64), padding=1.25, flip_permutation=COCO_17.flip_permutation)
TWO = dataclasses.replace(ONE, window_ratio=RATIO)
CLOSE = AugmentConfig(flip=0, half_body=0, rotate=0, scale=(0.7, 0.7), shift=0, crop=0, colour=0, blur=0)
"""The input window is 0.7 times the usual one, so that some keypoints lie beyond it."""
TURNED = dataclasses.replace(CLOSE, rotate=1, rotation_deg=60, flip=0.5, shift=0.1, scale=(0.6, 1.0))


def person(seed: int = 0, v: int = 2) -> TrainPerson:
    """Keypoints anywhere in the box and a little around it; a bright square on each, darker from one to the next."""
    rng = np.random.default_rng(seed)
    image = np.full((300, 400, 3), 40, np.uint8)
    xy = rng.uniform((95, 35), (225, 265), (17, 2))
    for index, (x, y) in enumerate(xy):
        image[round(y) - 5 : round(y) + 6, round(x) - 5 : round(x) + 6] = (255 - 12 * index, 12 * index, 128)
    return TrainPerson(
        image=image,
        keypoints=np.concatenate((xy, np.full((17, 1), v)), axis=1),
        bbox_xyxy=np.array([100.0, 40, 220, 260]),
        area=20_000.0,
        visibility_labelled=True,
    )


def both(seed: int, config: AugmentConfig) -> tuple[TrainSample, TrainSample]:
    """The same crop for a network with one map and for one with two."""
    one, two = (augment(person(seed), np.random.default_rng(seed), frame, config) for frame in (ONE, TWO))
    np.testing.assert_array_equal(one.crop, two.crop)
    return one, two


@pytest.mark.parametrize("seed", range(8))
def test_places_masks_and_area_are_about_the_larger_window(seed: int) -> None:
    one, two = both(seed, TURNED)
    center = np.array([47, 63]) / 2
    np.testing.assert_allclose((two.points_cell - center) * RATIO + center, one.points_cell, atol=1e-3)
    inside = ((two.points_cell >= 0) & (two.points_cell <= (47, 63))).all(1)
    np.testing.assert_array_equal(two.map_mask, inside)
    np.testing.assert_array_equal(two.presence, inside)
    assert two.presence_mask.all()
    assert not (one.map_mask & ~two.map_mask).any()
    assert two.area_cell == pytest.approx(one.area_cell / RATIO**2, rel=1e-5)


def test_a_keypoint_beyond_the_crop_is_present_and_not_visible() -> None:
    beyond = 0
    for seed in range(8):
        one, two = both(seed, CLOSE)
        only_large = two.map_mask & ~one.map_mask
        beyond += int(only_large.sum())
        assert not two.visibility[only_large].any()
        assert two.visibility_mask[only_large].all()
        np.testing.assert_array_equal(two.visibility[one.map_mask], one.visibility[one.map_mask])
    assert beyond > 10


def test_an_unknown_place_is_absent_only_while_the_larger_window_stays_within_the_annotated_one() -> None:
    def known(frame: WindowFrame, scale: float) -> bool:
        config = dataclasses.replace(CLOSE, scale=(scale, scale))
        sample = augment(person(v=3), np.random.default_rng(0), frame, config)
        assert not sample.map_mask.any()
        assert not sample.presence.any()
        return bool(sample.presence_mask.all())

    assert known(ONE, 1.0)
    assert not known(TWO, 1.0)
    assert known(TWO, 0.8)


@cache
def kernels(ratio: float = RATIO) -> LossKernels:
    contract = checkpoint_contract(build_model("probpose-m"))
    return make_kernels(contract, torch.device("cpu"))._replace(window_ratio=ratio)


def targets_of(samples: list[TrainSample]) -> Targets:
    return Targets(*(torch.from_numpy(np.stack([getattr(s, name) for s in samples])) for name in Targets._fields))


def maps_at(points_cell: torch.Tensor) -> torch.Tensor:
    """Logits (N, K, 64, 48) that are sure of the cell nearest to each place, clipped to the map."""
    n, k = points_cell.shape[:2]
    cells = points_cell.round().long().clamp(torch.zeros(2, dtype=torch.long), torch.tensor([47, 63]))
    logits = torch.zeros(n, k, 64 * 48)
    return logits.scatter_(2, (cells[..., 1] * 48 + cells[..., 0])[..., None], 5.0).view(n, k, 64, 48)


def test_each_map_answers_for_its_own_window_and_the_expert_refines() -> None:
    targets = targets_of([both(seed, CLOSE)[1] for seed in range(4)])
    expert_points = change_window(targets.points_cell, RATIO, (48, 64))
    expert_mask = targets.map_mask & inside_map(expert_points, (48, 64))
    assert 0 < int(expert_mask.sum()) < int(targets.map_mask.sum())
    scalars = [torch.zeros(4, 17) for _ in range(3)]
    large, expert = maps_at(targets.points_cell), maps_at(expert_points)
    right = compute_losses(PoseOutputs(large, *scalars, expert), targets, kernels(), 0.5, LossConfig())
    assert {"oks", "alignment", "expert_oks", "expert_alignment"} < set(right)
    parts = [value for name, value in right.items() if name not in ("total", "mean_oks")]
    torch.testing.assert_close(right["total"], torch.stack(parts).sum())

    # What the expert says about keypoints beyond its window costs nothing; what it says within does.
    elsewhere = maps_at(torch.full((4, 17, 2), 3.0))
    beyond = torch.where(expert_mask[..., None, None], expert, elsewhere)
    same = compute_losses(PoseOutputs(large, *scalars, beyond), targets, kernels(), 0.5, LossConfig())
    assert same["expert_oks"] == right["expert_oks"]
    assert same["mean_oks"] == right["mean_oks"]
    worse = compute_losses(PoseOutputs(large, *scalars, elsewhere), targets, kernels(), 0.5, LossConfig())
    assert worse["expert_oks"] > right["expert_oks"]
    assert worse["oks"] == right["oks"]
    assert worse["mean_oks"] < right["mean_oks"] - 0.3

    # Where the larger map is wrong the expert cannot help: the larger map decides.
    lost = compute_losses(
        PoseOutputs(maps_at(torch.zeros(4, 17, 2)), *scalars, expert), targets, kernels(), 0.5, LossConfig()
    )
    assert lost["mean_oks"] < 0.3


def test_the_ratio_must_fit_the_network() -> None:
    targets = targets_of([both(0, CLOSE)[1]])
    maps, scalars = torch.zeros(1, 17, 64, 48), [torch.zeros(1, 17) for _ in range(3)]
    with pytest.raises(TrainingError, match=r"this network gives one map and window_ratio is 1\.25\. Take the ratio"):
        compute_losses(PoseOutputs(maps, *scalars), targets, kernels(), 0.5, LossConfig())
    with pytest.raises(TrainingError, match=r"this network gives two maps and window_ratio is 1\.0"):
        compute_losses(PoseOutputs(maps, *scalars, maps), targets, kernels(1.0), 0.5, LossConfig())
    with pytest.raises(TrainingError, match=r"gives a plain heatmap\. Train a model of the probpose family"):
        compute_losses(PoseOutputs(maps), targets, kernels(1.0), 0.5, LossConfig())


def test_windows_with_one_center_change_into_each_other() -> None:
    points = torch.tensor([[23.5, 31.5], [0.0, 63.0], [47.0, 0.0]])
    larger = change_window(points, 1 / RATIO, (48, 64))
    torch.testing.assert_close(larger[0], points[0])
    torch.testing.assert_close(larger[1], torch.tensor([4.7, 56.7]))
    torch.testing.assert_close(change_window(larger, RATIO, (48, 64)), points)
    edge = torch.tensor([[0.0, 0.0], [47.0, 63.0], [-0.1, 5.0], [5.0, 63.1]])
    assert inside_map(edge, (48, 64)).tolist() == [True, True, False, False]


def test_a_few_steps_teach_both_maps() -> None:
    torch.manual_seed(0)
    model = build_model("probpose-s-dh", channels=16, depth=1, heads=4, deconvolutions=(16, 16), drop_path=0.0)
    samples = [both(seed, CLOSE)[1] for seed in range(2)]
    targets = targets_of(samples)
    x = Deployable(model).normalise(torch.from_numpy(np.stack([sample.crop for sample in samples])))
    constants = make_kernels(checkpoint_contract(model), torch.device("cpu"))
    assert constants.window_ratio == RATIO
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    history: list[dict[str, float]] = []
    for _ in range(80):
        terms = compute_losses(model.train()(x), targets, constants, 0.5, LossConfig())
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        history.append({name: value.item() for name, value in terms.items()})
    for name in ("oks", "expert_oks", "alignment", "expert_alignment", "presence"):
        assert history[-1][name] < 0.8 * history[0][name], name
    assert history[-1]["mean_oks"] > 0.6


def test_a_run_turns_one_map_into_two_and_says_what_is_fresh(tmp_path: Path) -> None:
    write_synth_set(tmp_path / "set", count=2, seed=1, width=160, height=160, persons=(1, 1))
    one = build_model("probpose-s", channels=16, depth=1, heads=4, deconvolutions=(8, 8))
    save_checkpoint(tmp_path / "one.safetensors", one, checkpoint_contract(one))
    config = TrainConfig(
        sources=(
            DataSource(annotations=str(tmp_path / "set" / "annotations.json"), images=str(tmp_path / "set" / "images")),
        ),
        model="probpose-s-dh",
        init_from=str(tmp_path / "one.safetensors"),
        window_ratio=1.4,
        samples=4,
        samples_per_epoch=4,
        batch_size=2,
        device="cpu",
        bf16="off",
    )
    console = Console(record=True, file=io.StringIO(), width=200)
    best = train(config, tmp_path / "run", console=console)
    assert "so from fresh weights: larger_map_head." in console.export_text()
    model, contract = load_checkpoint(best)
    assert (model.name, contract.window_ratio, model.sizes) == ("probpose-s-dh", 1.4, one.sizes)
    header = (tmp_path / "run" / "log.csv").read_text().splitlines()[0]
    assert {"oks", "expert_oks", "alignment", "expert_alignment"} <= set(header.split(","))
