"""Plain heatmap regression: its loss in closed form, and whole runs of such a network."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from probpose_edge.exceptions import InputError
from probpose_eval.synth.set import write_synth_set
from probpose_models.checkpoint import load_checkpoint
from probpose_models.outputs import PoseOutputs
from probpose_train.config import DataSource, LossConfig, TrainConfig
from probpose_train.heatmap_loss import heatmap_losses
from probpose_train.losses import LossKernels, Targets
from probpose_train.training_loop import train

SOURCES = (DataSource(annotations="synth"),)


def kernels_and_targets(points: list[tuple[float, float]], known: list[bool]) -> tuple[LossKernels, Targets]:
    k = len(points)
    ones, yes = torch.ones(1, k), torch.ones(1, k, dtype=torch.bool)
    targets = Targets(torch.tensor([points]), torch.tensor([known]), ones, yes, ones, yes, torch.tensor([50.0]))
    return LossKernels(torch.full((k,), 0.05), torch.ones(k), torch.eye(8), torch.eye(10)), targets


def test_the_loss_is_the_squared_error_of_known_maps_towards_gaussians() -> None:
    kernels, targets = kernels_and_targets([(2.0, 3.0), (5.5, 4.0), (1.0, 1.0)], [True, True, False])
    config = LossConfig(kind="heatmap", heatmap_sigma=1.5)
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 10, 8))).float()
    y, x = np.mgrid[:10, :8]
    expected = np.mean(
        [
            ((maps[0, k].numpy() - np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.5**2))) ** 2).sum()
            for k, (px, py) in enumerate([(2.0, 3.0), (5.5, 4.0)])
        ]
    )
    terms = heatmap_losses(PoseOutputs(maps), targets, kernels, config)
    assert terms["total"].item() == pytest.approx(expected, rel=1e-5)


def test_a_keypoint_without_a_place_in_the_window_has_no_gradient() -> None:
    kernels, targets = kernels_and_targets([(2.0, 3.0), (1.0, 1.0)], [True, False])
    maps = torch.zeros(1, 2, 10, 8, requires_grad=True)
    terms = heatmap_losses(PoseOutputs(maps), targets, kernels, LossConfig(kind="heatmap"))
    terms["total"].backward()
    assert maps.grad is not None
    assert maps.grad[0, 0].abs().sum() > 0
    assert maps.grad[0, 1].abs().sum() == 0


def test_the_log_says_how_near_the_largest_cell_is() -> None:
    kernels, targets = kernels_and_targets([(2.0, 3.0)], [True])
    maps = torch.zeros(1, 1, 10, 8)
    maps[0, 0, 3, 2] = 0.7
    config = LossConfig(kind="heatmap")
    assert heatmap_losses(PoseOutputs(maps), targets, kernels, config)["mean_oks"].item() == pytest.approx(1)
    maps[0, 0, 9, 7] = 0.8
    assert heatmap_losses(PoseOutputs(maps), targets, kernels, config)["mean_oks"].item() < 0.1


def test_a_run_trains_small_heatmaps_and_writes_their_contract(tmp_path: Path) -> None:
    write_synth_set(tmp_path / "set", count=3, seed=1, width=160, height=160, persons=(1, 1))
    data = {"annotations": str(tmp_path / "set" / "annotations.json"), "images": str(tmp_path / "set" / "images")}
    config = TrainConfig(
        sources=(DataSource(**data),),
        val_annotations=data["annotations"],
        val_images=data["images"],
        input_wh=(96, 128),
        samples=8,
        samples_per_epoch=4,
        batch_size=2,
        device="cpu",
        bf16="off",
        loss=LossConfig(kind="heatmap", heatmap_sigma=1.0),
    )
    best = train(config, tmp_path / "run", console=Console(quiet=True))
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert "heatmap" in rows[-1]
    assert "presence" not in rows[-1]
    assert 0 <= float(rows[-1]["val_mean_oks"]) <= 1
    _, contract = load_checkpoint(best)
    assert (contract.map_kind, contract.decode_kernel) == ("heatmap", "argmax")
    assert (contract.input_wh, contract.heatmap_wh) == ((96, 128), (24, 32))
    assert TrainConfig.from_json((tmp_path / "run" / "config.json").read_text()) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": LossConfig(kind="heatmap"), "model": "probpose-s"}, "trained by a probpose-m or a vitpose"),
        ({"loss": LossConfig(kind="heatmap"), "teacher": "t.onnx"}, "without a teacher"),
        ({"model": "vitpose"}, "got loss.kind 'probability', model 'vitpose'"),
    ],
)
def test_settings_that_do_not_fit_plain_heatmaps_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(sources=SOURCES, **settings)  # type: ignore[arg-type]


def test_loss_settings_are_checked() -> None:
    with pytest.raises(InputError, match=r"loss\.kind must be probability or heatmap, got 'gauss'"):
        LossConfig(kind="gauss")
    with pytest.raises(InputError, match=r"heatmap_sigma must be positive, got 0\."):
        LossConfig(heatmap_sigma=0.0)
