"""DSC-GAN: residual blocks of attention and depthwise-separable convolutions, small for what it restores.

Li, Kong, Xue and Wang: the generator of a relativistic GAN. Its attention is that of CBAM (Woo et al., ECCV 2018,
https://arxiv.org/abs/1807.06521). No convolution has a bias: that gives the published size of 11.9 MB.

Training shows crops, and the maximum over a whole photo is higher than over a crop: so channel attention looks at
windows about as large as one (Chu, Chen, Chen, Lu: "Improving Image Restoration by Revisiting Global Information
Aggregation", ECCV 2022, https://arxiv.org/abs/2112.04491). On what is no larger than a window it is CBAM's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from models.blocks import spread
from models.registry import Score, register_model

_BLOCKS = 9
_CHANNELS = 256
_STRIDE = 4
"""Pixels of the image on a side of a feature."""
_CELL = 4
"""Side of a cell in features; there is a window around each, so that tiles whose cells are the image's see the same."""
_WINDOW = 17
"""Side of a window in cells, odd, so that a cell is its centre: 272 pixels of the image, for crops of 256."""


class ChannelAttention(nn.Module):
    """Weighs each channel of N×C×H×W by what its mean and its maximum over the window around each pixel say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.perceptron = nn.Sequential(
            _conv(channels, channels // 2, 1), _leaky_relu(), _conv(channels // 2, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        mean, maximum = _mean_and_maximum(x)
        return x * _between_cells(torch.sigmoid(self.perceptron(mean) + self.perceptron(maximum)), *x.shape[2:])


def _mean_and_maximum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of each channel over each window of whole cells that lies inside; over all of it where it is not larger."""
    if max(x.shape[2:]) <= _WINDOW * _CELL:
        return x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    mean, maximum = (pool(x, _CELL) for pool in (functional.avg_pool2d, functional.max_pool2d))
    sides = [min(_WINDOW, cells) for cells in mean.shape[2:]]
    return functional.avg_pool2d(mean, sides, stride=1), functional.max_pool2d(maximum, sides, stride=1)


def _between_cells(windows: Tensor, height: int, width: int) -> Tensor:
    """For each of `height`×`width` pixels what the windows around the nearest cells have, in linear proportion."""
    if windows.shape[2:] == (1, 1):
        return windows
    cells = spread(windows, height // _CELL, width // _CELL)
    return functional.interpolate(cells, size=(height, width), mode="bilinear")


class SpatialAttention(nn.Module):
    """Weighs each pixel of N×C×H×W by what the mean and the maximum over its channels say, around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _conv(2, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        over_channels = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(over_channels))


class SeparableConv(nn.Sequential):
    """Depthwise 3×3 and pointwise 1×1 convolution, then LeakyReLU."""

    def __init__(self, channels: int) -> None:
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        super().__init__(depthwise, _conv(channels, channels, 1), _leaky_relu())


class DSCRB(nn.Module):
    """The paper's block: both attentions, three depthwise-separable convolutions, plus the input.

    In training a share `dropout` of the features is dropped after the first convolution, where DeblurGAN does it.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ChannelAttention(channels),
            SpatialAttention(),
            SeparableConv(channels),
            nn.Dropout(dropout),
            SeparableConv(channels),
            SeparableConv(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Upsample(nn.Sequential):
    """1×1 convolution, PixelShuffle and LeakyReLU: N×2C×H×W to N×C×2H×2W."""

    def __init__(self, channels: int) -> None:
        super().__init__(_conv(2 * channels, 4 * channels, 1), nn.PixelShuffle(2), _leaky_relu())


class DSCGAN(nn.Module):
    """N×3×H×W in [0, 1] to the same, not clamped; H and W multiples of 16."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(3, 64, 7),
            _leaky_relu(),
            _conv(64, 128, 3, stride=2),
            _leaky_relu(),
            _conv(128, _CHANNELS, 3, stride=2),
            _leaky_relu(),
            *(DSCRB(_CHANNELS, dropout) for _ in range(_BLOCKS)),
            Upsample(128),
            Upsample(64),
            _conv(64, 3, 7),
            nn.Tanh(),
        )

    def forward(self, blurred: Tensor) -> Tensor:
        return blurred + self.body(blurred)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def _leaky_relu() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2, inplace=True)


@register_model(
    "dscgan",
    "DSC-GAN: attention and depthwise-separable convolutions, the generator of a relativistic GAN",
    paper="Li, Kong, Xue, Wang: image deblurring with a depthwise-separable attention GAN (DSC-GAN)",
    multiple_of=_STRIDE * _CELL,
    # With trained weights tiles then differ from the whole by 2.5 grey levels at most, by 8 with half a window (136).
    tile_overlap=192,
    parameters=2_973_682,
    gmacs=12.2,
    published=(Score("GOPRO", 29.34, 0.928, "", "paper"), Score("Köhler", 26.32, 0.822, "", "paper")),
)
def dscgan(dropout: float = 0.5) -> nn.Module:
    return DSCGAN(dropout)
