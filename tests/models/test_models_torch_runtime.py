"""Running a network must not change it: neither its mode nor its statistics."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from probpose_models.checkpoint import build_model  # noqa: E402
from probpose_models.torch_runtime import TorchRuntime  # noqa: E402


@pytest.mark.parametrize("training", [True, False])
def test_every_part_keeps_its_mode(training: bool) -> None:
    model = build_model("probpose-m").train(training)
    model.backbone.eval()  # frozen while the heads train
    before = {name: module.training for name, module in model.named_modules()}
    mean = model.map_head.fuse4[1].running_mean.clone()
    TorchRuntime(model).run(np.full((1, 256, 192, 3), 200, np.uint8))
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.equal(model.map_head.fuse4[1].running_mean, mean)
