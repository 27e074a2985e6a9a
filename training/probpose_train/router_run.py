"""Write a trained router as a checkpoint with its contract."""

from __future__ import annotations

from pathlib import Path

import torch

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.routing.router_contract import RouterContract
from probpose_models.checkpoint import save_checkpoint
from probpose_models.router import ROUTER_NAME
from probpose_train.router_fit import RouterFit


def save_router(path: Path, fit: RouterFit, member: ModelContract, names: tuple[str, str]) -> RouterContract:
    """Save a router trained for a pair, of which `member` is one contract and `names` the names, small before large.

    Returns the contract in the file, which appears complete or not at all.
    """
    contract = RouterContract(
        model=ROUTER_NAME,
        format="safetensors",
        precision="fp32",
        recipe="fp32",
        input_wh=fit.model.input_wh,
        padding=member.padding,
        small=names[0],
        large=names[1],
        keypoint_names=member.keypoint_names,
        score_quantiles=fit.quantiles,
        checkpoint_sha256="",
        licence=member.licence,
        versions={"torch": torch.__version__},
        accuracy=fit.figures,
    )
    save_checkpoint(path, fit.model, contract)
    return contract
