"""NAFNet: a U-Net of blocks without nonlinear activation functions.

Chen, Chu, Zhang, Sun: "Simple Baselines for Image Restoration", ECCV 2022 (https://arxiv.org/abs/2204.04676).
Names of parameters are those of the published checkpoints, so that these load as they are. Channel attention takes its
mean over a window around each pixel, as the published figures do (Chu, Chen, Chen, Lu: "Improving Image Restoration by
Revisiting Global Information Aggregation", ECCV 2022; about 0.6 dB on GOPRO): a training crop lies within one window,
where that is the mean over all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from models.blocks import spread
from models.registry import Score, register_model

_WINDOW = 384
"""Side of the attention's window in pixels of the image: one and a half times that of the published training crops."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, N×C×H×W to the same; eps 1e-6 as published."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        # torch normalises the last axis. A channels_last tensor already has its channels there: no copy either way.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class WindowMean(nn.Module):
    """The mean over each `side`×`side` window that lies inside: N×C×H×W to N×C×(H-side+1)×(W-side+1) float32; along an
    axis not longer than the window there is one, over all of it."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        if max(x.shape[2:]) <= self.side:
            return x.mean(dim=(2, 3), keepdim=True, dtype=torch.float32)
        # Sums along rows and columns are several times as fast in torch's own order of memory.
        return _moving_mean(_moving_mean(x.contiguous(), 3, self.side), 2, self.side)


def _moving_mean(x: Tensor, axis: int, length: int) -> Tensor:
    places = x.shape[axis] - length + 1
    if places <= 1:
        return x.mean(dim=axis, keepdim=True, dtype=torch.float32)
    sums = x.cumsum(axis, dtype=torch.float32)
    means = sums.narrow(axis, length - 1, places).clone()
    means.narrow(axis, 1, places - 1).sub_(sums.narrow(axis, 0, places - 1))
    return means.div_(length)


def simple_gate(x: Tensor) -> Tensor:
    """The product of the two halves of the channels: all the nonlinearity there is."""
    first, second = x.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """The paper's block: a gated depthwise convolution with channel attention, then a gated pointwise network.

    `window` is the side of the attention's window, in pixels of what the block sees.
    """

    def __init__(self, channels: int, window: int = _WINDOW) -> None:
        super().__init__()
        wide = 2 * channels
        self.norm1 = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        # Simplified channel attention.
        self.sca = nn.Sequential(WindowMean(window), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = ChannelNorm(channels)
        self.conv4 = nn.Conv2d(channels, wide, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        # Learned scales of the two branches; at zero, a new block is the identity.
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        gated = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(gated * spread(self.sca(gated), *x.shape[2:]))
        return x + self.gamma * self.conv5(simple_gate(self.conv4(self.norm2(x))))


class NAFNet(nn.Module):
    """N×3×H×W in [0, 1] to the same; H and W multiples of 2^levels.

    Args:
        width: channels at full resolution; each level down has twice as many and half the pixels a side.
        encoders: blocks of each level on the way down, finest first.
        middle: blocks at the coarsest resolution.
        decoders: blocks of each level on the way up, coarsest first; as many levels as there are encoders.

    Raises:
        ValueError: a width below 1, a negative number of blocks, or unequal numbers of levels.
    """

    def __init__(self, width: int, encoders: Sequence[int], middle: int, decoders: Sequence[int]) -> None:
        super().__init__()
        if width < 1 or min([middle, *encoders, *decoders]) < 0:
            raise ValueError("the width must be at least 1 and no number of blocks negative")
        if len(encoders) != len(decoders):
            raise ValueError(f"{len(encoders)} encoders and {len(decoders)} decoders; each level has one of both")
        levels = len(encoders)
        widths = [width * 2**level for level in range(levels)]
        coarsest = width * 2**levels
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.encoders = nn.ModuleList(map(_blocks, encoders, widths, range(levels)))
        self.downs = nn.ModuleList(nn.Conv2d(channels, 2 * channels, 2, stride=2) for channels in widths)
        self.middle_blks = _blocks(middle, coarsest, levels)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * channels, 4 * channels, 1, bias=False), nn.PixelShuffle(2))
            for channels in reversed(widths)
        )
        self.decoders = nn.ModuleList(map(_blocks, decoders, reversed(widths), reversed(range(levels))))
        self.ending = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, blurred: Tensor) -> Tensor:
        x = self.intro(blurred)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            x = decoder(up(x) + skip)
        return blurred + self.ending(x)


def _blocks(number: int, channels: int, level: int) -> nn.Sequential:
    """So many blocks, where the sides are halved `level` times."""
    return nn.Sequential(*(NAFBlock(channels, max(1, _WINDOW >> level)) for _ in range(number)))


def recognise(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Width and depths from the names and shapes of a checkpoint's tensors; None where it is no NAFNet."""
    intro = weights.get("intro.weight")
    if intro is None or intro.ndim != 4 or "ending.weight" not in weights:
        return None
    levels = _numbered(weights, "downs.{}.weight")
    return {
        "width": intro.shape[0],
        "encoders": tuple(_numbered(weights, f"encoders.{level}.{{}}.beta") for level in range(levels)),
        "middle": _numbered(weights, "middle_blks.{}.beta"),
        "decoders": tuple(_numbered(weights, f"decoders.{level}.{{}}.beta") for level in range(levels)),
    }


def _numbered(names: Mapping[str, Tensor], pattern: str) -> int:
    return next(number for number in count() if pattern.format(number) not in names)


@register_model(
    "nafnet",
    "NAFNet: a U-Net of gated blocks without activation functions, any width and depth",
    paper="Chen, Chu, Zhang, Sun: Simple Baselines for Image Restoration, ECCV 2022, https://arxiv.org/abs/2204.04676",
    multiple_of=lambda options: 2 ** len(options["encoders"]),
    # Half a window. With random weights that change a photo by 96 grey levels, tiles then differ from the whole by 0.2.
    tile_overlap=_WINDOW // 2,
    # The published weights are reported to give NaN in float16, whose range the products of the gates can leave.
    half_precision=False,
    parameters=17_111_907,
    gmacs=16.1,
    published=(
        Score("GOPRO", 32.87, 0.9606, "ssim_matlab", "width 32"),
        Score("GOPRO", 33.69, 0.9668, "ssim_matlab", "width 64"),
    ),
    recognise=recognise,
)
def nafnet(
    width: int = 32,
    encoders: Sequence[int] = (1, 1, 1, 28),
    middle: int = 1,
    decoders: Sequence[int] = (1, 1, 1, 1),
) -> nn.Module:
    return NAFNet(width, encoders, middle, decoders)
