"""Checkpoints of routers: safetensors with the router's contract as metadata, like those of pose networks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from probpose_edge.exceptions import CheckpointError, InputError, MetadataError
from probpose_edge.routing.router_contract import RouterContract
from probpose_models.checkpoint import NETWORK_KEY, load_state, read_checkpoint
from probpose_models.router import ProbPoseRouter


def load_router(path: Path) -> tuple[ProbPoseRouter, RouterContract]:
    """Read a router that `probpose_models.checkpoint.save_checkpoint` wrote; it is in float32 and eval mode.

    The returned contract has the file's SHA-256 in ``checkpoint_sha256``.

    Raises
    ------
    CheckpointError: missing, truncated or foreign file, or parameters that are missing, unknown or misshapen.
    MetadataError: no contract inside, that of a pose network, or one of another schema version.
    """
    path = Path(path)
    document, metadata, state = read_checkpoint(path)
    try:
        contract = RouterContract.from_json(document)
    except MetadataError as error:
        raise MetadataError(f"{path}: {error}") from error
    recorded = metadata.get(NETWORK_KEY, "{}")
    try:
        sizes = json.loads(recorded)
        model = ProbPoseRouter(tuple(sizes.pop("input_wh")), **sizes)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, InputError) as error:
        raise CheckpointError(
            f"{path} must record the sizes of a router, got {recorded}: {error}. Save the checkpoint again."
        ) from error
    if model.input_wh != contract.input_wh:
        raise CheckpointError(
            f"{path} says that its router sees crops of {contract.input_wh}, but the network in it of "
            f"{model.input_wh}. Save the checkpoint again."
        )
    load_state(path, model, contract.model, state)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return model.eval(), contract.replace(checkpoint_sha256=digest)
