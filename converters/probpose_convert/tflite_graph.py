"""The network as LiteRT runs it best, and its translation to a float TFLite model.

litert_torch moves convolutions to TFLite's channels-last layout and cancels the transpositions between them. The
input is channels-last already, so the network must leave it so: normalised before the first transposition, every
change of layout up to the logits cancels, padding on the right and bottom becomes ``SAME``, and batch normalisation
and clamps fold into the convolutions. The float graph of probpose-m then is one XNNPACK partition.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from probpose_convert.explain_operator import untranslatable
from probpose_convert.quiet import quiet_libraries
from probpose_convert.tflite_flatbuffer import tidied
from probpose_edge.exceptions import ConversionError
from probpose_edge.extras import import_extra
from probpose_models.deploy import Deployable, deployed_outputs

INPUT_NAME = "image"

_latest: tuple[str, bytes] | None = None
"""Fingerprint of the network last translated, and the result: a user asks for several precisions in a row."""


class TfliteNetwork(nn.Module):
    """`Deployable` with the normalisation in channels-last order and named outputs.

    Input (1, H, W, 3) uint8 RGB; output the dictionary of `deployed_outputs`. A row of pixels is
    normalised as one vector of 3 * W values: XNNPACK takes 0.14 ms for that at 256×192, but 0.63 ms where it has to
    repeat three values over the pixels. As subtraction and multiplication, normalisation shares no operator type with
    the rest of probpose-m, so that a quantization recipe can leave it in float.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, input_wh: tuple[int, int]) -> None:
        super().__init__()
        deployable = Deployable(model)
        self.model = model
        scale = deployable.scale.flatten()
        # x * scale + offset = (x - center) * scale
        center = -deployable.offset.flatten() / scale
        self.register_buffer("center", center.repeat(input_wh[0]).view(1, 1, -1))
        self.register_buffer("scale", scale.repeat(input_wh[0]).view(1, 1, -1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        n, height, width, channels = image.shape
        rows = (image.reshape(n, height, width * channels).to(torch.float32) - self.center) * self.scale
        return deployed_outputs(self.model(rows.reshape(n, height, width, channels).permute(0, 3, 1, 2)))


def float_tflite(model: nn.Module, input_wh: tuple[int, int]) -> bytes:
    """Translate a network to a float32 TFLite model for one crop of `input_wh`, with named inputs and outputs.

    The given network is not changed. The last result is kept: asked again for the same weights, it is returned
    at once instead of after half a minute.

    Raises `MissingExtraError` without litert_torch, `ConversionError` if the network has an operator that it cannot
    translate.
    """
    global _latest
    with _quiet_litert():
        # Also where the last result is at hand: what a call needs does not depend on the calls before.
        import_extra("Writing .tflite files", "litert_torch", "convert")
    network = TfliteNetwork(copy.deepcopy(model).to(device="cpu", dtype=torch.float32), input_wh).eval()
    fingerprint = _fingerprint(network)
    if _latest is None or _latest[0] != fingerprint:
        image = torch.zeros(1, input_wh[1], input_wh[0], 3, dtype=torch.uint8)
        try:
            _latest = (fingerprint, translate(network, {INPUT_NAME: image}))
        except ConversionError as error:
            remedy = "Report this if the network is one of this project."
            raise untranslatable(model, input_wh, "TFLite", error.__cause__ or error, remedy) from error
    return _latest[1]


def translate(module: nn.Module, example: dict[str, Tensor]) -> bytes:
    """A module that returns a dictionary of tensors as a float32 TFLite model; `example` has its inputs by name.

    Raises `MissingExtraError` without litert_torch, `ConversionError` if it cannot translate an operator.
    """
    with _quiet_litert():
        litert_torch = import_extra("Writing .tflite files", "litert_torch", "convert")
        try:
            content = litert_torch.convert(module, sample_kwargs=example).model_content()
        except Exception as error:  # whatever any of torch.export, jax and MLIR raise
            reason = " ".join(str(error).split())[:300]
            raise ConversionError(
                "A network must consist of operators that TFLite has, but translating it failed with "
                f"{type(error).__name__}: {reason}. Report this, or choose another format."
            ) from error
        return tidied(bytes(content))


def _fingerprint(network: nn.Module) -> str:
    """Equal for equal structures with equal weights."""
    digest = hashlib.sha256(repr(network).encode())
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} ".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _quiet_litert() -> Iterator[None]:
    """Silence litert_torch's progress lines and what its libraries print; exceptions pass."""
    # oneDNN, which a conversion never runs, would announce itself on standard error before any log level counts.
    quiet = {"LITERT_TORCH_SHOW_PROGRESS": "n", "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
    before = {name: os.environ.get(name) for name in quiet}
    os.environ.update(quiet)
    try:
        with quiet_libraries():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
