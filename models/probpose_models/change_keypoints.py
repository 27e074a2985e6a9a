"""Give a trained network other keypoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from probpose_edge.skeletons.skeleton import side_and_part
from probpose_models.checkpoint import build_model
from probpose_models.probpose_m import ProbPoseM
from probpose_models.probpose_s import ProbPoseS


def change_keypoints(
    source: ProbPoseM | ProbPoseS, source_names: Sequence[str], names: Sequence[str]
) -> tuple[ProbPoseM | ProbPoseS, tuple[int, ...]]:
    """A network like `source` with other keypoints, and for each of them its index in the source or -1.

    Everything but the last layers is copied. In these, a keypoint that the source knows by name, in any spelling of
    `side_and_part`, keeps its weights; the others start fresh. The network is in the mode of a new one.
    """
    known = {side_and_part(name): index for index, name in enumerate(source_names)}
    origin = tuple(known.get(side_and_part(name), -1) for name in names)
    target = _like(source, len(names))
    with torch.device("meta"):
        one_more = _like(source, len(names) + 1).state_dict()
    given, state = source.state_dict(), target.state_dict()
    for key, value in state.items():
        if value.shape == one_more[key].shape:
            state[key] = given[key]
        else:
            axis = next(i for i, (a, b) in enumerate(zip(value.shape, one_more[key].shape, strict=True)) if a != b)
            state[key] = _rows(value, given[key], origin, axis)
    target.load_state_dict(state)
    return target, origin


def _like(source: ProbPoseM | ProbPoseS, keypoints: int) -> ProbPoseM | ProbPoseS:
    ratio = {"window_ratio": source.window_ratio} if source.window_ratio > 1 else {}
    return build_model(source.name, keypoints, **ratio, **source.sizes)


def _rows(fresh: Tensor, trained: Tensor, origin: tuple[int, ...], axis: int) -> Tensor:
    """The fresh tensor with the trained values of the keypoints that have an origin."""
    kept = [k for k, index in enumerate(origin) if index >= 0]
    chosen = trained.index_select(axis, torch.tensor([origin[k] for k in kept], dtype=torch.int64))
    return fresh.clone().index_copy(axis, torch.tensor(kept, dtype=torch.int64), chosen)
