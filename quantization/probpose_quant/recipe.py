"""What a quantization recipe says."""

from __future__ import annotations

from dataclasses import dataclass

from probpose_edge.exceptions import InputError

OBSERVERS = ("minmax", "percentile", "mse", "entropy")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network becomes int8: weights per channel and symmetric, activations per tensor and affine.

    Attributes
    ----------
    name: what the file's contract calls it, e.g. ``"int8-static"``.
    observer: how the range of an activation follows from the values seen: ``"minmax"`` takes all of them,
        ``"percentile"`` leaves out `tail` on each side, ``"mse"`` takes the range with the least squared error,
        ``"entropy"`` the one whose rounded values are distributed most like all of them.
    tail: share of the values cut off on each side by ``"percentile"``.
    narrowed: ranges are then narrowed one by one where that brings the outputs closer to full precision
        (`probpose_quant.narrow_ranges`).
    linear: quantize linear layers and matrix products too, not convolutions alone.
    float_blocks: blocks of the network that stay in floating point, names of `probpose_quant.blocks.block_names`.
    """

    name: str
    observer: str = "minmax"
    tail: float = 1e-4
    narrowed: bool = False
    linear: bool = True
    float_blocks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.observer not in OBSERVERS:
            raise InputError(
                f"The observer of a recipe must be one of {', '.join(OBSERVERS)}, got {self.observer!r}. Choose one."
            )
        if not 0 <= self.tail < 0.5:
            raise InputError(f"The tail of a recipe must lie in [0, 0.5), got {self.tail}. 1e-4 is usual.")
