"""Checkpoints: safetensors with the model's contract as metadata. Nothing in them is executed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from probpose_edge.atomic_write import write_bytes_atomically
from probpose_edge.exceptions import CheckpointError, MetadataError
from probpose_edge.metadata import METADATA_KEY, ModelContract
from probpose_edge.skeleton import COCO_17, Skeleton
from probpose_models.probpose_m import ProbPoseM
from probpose_models.probpose_s import ProbPoseS

MODELS: dict[str, type[ProbPoseM] | type[ProbPoseS]] = {ProbPoseM.name: ProbPoseM, ProbPoseS.name: ProbPoseS}


def build_model(name: str, keypoints: int = 17) -> ProbPoseM | ProbPoseS:
    """A network with fresh weights, by name."""
    if name not in MODELS:
        raise CheckpointError(f"A model must be one of {', '.join(MODELS)}, got {name!r}. Choose one of them.")
    return MODELS[name](keypoints)


def checkpoint_contract(
    model: ProbPoseM | ProbPoseS, *, licence: str = "Apache-2.0", skeleton: Skeleton = COCO_17
) -> ModelContract:
    """The contract of a network in full precision, before any calibration."""
    k = model.keypoints
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
        decode_kernel="published",
        temperature=model.temperature,
        presence_scale=(1.0,) * k,
        presence_bias=(0.0,) * k,
        presence_threshold=0.5,
        checkpoint_sha256="",
        licence=licence,
        versions={"torch": torch.__version__},
    )


def save_checkpoint(path: Path, model: nn.Module, contract: ModelContract) -> None:
    """Write weights and contract; floating-point weights in the precision that the contract names.

    The file appears under its name only when it is complete.
    """
    dtype = torch.float16 if contract.precision == "fp16" else torch.float32
    state = {
        name: value.detach().to(device="cpu", dtype=dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    content = save(state, metadata={METADATA_KEY: contract.to_json()})
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
    if not path.is_file():
        raise CheckpointError(f"A checkpoint must be an existing .safetensors file, got {path}. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            document = (file.metadata() or {}).get(METADATA_KEY)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"A checkpoint must be a complete .safetensors file; reading {path} failed: {error}. "
            "Train or download it again."
        ) from error
    if document is None:
        raise MetadataError(
            f"{path} has no probpose-edge metadata, so its meaning is unknown. "
            "Use a checkpoint written by `probpose-edge train`."
        )
    contract = ModelContract.from_json(document)
    model = build_model(contract.model, len(contract.keypoint_names))
    expected = model.state_dict()
    missing, unknown = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    misshapen = [
        f"{name} {tuple(state[name].shape)} for {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or unknown or misshapen:
        raise CheckpointError(
            f"{path} must hold exactly the parameters of {contract.model}; missing: {missing[:3]}, "
            f"unknown: {unknown[:3]}, misshapen: {misshapen[:3]}. Use a checkpoint of this version."
        )
    model.load_state_dict({name: value.to(expected[name].dtype) for name, value in state.items()})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return model.eval(), contract.replace(checkpoint_sha256=digest)
