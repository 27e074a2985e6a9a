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

SCHEMA_VERSION = 3
"""What is written. Older ones are read too: files of schema 1 have one probability map and no record of a calibration,
those of schema 1 and 2 no calibration of the quality and no keypoints decoded in the file."""
READABLE_SCHEMAS = (1, 2, 3)
METADATA_KEY = "probpose_edge"
"""Key in ONNX ``metadata_props`` and CoreML user-defined metadata."""
TFLITE_METADATA_NAME = "probpose_edge.json"
"""Name of the entry in the zip archive appended to a .tflite file."""

FORMATS = ("onnx", "tflite", "coreml", "safetensors")
PRECISIONS = ("fp32", "fp16", "int8")
KERNELS = ("published", "oks", "argmax")
MAP_KINDS = ("probability", "heatmap")
OUTPUT_KINDS = ("logits", "decoded")
DECODED_NAMES = ("keypoints", "presence", "visibility", "quality", "expected_oks")
"""Outputs of a file that decodes its maps itself, of whatever kind they are."""
ROUTER_KIND, ROUTER_NAMES = "router", ("score",)
"""What the metadata of a router say in place of a pose model's, see `probpose_edge.routing`, and its outputs."""
_NEW_IN_SCHEMA = {
    2: frozenset({"map_kind", "window_ratio", "calibration"}),
    3: frozenset({"quality_scale", "quality_bias", "output_kind", "self_test", "scores", "confidence_head"}),
}


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
    padding: factor from box to input window (1.25), the part of the plane that the network sees.
    window_ratio: size of the activation window, in which keypoints are looked for, over the input window. 1 if there
        is one map, over the input window. Above 1 the file has one more output ``expert_logits`` (N, K, H, W): a map
        over the input window, while ``logits`` is over the activation window (same center, same number of cells) and
        presence is about the activation window.
    map_kind: one of `MAP_KINDS`. ``"probability"``: maps are ``Sparsemax(logits / temperature)``. ``"heatmap"``: the
        output ``logits`` is a plain heatmap, taken as it comes and decoded by its argmax; its peak value, clipped to
        [0, 1], is the confidence and stands for presence, visibility and quality, which the file does not have.
    output_kind: one of `OUTPUT_KINDS`. ``"logits"``: maps leave the file and the SDK decodes them. ``"decoded"``: the
        file decodes them itself, with the kernel, temperature and calibration it was made with, and gives ``keypoints``
        (N, K, 2), x before y, in pixels of the input crop, and ``expected_oks`` in place of maps. Its presence and
        quality are calibrated already: scales and biases of the contract are ones and zeros.
    decode_kernel: how maps are decoded, one of `KERNELS` (see `probpose_edge.decode.decode_maps`).
    temperature: divisor of the logits before sparsemax.
    presence_scale, presence_bias: K factors and K offsets; the calibrated presence probability is
        ``sigmoid(scale * logit(p) + bias)``. Ones and zeros leave the network's answer alone.
    presence_threshold: a keypoint whose calibrated presence is below it is reported absent.
    quality_scale, quality_bias: the same for the quality; left out, they are ones and zeros.
    checkpoint_sha256: hash of the checkpoint the file was made from.
    versions: library name → version that made the file.
    licence: SPDX identifier of the weights.
    accuracy: measured figures of the full-precision model, name → value, empty if none were measured.
    calibration: what calibration measured, name → number or text, empty if there was none.
    scores: how the score of a person is made (see `probpose_edge.scores.score_head`), empty for the mean quality of the
        present keypoints. Files of schema 3 that are older do not have it.
    confidence_head: whether the file has one more output ``confidence`` (N, K, 2): of each keypoint the OKS that a head
        learned on the frozen network expects, and the probability that it counts in the OKS of the person. Files of
        schema 3 that are older do not have the field.
    self_test: what the network answers to two drawn crops (see `contract.self_test`), empty if not recorded.
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
    quality_scale: tuple[float, ...] = ()
    quality_bias: tuple[float, ...] = ()
    map_kind: str = "probability"
    window_ratio: float = 1.0
    output_kind: str = "logits"
    versions: dict[str, str] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    calibration: dict[str, float | str] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    confidence_head: bool = False
    self_test: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise _schema_error(self.schema_version)
        k = len(self.keypoint_names)
        for name, neutral in (("quality_scale", 1.0), ("quality_bias", 0.0)):
            if getattr(self, name) == ():
                object.__setattr__(self, name, (neutral,) * k)
        for name in ("sigmas", "presence_scale", "presence_bias", "quality_scale", "quality_bias"):
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
        for name, allowed in (
            ("format", FORMATS),
            ("precision", PRECISIONS),
            ("decode_kernel", KERNELS),
            ("map_kind", MAP_KINDS),
            ("output_kind", OUTPUT_KINDS),
        ):
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
        if not (math.isfinite(self.window_ratio) and self.window_ratio >= 1):
            raise MetadataError(
                f"Metadata field 'window_ratio' must be at least 1, got {self.window_ratio}. "
                "Convert the checkpoint again."
            )
        if self.map_kind == "heatmap" and (self.decode_kernel != "argmax" or self.window_ratio != 1):
            raise MetadataError(
                "A model with map_kind 'heatmap' must have decode_kernel 'argmax' and window_ratio 1, got "
                f"{self.decode_kernel!r} and {self.window_ratio}. Convert the checkpoint again."
            )
        if not isinstance(self.calibration, dict) or not all(
            isinstance(name, str) and isinstance(value, (int, float, str)) for name, value in self.calibration.items()
        ):
            raise MetadataError(
                f"Metadata field 'calibration' must map names to numbers or text, got {self.calibration!r}. "
                "Calibrate the model again."
            )
        if not isinstance(self.self_test, dict):
            raise MetadataError(
                f"Metadata field 'self_test' must map names to numbers, got {self.self_test!r}. Record it again with "
                "`probpose-edge doctor MODEL --record`."
            )
        if self.scores and self.output_kind == "decoded":
            raise MetadataError(
                "A file that decodes its maps inside must have an empty metadata field 'scores', because scores are "
                "made from maps. Convert the checkpoint again."
            )
        if not isinstance(self.confidence_head, bool) or (self.confidence_head and self.output_kind == "decoded"):
            raise MetadataError(
                "Metadata field 'confidence_head' must be true or false, and false for a file that decodes its maps "
                f"inside, got {self.confidence_head!r}. Convert the checkpoint again."
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

    @property
    def activation_padding(self) -> float:
        """Factor from box to activation window: `padding` times `window_ratio`."""
        return self.padding * self.window_ratio

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the tensors that the file gives for a crop, in order."""
        if self.output_kind == "decoded":
            return DECODED_NAMES
        head = ("confidence",) if self.confidence_head else ()
        if self.map_kind == "heatmap":
            return ("logits", *head)
        second = ("expert_logits",) if self.window_ratio > 1 else ()
        return ("logits", "presence", "visibility", "quality", *second, *head)

    def replace(self, **changes: Any) -> ModelContract:
        """A copy with some fields changed; checked like a new one."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """The document that goes into the file."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelContract:
        """Read a document of `READABLE_SCHEMAS`, as the newest; raises `MetadataError` on anything that is not one."""
        try:
            data = json.loads(text)
        except (ValueError, UnicodeDecodeError) as error:
            raise MetadataError(
                f"The probpose-edge metadata must be a JSON document, but reading it failed: {error}. "
                "Convert the checkpoint again."
            ) from error
        if not isinstance(data, dict):
            raise MetadataError("The probpose-edge metadata must be a JSON object. Convert the checkpoint again.")
        if data.get("kind") == ROUTER_KIND:
            raise MetadataError(
                "A pose model was asked for, but this file is a router, which only chooses between two of them. Name a "
                "pose model here, and the router as that of a RoutedEstimator (--routed)."
            )
        version = data.get("schema_version")
        if version not in READABLE_SCHEMAS:
            raise _schema_error(version)
        known = {f.name for f in dataclasses.fields(cls)}
        for schema, names in _NEW_IN_SCHEMA.items():
            known -= names if version < schema else frozenset()
        required = known - {"versions", "accuracy", "calibration", "scores", "confidence_head", "self_test"}
        if unknown := sorted(set(data) - known):
            raise MetadataError(f"The metadata has unknown fields {unknown}. Install a newer probpose-edge.")
        if missing := sorted(required - set(data)):
            raise MetadataError(f"The metadata lacks the fields {missing}. Convert the checkpoint again.")
        try:
            values = {name: _tuples(value) for name, value in data.items()}
            return cls(**{**values, "schema_version": SCHEMA_VERSION})
        except (TypeError, AttributeError) as error:
            raise MetadataError(
                f"A metadata field has the wrong type: {error}. Convert the checkpoint again."
            ) from error


def _schema_error(version: object) -> MetadataError:
    return MetadataError(
        f"This version of probpose-edge reads metadata schemas {READABLE_SCHEMAS[0]} to {READABLE_SCHEMAS[-1]}; the "
        f"file has schema {version!r}. Convert the checkpoint again, or install the matching probpose-edge."
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
