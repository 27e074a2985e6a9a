"""What a conversion returns: the file, what it is, and how closely it follows the network it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from probpose_convert.export_config import ExportConfig
from probpose_convert.pending_output import size_on_disk
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.routing.router_contract import RouterContract
from probpose_edge.runtimes.base import Runtime

SUFFIXES = {"onnx": ".onnx", "tflite": ".tflite", "coreml": ".mlpackage"}
"""Format → suffix of its files."""
ContractT = TypeVar("ContractT", ModelContract, RouterContract)
ParityT = TypeVar("ParityT")


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Differences between a file and the torch network in full precision, on the same crops.

    Attributes
    ----------
    crops: number of crops compared.
    logits_max_abs: largest absolute difference of a logit; this and the next two are None for a file that decodes its
        maps itself.
    logits_relative: root mean square of the difference, divided by that of the reference.
    map_overlap: mean over maps of ``sum(min(p, q))`` after sparsemax; 1 if all maps are equal, 0 if none touch. Plain
        heatmaps, negative values taken as 0, are first divided by the mean of both sums.
    keypoint_shift_cell: median distance between decoded keypoints, in heatmap cells; the network's are decoded by the
        SDK.
    presence_max_abs, visibility_max_abs, quality_max_abs: largest absolute difference of a probability; of a plain
        heatmap network that of the confidence, which stands for all three.
    probability_mean_abs: mean absolute difference over all probabilities of the three kinds.
    expert_logits_relative, expert_map_overlap, expert_keypoint_shift_cell: the same figures for the second map of a
        network with two, else None.
    confidence_max_abs, confidence_mean_abs: differences of what a confidence head says, else None.
    """

    crops: int
    logits_max_abs: float | None
    logits_relative: float | None
    map_overlap: float | None
    keypoint_shift_cell: float
    presence_max_abs: float
    visibility_max_abs: float
    quality_max_abs: float
    probability_mean_abs: float
    expert_logits_relative: float | None = None
    expert_map_overlap: float | None = None
    expert_keypoint_shift_cell: float | None = None
    confidence_max_abs: float | None = None
    confidence_mean_abs: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExportResult(Generic[ContractT, ParityT]):
    """One converted file, of a pose network (`ModelContract`, `Parity`) or of a router.

    Attributes
    ----------
    path: the file, or the folder of a CoreML package.
    format, precision, recipe: as in the file's own contract.
    size_bytes: size of the file, or of all files of a package.
    contract: what the file says about itself.
    parity: measured before the file got its name.
    runtime: what ran the file for `parity`.
    provenance: ``"measured"`` on the runtime the file is made for, ``"simulated"`` otherwise.
    """

    path: Path
    format: str
    precision: str
    recipe: str
    size_bytes: int
    contract: ContractT
    parity: ParityT
    runtime: str
    provenance: str


def result_of(
    pending: Path, runtime: Runtime, contract: ContractT, config: ExportConfig, parity: ParityT
) -> ExportResult[ContractT, ParityT]:
    """Describe a file that has no name yet; runtime: what ran it, contract: what it says about itself."""
    return ExportResult(
        path=config.out,
        format=contract.format,
        precision=contract.precision,
        recipe=contract.recipe,
        size_bytes=size_on_disk(pending),
        contract=contract,
        parity=parity,
        runtime=runtime.name,
        provenance=runtime.provenance,
    )
