"""Building blocks shared by the networks of the family."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SamePadConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding for inputs whose sides are multiples of the stride.

    A stride-1 kernel pads symmetrically; a 3×3 stride-2 kernel on an even size pads right and bottom only, which
    is how the given ImageNet weights were trained and what TFLite's ``SAME`` means.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        padding = (kernel_size - 1) // 2 if stride == 1 else 0
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2 and self.kernel_size[0] == 3:
            x = F.pad(x, (0, 1, 0, 1))
        return super().forward(x)


def conv_bn_relu6(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6: the cell of MobileNetV2."""
    return nn.Sequential(
        SamePadConv2d(in_channels, out_channels, kernel_size, stride, groups),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )


def upsample2x(x: Tensor) -> Tensor:
    """Bilinear, half-pixel centers: one native operator in all three formats."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU: the cell of the heads."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
