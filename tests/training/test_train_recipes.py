"""The published recipe, its schedule, and how slowly deep layers learn."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from probpose_edge.exceptions import InputError
from probpose_models.vit import VisionTransformer
from probpose_train.config import DataSource, TrainConfig
from probpose_train.early_stopping import Progress, judge, should_stop
from probpose_train.optimizer import make_optimizer
from probpose_train.prepare import prepare
from probpose_train.recipes import edge_config, published_config, recommended_config
from probpose_train.schedule import rate_factor, set_learning_rate

SYNTH = (DataSource(annotations="synth"),)


class TinyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = VisionTransformer(12, 3, 2)
        self.map_head = nn.Linear(12, 2)


def test_the_published_recipe_is_the_default_of_its_models_and_scales_with_the_batch() -> None:
    for model in ("probpose-s", "probpose-s-dh"):
        config = recommended_config(sources=SYNTH, model=model)
        assert config == published_config(sources=SYNTH, model=model)
        assert config.learning_rate == pytest.approx(5e-5)
        assert (config.weight_decay, config.layer_decay, config.drop_path) == (0.1, 0.8, 0.1)
        assert (config.clip_norm, config.warmup_steps, config.schedule) == (1.0, 500, "steps")
        assert (config.augment.shift, config.augment.scale, config.augment.rotation_deg) == (0.16, (0.5, 1.5), 80.0)
        assert config.augment.crop > 0
        assert config.loss.alignment == 0
        assert config.samples == 210 * 149_813
    assert published_config(sources=SYNTH, batch_size=512).learning_rate == pytest.approx(4e-4)
    assert published_config(sources=SYNTH, batch_size=512, learning_rate=1e-3).learning_rate == 1e-3
    assert (
        recommended_config(sources=SYNTH, model="probpose-m")
        == TrainConfig(sources=SYNTH)
        == edge_config(sources=SYNTH)
    )


def test_averaged_weights_do_not_look_back_beyond_a_short_run() -> None:
    assert published_config(sources=SYNTH, samples=64_000).ema_decay == pytest.approx(0.99)
    assert published_config(sources=SYNTH).ema_decay == 0.9998


def test_the_step_schedule_falls_at_its_shares_of_the_run() -> None:
    config = published_config(sources=SYNTH, samples=2100 * 64)
    factors = [rate_factor(config, step) for step in (0, 104, 209, 210, 1699, 1700, 1999, 2000, 2099)]
    assert factors == pytest.approx([1 / 210, 105 / 210, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = dataclasses.replace(config, schedule="cosine")
    assert rate_factor(cosine, 2099) == pytest.approx(0.01, abs=1e-4)
    assert rate_factor(cosine, 1155) == pytest.approx(0.505, abs=1e-2)


def test_layers_learn_slower_the_deeper_they_lie() -> None:
    config = published_config(sources=SYNTH)
    network = TinyNetwork()
    optimizer = make_optimizer(network, config)
    set_learning_rate(optimizer, config, config.warmup_steps)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    backbone, peak = network.backbone, config.learning_rate
    for parameter, power in (
        (network.map_head.weight, 0),
        (backbone.norm.weight, 0),
        (backbone.blocks[2].mlp.fc1.weight, 1),
        (backbone.blocks[0].attn.qkv.weight, 3),
        (backbone.patch_embed.weight, 4),
        (backbone.pos_embed, 4),
    ):
        assert rate[id(parameter)] == pytest.approx(peak * 0.8**power)
    assert decay[id(backbone.patch_embed.weight)] == 0.1
    for parameter in (backbone.pos_embed, backbone.norm.weight, backbone.patch_embed.bias):
        assert decay[id(parameter)] == 0
    assert len(rate) == len(list(network.parameters()))


def test_drop_path_needs_a_transformer() -> None:
    with pytest.raises(InputError, match=r"probpose-m has none\. Set it to 0"):
        prepare(TrainConfig(sources=SYNTH, drop_path=0.1), torch.device("cpu"))


def test_a_configuration_of_an_earlier_version_means_what_it_did() -> None:
    document = json.loads(TrainConfig(sources=SYNTH).to_json())
    for name in ("accumulate", "layer_decay", "schedule", "select_by", "patience", "compile", "teacher", "augment_on"):
        del document[name]
    del document["loss"]["distill"]
    old = TrainConfig.from_json(json.dumps(document))
    assert old == TrainConfig(sources=SYNTH, select_by="mean-OKS")


def row(step: int, extended: float, mean: float) -> dict[str, float | int]:
    return {"step": step, "val_Ex-AP": extended, "val_mean_oks": mean}


def test_the_best_report_is_that_of_the_chosen_metric_and_patience_counts_the_others() -> None:
    config = TrainConfig(sources=SYNTH, val_annotations="v.json", val_images="v", patience=2)
    progress = judge(Progress(), row(1, 0.0, 0.1), config)
    progress = judge(progress, row(2, 0.0, 0.2), config)
    assert progress == Progress(score=(0.0, 0.2))
    progress = judge(progress, row(3, 0.3, 0.15), config)
    assert progress.waited == 0
    by_mean = dataclasses.replace(config, select_by="mean-OKS")
    assert judge(Progress(score=(0.2, 0.2)), row(3, 0.3, 0.15), by_mean).waited == 1
    for step in (4, 5):
        assert not should_stop(progress, config)
        progress = judge(progress, row(step, 0.3, 0.15), config)
    assert progress == Progress(score=(0.3, 0.15), waited=2)
    assert should_stop(progress, config)
    assert not should_stop(progress, dataclasses.replace(config, patience=0))
    assert judge(Progress(), {"step": 7}, config).score == (7.0, 0.0)
