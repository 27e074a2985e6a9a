"""Quantization-aware training: a network learns to give in int8 what it gives in full precision.

The teacher is the network itself before quantization (self-distillation): its maps, presence, visibility and quality.
So pictures with boxes are enough, labels are not used, and what is learned is to be like the network that was judged.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.exceptions import InputError, TrainingError
from probpose_models.confidence_head import without_confidence_head
from probpose_models.outputs import PoseOutputs
from probpose_models.torch_runtime import TorchRuntime
from probpose_models.vit import VisionTransformer
from probpose_quant.blocks import check_blocks
from probpose_quant.calibrate import export_graph
from probpose_quant.drift import OutputDrift, output_drift
from probpose_quant.finite_weights import refuse_broken_weights
from probpose_quant.fixed_ranges import ranges_of
from probpose_quant.frozen_norms import freeze_norms, thaw_norms
from probpose_quant.graph_runtime import GraphRuntime, TrainedOutputs
from probpose_quant.narrow_ranges import recipe_ranges
from probpose_quant.qat_config import QatConfig
from probpose_quant.quantization import Quantization
from probpose_quant.ranges import Range
from probpose_quant.recipe import Recipe
from probpose_train.config import LossConfig
from probpose_train.distill import Teacher, distillation_losses

ORDER = ("prepare", "step", "report", "finalize")


@dataclass(frozen=True, kw_only=True)
class QatReport:
    """Drift from full precision on crops that were not trained on, after `steps`, and before the first one."""

    steps: int
    before: OutputDrift
    now: OutputDrift


class QuantizationAwareTraining:
    """One run: `prepare`, `step` as often as its configuration says or less, `report`, `finalize`, in this order.

    `prepare` finds ranges on example crops and builds the fake-quantized graph, or `restore` takes both from an earlier
    run's `state`; `step` trains on one batch; `report` says what was reached; `finalize` gives the
    network and its quantization. The given network is not changed.

    Raises
    ------
    InputError: blocks that the network does not have, a plain heatmap network.
    CheckpointError: weights that are not finite.
    TrainingError: calls out of order, a loss that is not finite.
    """

    def __init__(
        self, model: nn.Module, contract: ModelContract, recipe: Recipe, config: QatConfig, *, device: str = "cpu"
    ) -> None:
        if contract.map_kind != "probability":
            raise InputError(
                f"Quantization-aware training needs probability maps and presence, and {contract.model} gives plain "
                "heatmaps. Quantize it after training (without --qat)."
            )
        model, contract = without_confidence_head(model, contract)
        check_blocks(model, recipe.float_blocks)
        refuse_broken_weights(model, contract)
        self.recipe, self.config, self.contract = recipe, config, contract
        self._device = torch.device(device)
        self._float = copy.deepcopy(model).eval().requires_grad_(False)
        if isinstance(self._float.backbone, VisionTransformer):
            self._float.backbone.set_drop_path(0.0)
        self._last = ""
        self.steps_done = 0

    def prepare(self, calibration_crops: NDArray[np.uint8], *, progress: Any = None) -> None:
        """Find the ranges that training starts from; crops (M, H, W, 3) uint8 RGB."""
        self._require("prepare", after=("",))
        self._build(recipe_ranges(self._float, self.contract, calibration_crops, self.recipe, progress=progress))
        self._last = "prepare"

    def step(self, crops: Tensor) -> dict[str, float]:
        """One optimizer step on crops (N, H, W, 3) uint8 RGB; returns the loss terms."""
        self._require("step", after=("prepare", "step", "report"))
        self._set_rates()
        crops = crops.to(self._device, non_blocking=True)
        with torch.no_grad():
            taught = PoseOutputs(*self._teacher_outputs(crops))
        terms = distillation_losses(self._teacher, taught, PoseOutputs(*self._graph(crops)), self._weights)
        total = torch.stack(list(terms.values())).sum()
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self._graph.parameters(), self.config.clip_norm)
        loss, gradient = float(total.detach()), float(norm)
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            raise TrainingError(
                f"The loss and its gradient must stay finite, but at step {self.steps_done + 1} they are {loss} "
                f"and {gradient}. The weights were not changed by that step; lower the learning rate."
            )
        self._optimizer.step()
        self.steps_done += 1
        self._last = "step"
        return {**{name: float(value.detach()) for name, value in terms.items()}, "total": loss}

    def report(self, crops: NDArray[np.uint8]) -> QatReport:
        """Compare with full precision on crops (M, H, W, 3) uint8 RGB that were not trained on."""
        self._require("report", after=("step", "report"))
        expected = TorchRuntime(self._float).run(crops)
        trained = copy.deepcopy(self._graph.state_dict())
        drifts = []
        for state in (self._first, trained):
            self._graph.load_state_dict(state)
            drifts.append(output_drift(expected, GraphRuntime(self._graph).run(crops), self.contract))
        self._last = "report"
        return QatReport(steps=self.steps_done, before=drifts[0], now=drifts[1])

    def finalize(self) -> tuple[nn.Module, Quantization]:
        """The network with its trained weights, in full precision, and how it becomes int8."""
        self._require("finalize", after=("report",))
        network = {
            name.removeprefix("model."): value.detach().cpu()
            for name, value in self._graph.named_parameters()
            if name.startswith("model.")
        }
        origin: dict[str, float | str] = {"method": "quantization-aware training", "steps": self.steps_done}
        self._last = "finalize"
        model = thaw_norms(self._float.cpu(), network).requires_grad_(True)
        return model, Quantization(
            recipe=self.recipe, ranges=self.ranges, reasons=dict.fromkeys(self.recipe.float_blocks, "asked for"),
            origin=origin,
        )  # fmt: skip

    @property
    def ranges(self) -> dict[str, Range]:
        """The ranges as learned so far."""
        return ranges_of(self._graph)

    def graph_runtime(self) -> GraphRuntime:
        """The fake-quantized network as it is now, for the SDK."""
        self._require("graph_runtime", after=("prepare", "step", "report", "finalize"))
        return GraphRuntime(self._graph)

    def state(self) -> dict[str, Any]:
        """What `restore` needs: tensors, numbers and strings, which load without executing code."""
        self._require("state", after=("prepare", "step", "report"))
        return {
            **self._identity(),
            "steps_done": self.steps_done,
            "start": [[name, low, high] for name, (low, high) in self._start.items()],
            "graph": self._graph.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; in place of `prepare`.

        Raises `TrainingError` if it belongs to another recipe, configuration or checkpoint.
        """
        self._require("restore", after=("",))
        for name, mine in self._identity().items():
            theirs = state.get(name)
            if theirs != mine:
                raise TrainingError(
                    f"Quantization-aware training is resumed with the {name} it began with, {theirs}, but now it is "
                    f"{mine}. Give the same again, or start over with another --out."
                )
        self._build({name: (low, high) for name, low, high in state["start"]})
        self._graph.load_state_dict(state["graph"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.steps_done = int(state["steps_done"])
        self._last = "step" if self.steps_done else "prepare"

    def _identity(self) -> dict[str, str]:
        return {
            "recipe": repr(self.recipe),
            "settings": self.config.to_json(),
            "checkpoint": self.contract.checkpoint_sha256,
        }

    def _require(self, call: str, *, after: tuple[str, ...]) -> None:
        if self._last not in after:
            came = f"after {self._last}" if self._last else "first"
            raise TrainingError(
                f"Quantization-aware training goes {', '.join(ORDER)}, in this order, but {call} was called {came}. "
                f"Call {' or '.join(after) if after != ('',) else 'it on a new run'}"
                f"{' before it' if after != ('',) else ''}."
            )

    def _build(self, ranges: dict[str, Range]) -> None:
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

        from probpose_quant.quantizer import ProbPoseQuantizer

        self._start = ranges
        network = TrainedOutputs(freeze_norms(self._float).requires_grad_(True))
        width, height = self.contract.input_wh
        graph = export_graph(network, (height, width))
        quantizer = ProbPoseQuantizer(self.recipe, ranges=ranges, trained=True)
        self._graph: GraphModule = prepare_qat_pt2e(graph, quantizer).to(self._device)
        self._first = copy.deepcopy(self._graph.state_dict())
        self._teacher_outputs = TrainedOutputs(self._float).to(self._device)
        self._teacher = Teacher(contract=self.contract, student=self.contract, model=self._float)
        self._weights = LossConfig()
        steps = [value for name, value in self._graph.named_parameters() if name.endswith("log2_scale")]
        weights = [value for name, value in self._graph.named_parameters() if not name.endswith("log2_scale")]
        self._optimizer = torch.optim.AdamW(
            [{"params": weights, "peak": self.config.learning_rate}, {"params": steps, "peak": self.config.range_rate}],
            weight_decay=0.0,
        )

    def _set_rates(self) -> None:
        config, step = self.config, self.steps_done
        warm = max(1, config.steps // 10)
        along = min(1.0, step / config.steps)
        factor = min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * along))
        weights, ranges = self._optimizer.param_groups
        weights["lr"] = weights["peak"] * factor
        ranges["lr"] = ranges["peak"] * factor if along < config.freeze_ranges else 0.0
