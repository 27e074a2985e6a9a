"""AdamW with a slower backbone, and slower still the deeper a block lies under the heads."""

from __future__ import annotations

import re

import torch
from torch import nn

from probpose_train.config import TrainConfig

_BLOCK = re.compile(r"backbone\.(?:blocks|features)\.(\d+)\.")


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Weight decay applies to matrices and kernels only, never to biases, normalisation and learned positions."""
    blocks = [int(match[1]) for name, _ in model.named_parameters() if (match := _BLOCK.match(name))]
    depth = max(blocks, default=-1) + 1
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith("pos_embed")
            key = (rate_of(name, depth, config), decays)
            groups.setdefault(key, []).append(parameter)
    ordered = sorted(groups.items(), key=lambda group: (-group[0][0], group[0][1]))
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": config.weight_decay if decays else 0.0, "rate": rate}
            for (rate, decays), parameters in ordered
        ],
        lr=config.learning_rate,
    )


def rate_of(name: str, depth: int, config: TrainConfig) -> float:
    """Factor on the learning rate of a parameter of a network with `depth` backbone blocks.

    Heads keep the full rate; the backbone has `backbone_rate`. Block i of d, counted from 0, has that times
    `layer_decay` to the power of d - i, patches and positions to the power of d + 1 (as BEiT, Bao et al. 2022).
    """
    if not name.startswith("backbone."):
        return 1.0
    block = _BLOCK.match(name)
    if block is not None:
        below = depth - int(block[1])
    else:
        below = depth + 1 if name.startswith(("backbone.patch_embed", "backbone.pos_embed")) else 0
    return config.backbone_rate * config.layer_decay**below
