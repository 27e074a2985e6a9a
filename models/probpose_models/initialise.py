"""Start a network from the weights of a relative."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import nn

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import CheckpointError
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_models.checkpoint import MODELS, build_model, checkpoint_contract
from probpose_models.larger_window import WINDOW_RATIO
from probpose_models.open_checkpoint import open_checkpoint
from probpose_models.probpose_m import ProbPoseM
from probpose_models.probpose_s import ProbPoseS


class Initial(NamedTuple):
    """A network, its contract, and the parts that kept fresh weights because the checkpoint does not have them."""

    model: ProbPoseM | ProbPoseS
    contract: ModelContract
    fresh: tuple[str, ...]


def load_initial(
    path: Path, name: str, *, window_ratio: float = WINDOW_RATIO, input_wh: tuple[int, int] | None = None
) -> Initial:
    """The checkpoint as a start for a network of this name, which may have one map more or less than it.

    The map over the input window is shared: it is the only one of a network with one map and the expert of a network
    with two, whose larger map starts fresh. A plain ViTPose can start a probpose-s of its size. `window_ratio` is taken
    for a network with two maps whose checkpoint has one. `input_wh` is the size of the crops, (width, height), that the
    network is to see; without it that of the checkpoint. The contract keeps what the checkpoint says of its keypoints.

    Raises `CheckpointError` as `open_checkpoint`, and for a checkpoint of another architecture or size.
    """
    source, contract = open_checkpoint(path)
    sizes = dict(source.sizes)
    if input_wh is not None and tuple(input_wh) != tuple(source.input_wh):
        if not isinstance(source, ProbPoseM):
            raise CheckpointError(
                f"Only a probpose-m can change the size of its crops, {path} holds a {source.name} for "
                f"{source.input_wh}, and {tuple(input_wh)} was asked for. Leave input_wh out."
            )
        sizes["input_wh"] = tuple(input_wh)
    elif source.name == name:
        return Initial(source, contract, ())
    if name in MODELS and name.startswith("probpose-m") != isinstance(source, ProbPoseM):
        raise CheckpointError(
            f"{path} holds a {source.name}, which shares no weights with a {name}. Start from a checkpoint of the same "
            "network, with one map or two."
        )
    model = build_model(name, source.keypoints, window_ratio=window_ratio, **sizes)
    fresh = copy_shared(source, model)
    plan = checkpoint_contract(model, licence=contract.licence, skeleton=Skeleton.of(contract))
    contract = contract.replace(
        model=plan.model,
        input_wh=plan.input_wh,
        heatmap_wh=plan.heatmap_wh,
        window_ratio=plan.window_ratio,
        map_kind=plan.map_kind,
        decode_kernel=plan.decode_kernel if contract.map_kind != plan.map_kind else contract.decode_kernel,
        temperature=plan.temperature if contract.map_kind != plan.map_kind else contract.temperature,
        presence_scale=plan.presence_scale,
        presence_bias=plan.presence_bias,
        quality_scale=plan.quality_scale,
        quality_bias=plan.quality_bias,
        presence_threshold=plan.presence_threshold,
        accuracy={},
        calibration={},
    )
    return Initial(model, contract, fresh)


def copy_shared(source: nn.Module, target: nn.Module) -> tuple[str, ...]:
    """Copy every tensor that both networks have; returns the top-level parts of the target that have none.

    Raises `CheckpointError` if a shared tensor has another shape; nothing is copied then.
    """
    given, state = source.state_dict(), target.state_dict()
    shared = {name: given[name] for name in state if name in given}
    misshapen = [name for name, value in shared.items() if value.shape != state[name].shape]
    if misshapen:
        raise CheckpointError(
            f"A checkpoint to start from must have the network's shapes; misshapen: {', '.join(misshapen[:5])}. "
            "Start from a checkpoint with the same keypoints and sizes."
        )
    target.load_state_dict(state | shared)
    return tuple(dict.fromkeys(name.split(".")[0] for name in state if name not in given))
