"""What a conversion is asked for; the same for every format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from probpose_edge.contract.metadata import PRECISIONS, ModelContract
from probpose_edge.exceptions import CheckpointError, InputError
from probpose_models.torch_runtime import TorchRuntime
from probpose_quant.calibrate import check_crops, crops_hash
from probpose_quant.finite_weights import refuse_broken_weights
from probpose_quant.quantization import Quantization
from probpose_quant.smooth_channels import smooth_channels

INT8_RECIPES = ("int8-static", "int8-dynamic", "int8-weights", "palette6", "mixed")
"""Every recipe name of precision ``int8``, weights of at most 8 bits; a format takes some of them."""

CROPS_FOR_CHANNELS = 32
"""Of the calibration crops, to see how far the channels of a transformer reach."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportConfig:
    """One conversion.

    Attributes
    ----------
    out: the file to write, in an existing folder; a file of that name is replaced once the new one is complete.
    precision: ``"fp32"``, ``"fp16"`` or ``"int8"``.
    recipe: one of `INT8_RECIPES` with precision ``"int8"``; None takes the format's default.
    calibration_crops: (M, H, W, 3) uint8 RGB, M >= 1; what a static int8 recipe takes its ranges from.
    parity_crops: (P, H, W, 3) uint8 RGB, P >= 1; the file is compared with the network on these.
    quantization: recipe and ranges that the checkpoint carries; ``int8-static`` then means these, in every format.
    decoded: end the file in keypoints instead of maps (see `probpose_models.decode_in_graph.DecodeInGraph`).
    """

    out: Path
    precision: str
    parity_crops: NDArray[np.uint8]
    recipe: str | None = None
    calibration_crops: NDArray[np.uint8] | None = None
    decoded: bool = False
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(
                f"The precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}. Choose one of them."
            )
        if self.recipe is not None and self.recipe not in INT8_RECIPES:
            raise InputError(
                f"The recipe must be one of {', '.join(INT8_RECIPES)}, got {self.recipe!r}. "
                "Choose one of them, or none."
            )
        if self.recipe is not None and self.precision != "int8":
            raise InputError(
                f"A recipe belongs to precision int8, got recipe {self.recipe!r} with precision {self.precision!r}. "
                "Drop the recipe, or ask for int8."
            )
        _check_crops("Parity crops", self.parity_crops)
        if self.calibration_crops is not None:
            _check_crops("Calibration crops", self.calibration_crops)
        if not self.out.parent.is_dir():
            raise InputError(f"The output folder must exist, but {self.out.parent} does not. Create it first.")


def resolve_recipe(config: ExportConfig, *, default: str, supported: tuple[str, ...], format: str) -> str:
    """The name of the recipe to use: the precision itself for fp32 and fp16, else one of `supported`.

    default: recipe that precision ``int8`` means for this format. ``mixed`` is ``int8-static`` with the saved blocks in
    float. Raises `InputError` for a recipe the format does not have, for ``mixed`` without such blocks, and for a
    static recipe without calibration crops or with crops of one colour.
    """
    if config.precision != "int8":
        return config.precision
    recipe = config.recipe or default
    if recipe == "mixed":
        if config.quantization is None or not config.quantization.recipe.float_blocks:
            raise InputError(
                "The recipe mixed is int8-static with blocks in float, and this checkpoint names none. Name them with "
                "`probpose-edge quantize --float-block NAME`, or let --max-drop find them."
            )
        recipe = "int8-static"
    if recipe not in supported:
        raise InputError(
            f"The int8 recipe of {format} must be one of {', '.join(supported)}, got {recipe!r}. Choose one of them."
        )
    if recipe == "int8-static" and config.calibration_crops is None and config.quantization is None:
        raise InputError(
            "The recipe int8-static takes its ranges from example crops and got none. "
            "Name annotated pictures with --calib (calibration_crops in Python)."
        )
    if recipe == "int8-static" and config.calibration_crops is not None:
        check_crops(config.calibration_crops)
    return recipe


