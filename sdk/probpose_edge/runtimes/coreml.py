"""Run .mlpackage files with CoreML, on macOS."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import ModelFileError, RuntimeUnavailableError
from probpose_edge.extras import import_extra
from probpose_edge.runtimes.base import (
    EXPECTED_OUTPUTS,
    RawOutputs,
    check_crops,
    closed_error,
    outputs_from,
    outputs_of,
    run_in_parts,
)

LARGEST_BATCH = 16
"""Crops that are handed over together at most; all of them are in memory as pictures."""


class CoreMLRuntime:
    """CoreML, through coremltools, on one .mlpackage; satisfies `Runtime`.

    A package takes one picture: image inputs have no batch axis, so there are no packages for several. Several crops
    are handed over as CoreML's own batch of predictions, which CoreML may overlap as it sees fit.

    Raises `RuntimeUnavailableError` on other systems than macOS, `MissingExtraError` without coremltools or Pillow,
    `ModelFileError` for a package that CoreML cannot load or that has other inputs or outputs.
    """

    provenance = "measured"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if sys.platform != "darwin":
            raise RuntimeUnavailableError(
                f"CoreML runs on macOS only, and this is {sys.platform}. Run the .onnx or .tflite file of the same "
                "model here, or use `probpose-edge report`, whose CoreML rows are simulated."
            )
        coremltools = import_extra("Running .mlpackage files", "coremltools", "coreml")
        self._image_module: ModuleType = import_extra("Running .mlpackage files", "PIL.Image", "coreml")
        try:
            model = coremltools.models.MLModel(os.fspath(path))
            description = model.get_spec().description
        except Exception as error:  # coremltools raises whatever the compiler of the system reports
            reason = " ".join(str(error).split())
            raise ModelFileError(
                f"CoreML cannot load {path}: {reason}. Copy the package again, or convert the checkpoint again."
            ) from error
        inputs = {feature.name: feature.type for feature in description.input}
        found = {feature.name for feature in description.output}
        outputs = outputs_of(found)
        if list(inputs) != ["image"] or not inputs["image"].HasField("imageType") or outputs is None:
            raise ModelFileError(
                f"A probpose-edge .mlpackage has one image input 'image' and {EXPECTED_OUTPUTS}; {path} has "
                f"{sorted(inputs)} and {sorted(found)}. Use a package written by `probpose-edge convert`."
            )
        self._outputs: tuple[str, ...] = outputs
        image = inputs["image"].imageType
        self._input_wh: tuple[int, int] = (int(image.width), int(image.height))
        self._model: Any = model
        self.name = f"CoreML (coremltools {coremltools.__version__})"

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        """Run (N, H, W, 3) uint8 RGB crops; N may be any number, zero included."""
        if self._model is None:
            raise closed_error()
        return run_in_parts(check_crops(crops, self._input_wh), LARGEST_BATCH, self._run)

    def _run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        feeds = [{"image": self._image_module.fromarray(crop)} for crop in crops]
        answers = self._model.predict(feeds) if len(feeds) > 1 else [self._model.predict(feeds[0])]
        return outputs_from(
            {
                name: np.concatenate([np.asarray(answer[name], dtype=np.float32) for answer in answers])
                for name in self._outputs
            }
        )

    def close(self) -> None:
        """Release the model; further calls to `run` are errors."""
        self._model = None
