"""Refuse routers and models that do not belong together."""

from __future__ import annotations

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_edge.routing.router import Routes
from probpose_edge.routing.router_contract import RouterContract


def check_members(router: Routes, small: PoseEstimator, large: PoseEstimator) -> None:
    """Raise `InputError`, saying what differs, unless both models and the router see the same windows and keypoints."""
    if not isinstance(getattr(router, "contract", None), RouterContract) or not callable(router):
        raise InputError(
            f"The router of a RoutedEstimator must be an open router, got {type(router).__name__}. Open its file with "
            "Router.open, and name router, small and large model in this order."
        )
    for name, member in (("small", small), ("large", large)):
        if not isinstance(member, PoseEstimator):
            raise InputError(
                f"The {name} model of a RoutedEstimator must be a PoseEstimator, got {type(member).__name__}. Open its "
                "file with PoseEstimator.open, and name router, small and large model in this order."
            )
    ours, theirs, choice = small.contract, large.contract, router.contract
    check_pair(ours, theirs)
    if choice.keypoint_names != ours.keypoint_names:
        raise InputError(
            f"A router must be made for the keypoints of its models, but {choice.model} is for "
            f"{_names(choice.keypoint_names)} and {ours.model} has {_names(ours.keypoint_names)}. Train one for this "
            "pair's skeleton."
        )
    if choice.padding != ours.padding:
        raise InputError(
            f"A router must see the window of its models, but {choice.model} has padding {choice.padding:g} and they "
            f"have {ours.padding:g}. Train one for this padding."
        )
    if choice.input_wh not in (ours.input_wh, theirs.input_wh):
        raise InputError(
            "A router must take crops of the size of one of its models, but "
            f"{choice.model} takes {_size(choice.input_wh)} and they take {_size(ours.input_wh)} and "
            f"{_size(theirs.input_wh)} pixels. Use a router of either size."
        )


def check_pair(small: ModelContract, large: ModelContract) -> None:
    """Raise `InputError`, saying what differs, unless both models see the same windows and keypoints."""
    if small.keypoint_names != large.keypoint_names or small.flip_pairs != large.flip_pairs:
        raise InputError(
            f"Both models of a RoutedEstimator must have the same skeleton, but {small.model} has "
            f"{_names(small.keypoint_names)} and {large.model} has {_names(large.keypoint_names)}. Use models of one "
            "skeleton."
        )
    (w, h), (wide, high) = small.input_wh, large.input_wh
    windows = [(each.padding, each.activation_padding) for each in (small, large)]
    if w * high != h * wide or windows[0] != windows[1]:
        raise InputError(
            "Both models of a RoutedEstimator must see the same window of a person, but "
            + " and ".join(
                f"{each.model} takes {_size(each.input_wh)} pixels with padding {each.padding:g} and looks for "
                f"keypoints in {each.activation_padding:g}"
                for each in (small, large)
            )
            + ". Use models of one aspect and one padding."
        )
    if small.map_kind != large.map_kind:
        raise InputError(
            "Both models of a RoutedEstimator must be of one kind, but "
            f"{small.model} has {small.map_kind} maps and {large.model} {large.map_kind} maps: their presence and "
            "quality mean different things. Use models of one kind."
        )


def _names(keypoint_names: tuple[str, ...]) -> str:
    return f"{len(keypoint_names)} keypoints ({', '.join(keypoint_names[:3])}, …)"


def _size(input_wh: tuple[int, int]) -> str:
    return "x".join(map(str, input_wh))
