"""Checkpoints: safetensors with the model's contract as metadata. Nothing in them is executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from probpose_edge.atomic_write import write_bytes_atomically
from probpose_edge.contract.metadata import METADATA_KEY, ModelContract
from probpose_edge.exceptions import CheckpointError, InputError, MetadataError
from probpose_edge.routing.router_contract import RouterContract
from probpose_edge.skeletons.skeleton import COCO_17, Skeleton
from probpose_models.larger_window import WINDOW_RATIO
from probpose_models.probpose_m import ProbPoseM
from probpose_models.probpose_s import ProbPoseS

MODELS = ("probpose-m", "probpose-s", "probpose-m-dh", "probpose-s-dh")
NETWORK_KEY = "probpose_edge_network"
"""Metadata entry beside the contract: the sizes of the network, which not every shape tells (attention heads)."""


def build_model(
    name: str, keypoints: int = 17, *, window_ratio: float = WINDOW_RATIO, **sizes: Any
) -> ProbPoseM | ProbPoseS:
    """A network with fresh weights, by name.

    `window_ratio` is that of the networks with two maps (``-dh``); those with one have none. `sizes` are the keywords
    of `ProbPoseS` for other sizes than the published one.

    Raises `CheckpointError` for an unknown name, `InputError` for sizes or a ratio that cannot be.
    """
    if name not in (*MODELS, "vitpose"):
        raise CheckpointError(f"A model must be one of {', '.join(MODELS)}, got {name!r}. Choose one of them.")
    return _network(name, keypoints, window_ratio, sizes)


def _network(name: str, keypoints: int, window_ratio: float, sizes: dict[str, Any]) -> ProbPoseM | ProbPoseS:
    two_maps = name.endswith("-dh")
    if two_maps and not window_ratio > 1:
        raise InputError(
            f"{name} has a map over a larger window, so its window_ratio must be above 1, got {window_ratio}. "
            f"Usual is {WINDOW_RATIO}; for one map take {name.removesuffix('-dh')}."
        )
    ratio = window_ratio if two_maps else 1.0
    if name.startswith("probpose-m"):
        return ProbPoseM(keypoints, window_ratio=ratio, **sizes)
    return ProbPoseS(keypoints, scalar_heads=name != "vitpose", window_ratio=ratio, **sizes)


def checkpoint_contract(
    model: ProbPoseM | ProbPoseS, *, licence: str = "Apache-2.0", skeleton: Skeleton = COCO_17
) -> ModelContract:
    """The contract of a network in full precision, before any calibration.

    A plain heatmap network has confidences instead of presence; the usual threshold of 0.3 on them is taken.
    """
    k = model.keypoints
    plain = model.presence_head is None
    return ModelContract(
        model=model.name,
        format="safetensors",
        precision="fp32",
        recipe="fp32",
        keypoint_names=skeleton.keypoint_names,
        skeleton=skeleton.edges,
        flip_pairs=skeleton.flip_pairs,
        sigmas=skeleton.sigmas,
        input_wh=model.input_wh,
        heatmap_wh=model.heatmap_wh,
        padding=1.25,
        map_kind="heatmap" if plain else "probability",
        window_ratio=model.window_ratio,
        decode_kernel="argmax" if plain else "published",
        temperature=model.temperature,
        presence_scale=(1.0,) * k,
        presence_bias=(0.0,) * k,
        presence_threshold=0.3 if plain else 0.5,
        checkpoint_sha256="",
        licence=licence,
        versions={"torch": torch.__version__},
    )


def save_checkpoint(
    path: Path, model: nn.Module, contract: ModelContract | RouterContract, *, extra: Mapping[str, str] | None = None
) -> None:
    """Write weights and contract; floating-point weights in the precision that the contract names.

    extra: more entries of text for the file's metadata, which `load_checkpoint` passes over. The file appears under
    its name only when it is complete.
    """
    dtype = torch.float16 if contract.precision == "fp16" else torch.float32
    state = {
        name: value.detach().to(device="cpu", dtype=dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    sizes = json.dumps(getattr(model, "sizes", {}))
    content = save(state, metadata={**(extra or {}), METADATA_KEY: contract.to_json(), NETWORK_KEY: sizes})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, content)


def load_checkpoint(path: Path) -> tuple[ProbPoseM | ProbPoseS, ModelContract]:
    """Read a checkpoint written by `save_checkpoint`; the network is in float32 and eval mode.

    The returned contract has the file's SHA-256 in ``checkpoint_sha256``.

    Raises
    ------
    CheckpointError: missing, truncated or foreign file, or parameters that are missing, unknown or misshapen.
    MetadataError: no contract inside, or one of another schema version.
    """
    path = Path(path)
    document, metadata, state = read_checkpoint(path)
    contract = ModelContract.from_json(document)
    model = _recorded_network(path, contract, metadata.get(NETWORK_KEY, "{}"))
    load_state(path, model, contract.model, state)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return model.eval(), contract.replace(checkpoint_sha256=digest)


def read_checkpoint(path: Path) -> tuple[str, dict[str, str], dict[str, Tensor]]:
    """The contract's document, all metadata and all tensors of a .safetensors file, of whatever network.

    Raises `CheckpointError` for a missing, truncated or foreign file, `MetadataError` for one without a contract.
    """
    if not path.is_file():
        raise CheckpointError(f"A checkpoint must be an existing .safetensors file, got {path}. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"A checkpoint must be a complete .safetensors file; reading {path} failed: {error}. "
            "Train or download it again."
        ) from error
    document = metadata.get(METADATA_KEY)
    if document is None:
        raise MetadataError(
            f"{path} has no probpose-edge metadata, so its meaning is unknown. "
            "Use a checkpoint written by `probpose-edge train`."
        )
    return document, metadata, state


def load_state(path: Path, model: nn.Module, name: str, state: Mapping[str, Tensor]) -> None:
    """Put the tensors of a checkpoint into the network called `name`; raises `CheckpointError` unless they fit it."""
    expected = model.state_dict()
    missing, unknown = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    misshapen = [
        f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if missing or unknown or misshapen:
        raise CheckpointError(
            f"{path} must hold exactly the parameters of {name}; missing: {missing[:3]}, "
            f"unknown: {unknown[:3]}, misshapen: {misshapen[:3]}. Use a checkpoint of this version."
        )
    model.load_state_dict({key: value.to(expected[key].dtype) for key, value in state.items()})


def _recorded_network(path: Path, contract: ModelContract, recorded: str) -> ProbPoseM | ProbPoseS:
    """The network that a checkpoint says it holds, with fresh weights."""
    if contract.model not in (*MODELS, "vitpose"):
        raise CheckpointError(
            f"A checkpoint's model must be one of {', '.join(MODELS)}, vitpose; {path} says {contract.model!r}. "
            "Install a newer probpose-edge."
        )
    try:
        sizes = json.loads(recorded)
        model = _network(contract.model, len(contract.keypoint_names), contract.window_ratio, sizes)
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} must record the sizes of a {contract.model}, got {recorded} and a window_ratio of "
            f"{contract.window_ratio}: {error}. Save the checkpoint again."
        ) from error
    if model.window_ratio != contract.window_ratio:
        raise CheckpointError(
            f"{path} says that its {contract.model} has a window_ratio of {contract.window_ratio}, but that network "
            "has one map. Save the checkpoint again."
        )
    return model
