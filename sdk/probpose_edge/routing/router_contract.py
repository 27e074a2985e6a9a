"""The contract of a router file: what must be known to choose, by its scores, between a small and a large pose model.

A router file takes `image` as pose files do, uint8 RGB (N, H, W, 3), normalised inside, and gives one output `score`
(N, 1) float32 in (0, 1): which share of the small model's error the large one is expected to remove,
``(D_s - D_l) / D_s`` clipped to [0, 1], with the OKD distances D of both (DynPose, CVPR 2025). The document lies in the
file where that of a pose model does (see `probpose_edge.contract.metadata`), told from it by ``"kind": "router"``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from probpose_edge.contract.metadata import FORMATS, PRECISIONS, ROUTER_KIND, ROUTER_NAMES
from probpose_edge.exceptions import MetadataError

ROUTER_SCHEMA_VERSION = 1
(SCORE_NAME,) = ROUTER_NAMES
"""Name of the one output."""
_REMEDY = "Convert the router again."


@dataclass(frozen=True, kw_only=True)
class RouterContract:
    """What a consumer must know to use a router file.

    Attributes
    ----------
    model: name of the router, e.g. ``"probpose-router"``.
    format, precision: one of `FORMATS`, one of `PRECISIONS`. recipe: of the quantization, e.g. ``"fp32"``.
    input_wh: network input in pixels, width first; that of one of the two models.
    padding: factor from box to window; that of both models.
    small, large: the pair it was trained on, as text.
    keypoint_names: those of the pair.
    score_quantiles: Q at least 2 numbers in [0, 1] that do not fall: quantiles of its scores on the training pictures,
        at levels ``0, 1 / (Q - 1), …, 1``, so that a share can be kept from the first person on.
    theta: how far up from the lowest to the highest score the persons begin who go to the large model, in [0, 1]
        (see `probpose_edge.routing.route_sorted`); 1 takes those with the highest scores.
    checkpoint_sha256: hash of the checkpoint the file was made from.
    licence: SPDX identifier of the weights.
    versions: library name → version that made the file.
    accuracy: figures measured on the training pictures, name → value, empty if none were.
    """

    model: str
    format: str
    precision: str
    recipe: str
    input_wh: tuple[int, int]
    padding: float
    small: str
    large: str
    keypoint_names: tuple[str, ...]
    score_quantiles: tuple[float, ...]
    checkpoint_sha256: str
    licence: str
    theta: float = 1.0
    versions: dict[str, str] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    kind: str = ROUTER_KIND
    schema_version: int = ROUTER_SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.kind != ROUTER_KIND:
            raise _not_a_router()
        if self.schema_version != ROUTER_SCHEMA_VERSION:
            raise _schema_error(self.schema_version)
        for name, allowed in (("format", FORMATS), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise MetadataError(
                    f"Router metadata field {name!r} must be one of {', '.join(allowed)}, got "
                    f"{getattr(self, name)!r}. {_REMEDY}"
                )
        if not (math.isfinite(self.padding) and self.padding > 0) or len(self.input_wh) != 2 or min(self.input_wh) < 2:
            raise MetadataError(
                "Router metadata must have a positive padding and an input of two sizes, got "
                f"{self.padding!r} and {self.input_wh!r}. {_REMEDY}"
            )
        if not self.keypoint_names:
            raise MetadataError(f"Router metadata must name the keypoints of its pair, got none. {_REMEDY}")
        if not 0 <= self.theta <= 1:
            raise MetadataError(f"Router metadata field 'theta' must lie in [0, 1], got {self.theta!r}. {_REMEDY}")
        quantiles = self.score_quantiles
        rising = all(low <= high for low, high in zip((0.0, *quantiles), (*quantiles, 1.0), strict=True))
        if len(quantiles) < 2 or not rising:
            raise MetadataError(
                "Router metadata field 'score_quantiles' must be two or more numbers in [0, 1] that do not fall, got "
                f"{quantiles!r}. {_REMEDY}"
            )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the tensors that the file gives for a crop."""
        return ROUTER_NAMES

    def replace(self, **changes: Any) -> RouterContract:
        """A copy with some fields changed; checked like a new one."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """The document that goes into the file."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> RouterContract:
        """Read such a document; raises `MetadataError` for anything else, that of a pose model included."""
        try:
            data = json.loads(text)
        except (ValueError, UnicodeDecodeError) as error:
            raise MetadataError(
                f"The metadata of a router must be a JSON document, but reading it failed: {error}. {_REMEDY}"
            ) from error
        if not isinstance(data, dict) or data.get("kind") != ROUTER_KIND:
            raise _not_a_router()
        if data.get("schema_version") != ROUTER_SCHEMA_VERSION:
            raise _schema_error(data.get("schema_version"))
        known = {each.name for each in dataclasses.fields(cls)}
        if unknown := sorted(set(data) - known):
            raise MetadataError(f"The router metadata has unknown fields {unknown}. Install a newer probpose-edge.")
        if missing := sorted(known - {"theta", "versions", "accuracy"} - set(data)):
            raise MetadataError(f"The router metadata lacks the fields {missing}. {_REMEDY}")
        values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in data.items()}
        try:
            return cls(**values)
        except (TypeError, AttributeError) as error:
            raise MetadataError(f"A router metadata field has the wrong type: {error}. {_REMEDY}") from error


def _not_a_router() -> MetadataError:
    return MetadataError(
        "A router was asked for, but this file is a pose model or something else: its metadata are not those of a "
        "router. Name the file that `probpose-edge convert` made of a router's checkpoint."
    )


def _schema_error(version: object) -> MetadataError:
    return MetadataError(
        f"This version of probpose-edge reads router metadata of schema {ROUTER_SCHEMA_VERSION}; the file has schema "
        f"{version!r}. Convert the router again, or install the matching probpose-edge."
    )
