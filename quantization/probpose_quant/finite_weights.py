"""Weights that are numbers."""

from __future__ import annotations

from torch import nn

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import CheckpointError
from probpose_edge.routing.router_contract import RouterContract


def refuse_broken_weights(model: nn.Module, contract: ModelContract | RouterContract) -> None:
    """Raise `CheckpointError` if a weight or a running statistic is NaN or infinite."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise CheckpointError(
                f"The weights must be finite, but {name} of {contract.model} has NaN or infinite values. "
                "Use a checkpoint from before training diverged."
            )
