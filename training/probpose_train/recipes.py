"""Settings that suit each network, as plain functions; whatever is passed wins over them."""

from __future__ import annotations

from typing import Any

from probpose_train.config import AugmentConfig, LossConfig, TrainConfig

COCO_TRAIN_PERSONS = 149_813
"""Labelled persons of COCO train2017, one pass over which is an epoch of the published schedule."""
PUBLISHED_EPOCHS = 210
PUBLISHED_RATE_PER_SAMPLE = 5e-5 / 64
CARRIERS_OF_PUBLISHED_RECIPE = ("probpose-s", "probpose-s-dh")


def recommended_config(**settings: Any) -> TrainConfig:
    """The recipe of the network that `settings` name: `published_config` for probpose-s and probpose-s-dh, else
    `edge_config`."""
    published = settings.get("model") in CARRIERS_OF_PUBLISHED_RECIPE
    return published_config(**settings) if published else edge_config(**settings)


def edge_config(**settings: Any) -> TrainConfig:
    """probpose-m and probpose-m-dh: from ImageNet weights and few pictures, as the shipped weights were trained."""
    return TrainConfig(**settings)


def published_config(**settings: Any) -> TrainConfig:
    """The recipe of the published ProbPose-s, with the learning rate scaled linearly to the batch.

    AdamW at 5e-5 per 64 samples, weight decay 0.1, layer decay 0.8, drop path 0.1, gradient norm 1, 500 warm-up steps,
    210 epochs of COCO with a tenth of the rate from 170 and from 200 on. Every part of a run that is shorter keeps its
    share.

    Augmentation: flip, half body, shift 0.16, scale 0.5 to 1.5, rotation to 80 degrees, and the crop augmentation; no
    changes of colour. Neither the paper nor its supplement says how often or how strongly it crops: here two crops of
    five keep 35 to 95 % of the box's width or height, as for the other networks.

    The alignment term is off: the paper trains the maps by the dense OKS loss alone (its equations 3 and 4), from a
    backbone that was trained for poses or by masked images on far more pictures. Switch it on (`LossConfig.alignment`)
    for a few thousand persons, where maps that settle on a wrong place would stay there. Presence, visibility and
    quality read detached features in this network, so their weights only scale their own heads, and AdamW takes
    scales out again.
    """
    batch_size = settings.get("batch_size", 64)
    samples = settings.get("samples", PUBLISHED_EPOCHS * COCO_TRAIN_PERSONS)
    recipe: dict[str, Any] = {
        "model": "probpose-s",
        "samples": samples,
        "samples_per_epoch": COCO_TRAIN_PERSONS,
        "batch_size": batch_size,
        "learning_rate": PUBLISHED_RATE_PER_SAMPLE * batch_size,
        "backbone_rate": 1.0,
        "layer_decay": 0.8,
        "schedule": "steps",
        "milestones": (170 / PUBLISHED_EPOCHS, 200 / PUBLISHED_EPOCHS),
        "drop_path": 0.1,
        "warmup_steps": 500,
        "weight_decay": 0.1,
        "clip_norm": 1.0,
        # Averaged weights are our own addition; they look back over a tenth of a short run at most.
        "ema_decay": min(0.9998, max(0.9, 1 - 10 * batch_size / samples)),
        "augment": AugmentConfig(rotation_deg=80.0, scale=(0.5, 1.5), shift=0.16, colour=0.0, blur=0.0),
        "loss": LossConfig(alignment=0.0, presence=1.0, visibility=1.0, quality=1.0),
    }
    return TrainConfig(**(recipe | settings))
