"""Folding batch normalisations leaves the values alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from probpose_models.layers import conv_bn_relu6
from probpose_quant.fold_batch_norms import fold_batch_norms


def randomise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(value)
            nn.init.uniform_(module.running_var, 0.5, 2)


@torch.no_grad()
@pytest.mark.parametrize("transposed", [False, True])
def test_values_are_those_of_the_eval_network(transposed: bool) -> None:
    torch.manual_seed(0)
    deconvolution = nn.Sequential(nn.ConvTranspose2d(3, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    network = deconvolution if transposed else nn.Sequential(conv_bn_relu6(3, 8, 3, 2), conv_bn_relu6(8, 8, 3, 1, 8))
    randomise(network)
    network.eval()
    x = torch.randn(2, 3, 16, 12)
    folded = fold_batch_norms(network)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_a_normalisation_without_a_convolution_stays() -> None:
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3))
    assert isinstance(fold_batch_norms(network)[1], nn.BatchNorm2d)
