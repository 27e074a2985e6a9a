"""Names of the parameters in published ProbPose and ViTPose checkpoints.

Two spellings are known. The later one (``backbone.layers.0.ln1``, ``head.…``) is that of the published ProbPose; the
earlier one (``backbone.blocks.0.norm1``, ``keypoint_head.…``) is that of the first ViTPose checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable

_LATER = (
    ("backbone.patch_embed.", "backbone.patch_embed.projection."),
    ("backbone.blocks.", "backbone.layers."),
    (".norm1.", ".ln1."),
    (".norm2.", ".ln2."),
    (".mlp.fc1.", ".ffn.layers.0.0."),
    (".mlp.fc2.", ".ffn.layers.1."),
    ("backbone.norm.", "backbone.ln1."),
)
_EARLIER = (
    ("backbone.patch_embed.", "backbone.patch_embed.proj."),
    ("backbone.norm.", "backbone.last_norm."),
)
_HEAD = (
    ("map_head.deconvolutions.", "deconv_layers."),
    ("map_head.final.", "final_layer."),
    ("presence_head.layers.", "probability_layers."),
    ("presence_head.final.", "probability_layers.12."),
    ("visibility_head.layers.", "visibility_layers."),
    ("visibility_head.final.", "visibility_layers.12."),
    ("quality_head.layers.", "oks_layers."),
    ("quality_head.final.", "oks_layers.12."),
)
UNUSED = "head.error_layers."
"""Start of the names of a head that published checkpoints hold and that takes no part in the result."""


class ReleaseNames:
    """Which spelling a file uses, told by its names."""

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        self.earlier_backbone = any(name.startswith("backbone.blocks.") for name in names)
        self.head = "keypoint_head." if any(name.startswith("keypoint_head.") for name in names) else "head."

    def of(self, ours: str) -> str:
        """The file's name of one of our parameters."""
        for our_part, their_part in _HEAD:
            if ours.startswith(our_part):
                return self.head + their_part + ours.removeprefix(our_part)
        for our_part, their_part in _EARLIER if self.earlier_backbone else _LATER:
            ours = ours.replace(our_part, their_part)
        return ours
