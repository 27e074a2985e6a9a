"""Published ProbPose and ViTPose checkpoints as networks of this project."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import CheckpointError, InputError
from probpose_edge.skeletons.skeleton import COCO_17, Skeleton
from probpose_models.checkpoint import checkpoint_contract
from probpose_models.probpose_s import ProbPoseS
from probpose_models.read_pth import read_pth
from probpose_models.release_names import UNUSED, ReleaseNames

PUBLISHED_PRESENCE_THRESHOLD = 0.45
"""From the published configuration; a plain ViTPose keeps the threshold of its contract."""
LICENCE = "unknown: see the source"


class Release(NamedTuple):
    """Network in float32 and eval mode, its contract, and the names in the file that were left out because they take
    no part in the result (the head that estimates errors)."""

    model: ProbPoseS
    contract: ModelContract
    dropped: tuple[str, ...]


def load_release(path: Path, *, skeleton: Skeleton | None = None, licence: str = LICENCE) -> Release:
    """Read a published ProbPose ``.pth``, or a plain ViTPose one, which has no presence, visibility and quality.

    Sizes come from the shapes. The number of attention heads cannot: it is the ``num_heads`` of the configuration in
    the file's ``meta`` where there is one, else that of the published networks, 16 from 1024 channels on and 12 below.
    The keypoints are those that ``meta`` describes, else, where there are 17, those of COCO; `skeleton` overrules both.
    ``checkpoint_sha256`` of the contract is the hash of the given file.

    Raises
    ------
    CheckpointError: as `read_pth`; another architecture; parameters missing, unknown or misshapen, by the file's names;
        keypoints that nothing describes.
    """
    path = Path(path)
    state, meta = read_pth(path)
    names = ReleaseNames(state)
    model = _network(path, state, names, meta)
    _fill(path, model, state, names)
    skeleton = skeleton or _skeleton(path, meta, model.keypoints)
    if len(skeleton.keypoint_names) != model.keypoints:
        raise CheckpointError(
            f"The skeleton must have as many keypoints as {path}, {model.keypoints}, got "
            f"{len(skeleton.keypoint_names)}. Pass the one that the network was trained on."
        )
    contract = checkpoint_contract(model, licence=licence, skeleton=skeleton)
    if contract.map_kind == "probability":
        contract = contract.replace(presence_threshold=PUBLISHED_PRESENCE_THRESHOLD)
    contract = contract.replace(checkpoint_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return Release(model.eval(), contract, tuple(name for name in state if name.startswith(UNUSED)))


def _network(path: Path, state: dict[str, Tensor], names: ReleaseNames, meta: dict[str, Any]) -> ProbPoseS:
    """A fresh network of the file's sizes."""
    telling = [names.of(f"{part}.weight") for part in ("backbone.patch_embed", "map_head.final")]
    telling += [names.of(f"map_head.deconvolutions.{index}.weight") for index in (0, 3)]
    missing = [name for name in telling if name not in state or state[name].ndim != 4]
    first_block = names.of("backbone.blocks.0.norm1.weight")
    if missing or first_block not in state:
        raise CheckpointError(
            f"{path} must hold a plain vision transformer with two deconvolutions (ProbPose or ViTPose), but lacks "
            f"{', '.join(missing or [first_block])}; it holds {', '.join(list(state)[:3])} … "
            "Networks of another architecture are not supported."
        )
    patches, final, *deconvolutions = (state[name] for name in telling)
    block = re.compile(re.escape(first_block).replace(r"\.0\.", r"\.\d+\.", 1))
    channels = patches.shape[0]
    try:
        return ProbPoseS(
            final.shape[0],
            channels=channels,
            depth=sum(bool(block.fullmatch(name)) for name in state),
            heads=_heads(meta, channels),
            deconvolutions=(deconvolutions[0].shape[1], deconvolutions[1].shape[1]),
            scalar_heads=any(re.match(r"head\.(probability|visibility|oks)_layers\.", name) for name in state),
        )
    except InputError as error:
        raise CheckpointError(f"{path} must hold a network of sizes that fit together: {error}") from error


def _heads(meta: dict[str, Any], channels: int) -> int:
    """Number of attention heads, see `load_release`."""
    written = {int(n) for n in re.findall(r"num_heads['\"]?\s*[:=]\s*(\d+)", str(meta.get("cfg", "")))}
    if len(written) == 1:
        return written.pop()
    return 16 if channels >= 1024 else 12


def _fill(path: Path, model: ProbPoseS, state: dict[str, Tensor], names: ReleaseNames) -> None:
    """Put the file's values into the network, all or none."""
    expected = {names.of(ours): (ours, value) for ours, value in model.state_dict().items()}
    positions = "backbone.pos_embed"
    if names.earlier_backbone and positions in state and state[positions].shape[1] == 193:
        # There the first position belongs to a class token that the network does not have; it is added to every patch.
        state = state | {positions: state[positions][:, 1:] + state[positions][:, :1]}
    # A counter of batches, which no result depends on and which older files lack.
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in expected and not name.startswith(UNUSED)]
    misshapen = [
        f"{name} {tuple(state[name].shape)} for {tuple(value.shape)}"
        for name, (_, value) in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or unknown or misshapen:
        raise CheckpointError(
            f"{path} must hold exactly the parameters of a {model.name} for pictures of 192 x 256; missing: "
            f"{_shortened(missing)}; unknown: {_shortened(unknown)}; misshapen: {_shortened(misshapen)}. "
            "Pass a published ProbPose or ViTPose checkpoint of that input size."
        )
    model.load_state_dict(
        {ours: state[name].to(value.dtype) if name in state else value for name, (ours, value) in expected.items()}
    )


def _shortened(names: list[str]) -> str:
    return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "none"


def _skeleton(path: Path, meta: dict[str, Any], keypoints: int) -> Skeleton:
    """The keypoints as ``meta["dataset_meta"]`` describes them, else those of COCO."""
    described = meta.get("dataset_meta")
    if isinstance(described, dict) and "keypoint_id2name" in described and "sigmas" in described:
        try:
            flips = enumerate(described.get("flip_indices", ()))
            return Skeleton(
                keypoint_names=tuple(str(described["keypoint_id2name"][index]) for index in range(keypoints)),
                edges=tuple((int(a), int(b)) for a, b in described.get("skeleton_links", ())),
                flip_pairs=tuple((index, int(other)) for index, other in flips if index < int(other)),
                sigmas=tuple(float(sigma) for sigma in described["sigmas"]),
            )
        except (LookupError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} describes its {keypoints} keypoints in a way that cannot be used ({error!r}). "
                "Pass their skeleton."
            ) from error
    if keypoints == len(COCO_17.keypoint_names):
        return COCO_17
    raise CheckpointError(
        f"{path} has {keypoints} keypoints and does not say which; only 17 are taken to be those of COCO. "
        "Pass their skeleton."
    )
