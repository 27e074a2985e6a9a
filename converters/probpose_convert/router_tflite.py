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
        self.register_buffer("ones", torch.ones(1, 3, 1, 1), persistent=False)

    ones: Tensor

    def normalise(self, image: Tensor) -> Tensor:
        # A convolution with ones takes XNNPACK half the time of a sum.
        return F.max_pool2d(F.conv2d(image.to(torch.float32).permute(0, 3, 1, 2), self.ones), 2, 2)

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
        if not in_stage and kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "ADD"):
            kept.add(name)
    return frozenset(kept)