def written_recipe(config: ExportConfig, recipe: str) -> str:
    """What the file's contract calls the recipe: saved ranges have the name they were saved under."""
    return config.quantization.recipe.name if config.quantization and recipe == "int8-static" else recipe


def written_calibration(contract: ModelContract, config: ExportConfig, recipe: str) -> dict[str, float | str]:
    """The contract's record of calibration, and what the ranges of ``int8-static`` were taken from: how many crops,
    and a hash of their pixels."""
    if recipe != "int8-static":
        return contract.calibration
    if config.quantization is not None:
        origin = config.quantization.origin
        known = {name: origin[f"calibration_{name}"] for name in ("crops", "sha256") if f"calibration_{name}" in origin}
    else:
        crops = config.calibration_crops
        assert crops is not None  # resolve_recipe refused that
        known = {"crops": len(crops), "sha256": crops_hash(crops)}
    return {**contract.calibration, **{f"int8_{name}": value for name, value in known.items()}}


def even_network(model: nn.Module, config: ExportConfig, recipe: str) -> nn.Module:
    """The network that an int8 file is made of: a transformer with even channels, where its activations become int8.

    It computes the same (see `probpose_quant.smooth_channels`). Without calibration crops, and with saved ranges, which
    are those of the network as it is, it stays as it is.
    """
    crops = config.calibration_crops
    if recipe not in ("int8-static", "int8-dynamic") or crops is None or config.quantization is not None:
        return model
    return smooth_channels(model, crops[:CROPS_FOR_CHANNELS])


def static_graph(
    network: nn.Module, config: ExportConfig, *, int32_bias: bool, unsigned_activations: bool = False
) -> nn.Module:
    """The graph of the recipe ``int8-static``, from saved ranges or from the calibration crops."""
    from probpose_quant.calibrate import quantize_static
    from probpose_quant.recipes import RECIPES

    saved = config.quantization
    crops = config.parity_crops if saved else config.calibration_crops
    assert crops is not None  # resolve_recipe refused that
    return quantize_static(
        network,
        crops,
        saved.recipe if saved else RECIPES["int8-static"],
        int32_bias=int32_bias,
        unsigned_activations=unsigned_activations,
        ranges=saved.ranges if saved else None,
    )


def check_model(model: nn.Module, contract: ModelContract, config: ExportConfig) -> None:
    """Refuse what no format could hold.

    Raises
    ------
    CheckpointError: a weight is NaN or infinite, or the network has other outputs than its contract says.
    InputError: crops of another size than the network's input.
    """
    refuse_broken_weights(model, contract)
    expected = (contract.input_wh[1], contract.input_wh[0], 3)
    for label, crops in (("Parity crops", config.parity_crops), ("Calibration crops", config.calibration_crops)):
        if crops is not None and crops.shape[1:] != expected:
            raise InputError(
                f"{label} must have shape (N, {expected[0]}, {expected[1]}, 3) for {contract.model}, "
                f"got {crops.shape}. Cut them with probpose_edge.window.crop_windows and the contract's input_wh."
            )
    given = tuple(TorchRuntime(model).run(config.parity_crops[:1]).named())
    if given != contract.output_names:
        raise CheckpointError(
            f"With map_kind {contract.map_kind!r} and window_ratio {contract.window_ratio:g}, {contract.model} must "
            f"give {', '.join(contract.output_names)}, but the network gives {', '.join(given)}. Correct the contract "
            "of the checkpoint."
        )


def _check_crops(label: str, crops: NDArray[np.uint8]) -> None:
    shape = np.shape(crops)
    if len(shape) != 4 or shape[0] < 1 or shape[3] != 3 or crops.dtype != np.uint8:
        raise InputError(
            f"{label} must be at least one uint8 RGB crop, shape (N, H, W, 3), got shape {shape} and type "
            f"{getattr(crops, 'dtype', type(crops).__name__)}. Cut them with probpose_edge.window.crop_windows."
        )
