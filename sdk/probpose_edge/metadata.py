"""The contract every deployable file carries: one JSON document, the same in every format.

The SDK takes every such value from the file and none from a default in the code, so the fields below have no
defaults where a wrong value would change a result.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from probpose_edge.exceptions import MetadataError

SCHEMA_VERSION = 1
METADATA_KEY = "probpose_edge"
"""Key in ONNX ``metadata_props`` and CoreML user-defined metadata."""
TFLITE_METADATA_NAME = "probpose_edge.json"
"""Name of the entry in the zip archive appended to a .tflite file."""

FORMATS = ("onnx", "tflite", "coreml", "safetensors")
PRECISIONS = ("fp32", "fp16", "int8")
KERNELS = ("published",)


@dataclass(frozen=True, kw_only=True)
class ModelContract:
    """What a consumer must know to use a file; `K` is the number of keypoints.

    Attributes
    ----------
    model: name of the model, e.g. ``"probpose-m"``.
    format, precision: one of `FORMATS`, one of `PRECISIONS`.
    recipe: name of the quantization recipe, e.g. ``"fp32"``, ``"int8-static"``, ``"int8-dynamic"``.
    keypoint_names: K names, in output order.
    skeleton: pairs of keypoint indices to draw.
    flip_pairs: pairs (left, right) of keypoint indices that swap in a mirrored picture.
    sigmas: K OKS sigmas (COCO convention: the standard deviation of an annotator is ``2 * sigma * sqrt(area)``).
    input_wh: (192, 256): network input in pixels, width first.
    heatmap_wh: (48, 64): cells of a map, width first.
    padding: factor from box to activation window (1.25).
    decode_kernel: name of the expected-OKS kernel, one of `KERNELS`.
    temperature: divisor of the logits before sparsemax.
    presence_scale, presence_bias: K factors and K offsets; the calibrated presence probability is
        ``sigmoid(scale * logit(p) + bias)``. Ones and zeros leave the network's answer alone.
    presence_threshold: a keypoint whose calibrated presence is below it is reported absent.
    checkpoint_sha256: hash of the checkpoint the file was made from.
    versions: library name → version that made the file.
    licence: SPDX identifier of the weights.
    accuracy: measured figures of the full-precision model, name → value, empty if none were measured.
    """

    model: str
    format: str
    precision: str
    recipe: str
    keypoint_names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    input_wh: tuple[int, int]
    heatmap_wh: tuple[int, int]
    padding: float
    decode_kernel: str
    temperature: float
    presence_scale: tuple[float, ...]
    presence_bias: tuple[float, ...]
    presence_threshold: float
    checkpoint_sha256: str
    licence: str
    versions: dict[str, str] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise MetadataError(
                f"This version of probpose-edge reads metadata schema {SCHEMA_VERSION}; the file has schema "
                f"{self.schema_version!r}. Convert the checkpoint again, or install the matching probpose-edge."
            )
        k = len(self.keypoint_names)
        for name in ("sigmas", "presence_scale", "presence_bias"):
            if len(getattr(self, name)) != k:
                raise MetadataError(
                    f"Metadata field {name!r} must have one value per keypoint ({k}), got {len(getattr(self, name))}. "
                    "Convert the checkpoint again."
                )
        for pair in (*self.skeleton, *self.flip_pairs):
            if len(pair) != 2 or not all(0 <= index < k for index in pair):
                raise MetadataError(
                    f"Metadata pairs must index {k} keypoints, got {pair}. Convert the checkpoint again."
                )
        for name, allowed in (("format", FORMATS), ("precision", PRECISIONS), ("decode_kernel", KERNELS)):
            if getattr(self, name) not in allowed:
                raise MetadataError(
                    f"Metadata field {name!r} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}. "
                    "Convert the checkpoint again, or install a newer probpose-edge."
                )
        for name in ("temperature", "padding"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise MetadataError(
                    f"Metadata field {name!r} must be positive, got {value}. Convert the checkpoint again."
                )
        if not 0 <= self.presence_threshold <= 1:
            raise MetadataError(
                f"Metadata field 'presence_threshold' must lie in [0, 1], got {self.presence_threshold}. "
                "Convert the checkpoint again."
            )
        if k == 0 or min(self.sigmas) <= 0 or min(*self.input_wh, *self.heatmap_wh) < 2:
            raise MetadataError(
                "Metadata must name keypoints, positive sigmas and sizes. Convert the checkpoint again."
            )

    def replace(self, **changes: Any) -> ModelContract:
        """A copy with some fields changed; checked like a new one."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """The document that goes into the file."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelContract:
        """Read the document back; raises `MetadataError` on anything that is not one."""
        try:
            data = json.loads(text)
        except (ValueError, UnicodeDecodeError) as error:
            raise MetadataError(
                f"The probpose-edge metadata must be a JSON document, but reading it failed: {error}. "
                "Convert the checkpoint again."
            ) from error
        if not isinstance(data, dict):
            raise MetadataError("The probpose-edge metadata must be a JSON object. Convert the checkpoint again.")
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise MetadataError(
                f"This version of probpose-edge reads metadata schema {SCHEMA_VERSION}; the file has schema "
                f"{version!r}. Convert the checkpoint again, or install the matching probpose-edge."
            )
        known = {f.name for f in dataclasses.fields(cls)}
        required = known - {"versions", "accuracy"}
        if unknown := sorted(set(data) - known):
            raise MetadataError(f"The metadata has unknown fields {unknown}. Install a newer probpose-edge.")
        if missing := sorted(required - set(data)):
            raise MetadataError(f"The metadata lacks the fields {missing}. Convert the checkpoint again.")
        try:
            return cls(**{name: _tuples(value) for name, value in data.items()})
        except (TypeError, AttributeError) as error:
            raise MetadataError(
                f"A metadata field has the wrong type: {error}. Convert the checkpoint again."
            ) from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
