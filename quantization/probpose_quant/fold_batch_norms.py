"""Fold batch normalisations into the convolutions before them."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy of `model`, in eval mode, in which every ``convolution, batch normalisation`` of a sequence is one layer.

    Values are those of the eval network up to rounding (the running statistics are constants there). The copy has
    convolutions with biases and identities where the normalisations were; the given network is not changed.
    """
    folded = copy.deepcopy(model).eval()
    for sequence in [module for module in folded.modules() if isinstance(module, nn.Sequential)]:
        for index in range(len(sequence) - 1):
            first, second = sequence[index], sequence[index + 1]
            if isinstance(first, (nn.Conv2d, nn.ConvTranspose2d)) and isinstance(second, nn.BatchNorm2d):
                sequence[index] = fuse_conv_bn_eval(first, second, transpose=isinstance(first, nn.ConvTranspose2d))
                sequence[index + 1] = nn.Identity()
    return folded
