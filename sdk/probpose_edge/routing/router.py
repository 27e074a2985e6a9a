"""Run a router: crops in, scores out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probpose_edge.contract.read_contract import read_document
from probpose_edge.exceptions import MetadataError, ModelFileError
from probpose_edge.routing.router_contract import SCORE_NAME, RouterContract
from probpose_edge.runtimes.base import Runtime
from probpose_edge.runtimes.open_runtime import open_runtime


class Routes(Protocol):
    """What a `RoutedEstimator` needs of a `Router`."""

    @property
    def contract(self) -> RouterContract: ...

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float64]: ...

    def close(self) -> None: ...


class Router:
    """Says for crops how much of the small model's error the large one would remove; a context manager.

    Use `Router.open`; the constructor is for runtimes of one's own, whose ``run(crops).named()`` has `score`.
    """

    def __init__(self, runtime: Runtime, contract: RouterContract) -> None:
        self.runtime, self.contract = runtime, contract

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        providers: Sequence[str | tuple[str, dict[str, Any]]] | None = None,
    ) -> Router:
        """Open a .onnx, .tflite or .mlpackage router; the rest is as in `PoseEstimator.open`.

        Raises as `PoseEstimator.open`, and `MetadataError` for the file of a pose model.
        """
        return cls(open_runtime(path, threads=threads, providers=providers), read_router_contract(path))

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N,) float64 scores of (N, H, W, 3) uint8 RGB crops of the contract's input size; N may be 0.

        Raises `InputError` for other crops, `ModelFileError` for outputs that are not N finite scores.
        """
        values = self.runtime.run(crops).named().get(SCORE_NAME)
        if values is None or values.size != len(crops) or not np.isfinite(values).all():
            raise ModelFileError(
                f"A router must give one finite score per crop, but {self.contract.model} gave "
                f"{'none' if values is None else values.ravel().tolist()[:4]} for {len(crops)} crops. Convert it again."
            )
        return np.asarray(values, dtype=np.float64).reshape(len(crops))

    def close(self) -> None:
        """Release the model; further calls are errors."""
        self.runtime.close()

    def __enter__(self) -> Router:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_router_contract(path: str | os.PathLike[str]) -> RouterContract:
    """The contract of a .onnx, .tflite or .mlpackage router; raises as `read_contract`."""
    document = read_document(path)
    try:
        return RouterContract.from_json(document)
    except MetadataError as error:
        raise MetadataError(f"{os.fspath(path)}: {error}") from error
