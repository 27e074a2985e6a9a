"""Write a router as a .tflite file."""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probpose_convert.export_config import ExportConfig, resolve_recipe
from probpose_convert.pending_output import pending_output
from probpose_convert.router_export import (
    RECIPES_OF_ROUTERS,
    RouterResult,
    check_router,
    checked_router,
    written_contract,
)
from probpose_convert.router_network import DeployableRouter
from probpose_convert.tflite_calibrate import activation_ranges, weight_ranges
from probpose_convert.tflite_flatbuffer import operator_name, read_flatbuffer, with_contract
from probpose_convert.tflite_graph import INPUT_NAME, translate
from probpose_convert.tflite_quantize import quantize_tflite
from probpose_edge.exceptions import InputError
from probpose_edge.extras import import_extra
from probpose_edge.routing.router_contract import SCORE_NAME, RouterContract
from probpose_edge.runtimes.litert import LiteRTRuntime
from probpose_models.router import ProbPoseRouter, SpatialGroupEnhance

_PIXELS = 16
"""Neighbours in a row whose channels one cell of a convolution sums; the width of a crop is a multiple of 48."""


def export_router_tflite(model: ProbPoseRouter, contract: RouterContract, config: ExportConfig) -> RouterResult:
    """Convert a router to a self-contained .tflite file for one crop at a time, and compare the two before it is kept.

    Raises as `probpose_convert.tflite_export.export_tflite`.
    """
    recipe = resolve_recipe(config, default="int8-static", supported=RECIPES_OF_ROUTERS, format="TFLite routers")
    if config.out.suffix.lower() != ".tflite":
        raise InputError(f"A TFLite file must be named *.tflite, got {config.out.name!r}. Change its name.")
    check_router(model, contract, config)
    if recipe != "fp32":
        import_extra("Quantizing .tflite files", "ai_edge_quantizer", "convert")
    width, height = contract.input_wh
    content = translate(TfliteRouter(model).eval(), {INPUT_NAME: torch.zeros(1, height, width, 3, dtype=torch.uint8)})
    if recipe == "int8-static":
        crops = config.calibration_crops
        assert crops is not None  # resolve_recipe refused that
        activations = activation_ranges(content, crops)
        ranges = {**activations, **weight_ranges(content, activations)}
        content = quantize_tflite(content, recipe, ranges, float_outputs=_float_outputs(content))
    elif recipe == "fp16":
        content = quantize_tflite(content, recipe)
    names = ["torch", "litert-torch", "ai-edge-litert", *([] if recipe == "fp32" else ["ai-edge-quantizer"])]
    written = written_contract(contract, config, recipe, "tflite", {name: version(name) for name in names})
    with pending_output(config.out) as pending:
        pending.write_bytes(with_contract(content, written))
        return checked_router(pending, LiteRTRuntime(pending), model, written, config)


class ChannelsLastEnhance(nn.Module):
    """`SpatialGroupEnhance` by operators that keep TFLite's channels-last layout: 1×1 convolutions with ones and zeros
    sum over the channels of a group, and give the gate of a group to each of its channels."""

    members: Tensor

    def __init__(self, given: SpatialGroupEnhance, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = given.scale.detach(), given.shift.detach()
        members = torch.zeros(given.groups, channels, 1, 1)
        for group, part in enumerate(torch.arange(channels).chunk(given.groups)):
            members[group, part] = 1
        self.register_buffer("members", members)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        # The mean of g · x over the picture is g · g: taken from x, it is taken from the similarity.
        similarity = F.conv2d((x - mean) * mean, self.members)
        variance = (similarity * similarity).mean((2, 3), keepdim=True)
        gate = torch.sigmoid(similarity * (torch.rsqrt(variance + 1e-5) * self.scale) + self.shift)
        return x * F.conv2d(gate, self.members.transpose(0, 1))


class TfliteRouter(DeployableRouter):
    """`DeployableRouter` in channels-last order, its output named."""

    def __init__(self, model: ProbPoseRouter) -> None:
        super().__init__(model)
        stages = self.model.stages
        widths = (model.channels[0], model.channels[2])
        enhanced = [index for index, layer in enumerate(stages) if isinstance(layer, SpatialGroupEnhance)]
        for index, channels in zip(enhanced, widths, strict=True):
            stages[index] = ChannelsLastEnhance(stages[index], channels)
        # Sums of three channels, of the even pixels of a cell first, then of the odd ones.
        order = torch.arange(_PIXELS).reshape(-1, 2).T.flatten()
        sums = torch.eye(_PIXELS)[order].repeat_interleave(3, dim=1).reshape(_PIXELS, 3 * _PIXELS, 1, 1)
        self.register_buffer("sums", sums, persistent=False)

    sums: Tensor

    def normalise(self, image: Tensor) -> Tensor:
        """As `DeployableRouter.normalise`, in two thirds of the time: a convolution that sums many pixels of a row at
        once, then the larger of neighbours in the row, and of rows; a pooling of one channel is slow in XNNPACK."""
        _, height, width, _ = image.shape
        cells = image.reshape(1, height, width // _PIXELS, 3 * _PIXELS).to(torch.float32).permute(0, 3, 1, 2)
        summed = F.conv2d(cells, self.sums).permute(0, 2, 3, 1)
        larger = torch.maximum(summed[..., : _PIXELS // 2], summed[..., _PIXELS // 2 :])
        rows = larger.reshape(1, height // 2, 2, width // 2)
        return torch.maximum(rows[:, :, 0], rows[:, :, 1]).unsqueeze(1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {SCORE_NAME: super().forward(image)[0]}


def _float_outputs(content: bytes) -> frozenset[str]:
    """Outputs of the operators of the plane and of the first convolution, which stay in float32, as in other formats,
    and of the sums and gates of SGE, whose ranges change from picture to picture."""
    model = read_flatbuffer(content)
    (graph,) = model.subgraphs
    kept = set()
    for operator in graph.operators:
        output = graph.tensors[operator.outputs[0]]
        name, kind = output.name.decode(), operator_name(model, operator)
        in_stage = kind in ("CONV_2D", "FULLY_CONNECTED") and "/stages/" in f"/{name}/" and "members" not in name
        if not in_stage and kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "SLICE", "MAXIMUM", "RESHAPE", "ADD"):
            kept.add(name)
    return frozenset(kept)
