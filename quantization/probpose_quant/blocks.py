"""The blocks of a network: what is quantized, or kept in float, as a whole."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from probpose_edge.exceptions import InputError

_OPENED = ("backbone", "map_head")
"""Parts of a network whose own parts are blocks: the others are small."""
ALWAYS_FLOAT = ("confidence_head",)
"""Parts that no recipe quantizes: a head of a few thousand weights, fitted on the features of the quantized network."""


def block_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the blocks of a network of the family, in its own order.

    A transformer block, an inverted residual or one layer of a pyramid is a block, and so is each scalar head. Parts
    without weights belong to none, and those that are `ALWAYS_FLOAT` are none.
    """
    names: list[str] = []
    for name, part in model.named_children():
        names += _opened(name, part) if name in _OPENED and list(part.children()) else [name]
    return tuple(
        name for name in names if name not in ALWAYS_FLOAT and any(True for _ in model.get_submodule(name).parameters())
    )


def check_blocks(model: nn.Module, wanted: Iterable[str]) -> None:
    """Raise `InputError` for a name that is no block of the network."""
    known = block_names(model)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(
            f"A recipe may keep only blocks of the network in float, and it has no {', '.join(unknown)}. Its blocks: "
            f"{', '.join(known)}."
        )


def lies_in(path: str, blocks: Iterable[str]) -> bool:
    """Whether a module path such as ``backbone.features.3.conv.0`` lies in one of the blocks."""
    return any(path == block or path.startswith(f"{block}.") for block in blocks)


def _opened(name: str, part: nn.Module) -> list[str]:
    names: list[str] = []
    for child_name, child in part.named_children():
        path = f"{name}.{child_name}"
        listed = isinstance(child, (nn.ModuleList, nn.Sequential)) and child_name in ("features", "blocks")
        names += [f"{path}.{index}" for index in range(len(child))] if listed else [path]  # type: ignore[arg-type]
    return names
