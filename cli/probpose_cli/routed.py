"""Open routers and pairs of models for commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from probpose_cli.models import open_for_evaluation
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError
from probpose_edge.extras import import_extra
from probpose_edge.routing.flip_test import flip_test
from probpose_edge.routing.routed_estimator import RoutedEstimator
from probpose_edge.routing.router import Router, read_router_contract

FLIP = "flip"
"""Stands for the small model with a flip test, as the large one."""
ROUTED_HELP = "two models behind a router; `flip` in place of LARGE is the small model with a flip test"


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenPair:
    """A router and both models of a pair, open."""

    router: Router
    small: PoseEstimator
    large: PoseEstimator


@dataclass(frozen=True, kw_only=True)
class RoutedFiles:
    """Files of a router and a pair. large: None is the small model with a flip test."""

    router: Path
    small: Path
    large: Path | None

    @property
    def labels(self) -> tuple[str, str, str]:
        """Their names, for tables."""
        large = f"{self.small.name}, flip test" if self.large is None else self.large.name
        return self.router.name, self.small.name, large


def parse_routed(text: str) -> RoutedFiles:
    """``ROUTER:SMALL:LARGE``, or ``ROUTER:SMALL:flip``; raises `InputError`."""
    parts = text.split(":")
    if len(parts) != 3 or not all(parts):
        raise InputError(
            f"Routing is named by three files, ROUTER:SMALL:LARGE, got {text!r}. Write `flip` in place of LARGE for "
            "the small model with a flip test."
        )
    return RoutedFiles(router=Path(parts[0]), small=Path(parts[1]), large=None if parts[2] == FLIP else Path(parts[2]))


@contextmanager
def open_routed(
    files: RoutedFiles, *, share: float, threads: int | None = None, presence_threshold: float | None = None
) -> Iterator[RoutedEstimator]:
    """A `RoutedEstimator` over the three."""
    with open_pair(files, threads=threads) as pair:
        yield RoutedEstimator(pair.router, pair.small, pair.large, share=share, presence_threshold=presence_threshold)


@contextmanager
def open_pair(files: RoutedFiles, *, threads: int | None = None) -> Iterator[OpenPair]:
    """Open the three, as `open_for_evaluation` does."""
    with ExitStack() as stack:
        router = stack.enter_context(open_router(files.router, threads=threads))
        small = stack.enter_context(open_for_evaluation(files.small, threads=threads))
        large = (
            flip_test(small)
            if files.large is None
            else stack.enter_context(open_for_evaluation(files.large, threads=threads))
        )
        yield OpenPair(router=router, small=small, large=large)


def open_router(path: Path, *, threads: int | None = None) -> Router:
    """A router on its runtime, or, a CoreML package on another system than macOS, simulated."""
    if path.suffix == ".mlpackage" and sys.platform != "darwin":
        import_extra("Simulating CoreML files on this system", "torch", "convert")
        from probpose_convert.mil_executor import MilRuntime

        contract = read_router_contract(path)
        return Router(MilRuntime(path), contract)
    return Router.open(path, threads=None if path.suffix == ".mlpackage" else threads)


def multiply_adds(files: RoutedFiles, pair: OpenPair) -> tuple[float, float, float] | None:
    """Of one crop through the router, the small and the large model; None where a file does not tell."""
    from probpose_eval.benchmark.operator_profile import profile_operators

    counts = []
    for path, input_wh in (
        (files.router, pair.router.contract.input_wh),
        (files.small, pair.small.contract.input_wh),
        (files.large or files.small, pair.large.contract.input_wh),
    ):
        profile = profile_operators(path, input_wh, threads=1) if path.suffix in (".onnx", ".tflite") else None
        if profile is None:
            return None
        counts.append(float(profile.macs))
    return counts[0], counts[1], counts[2] * (2 if files.large is None else 1)
