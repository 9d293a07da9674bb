"""NAFNet: a U-Net of blocks without nonlinear activation functions.

Chen, Chu, Zhang, Sun: "Simple Baselines for Image Restoration", ECCV 2022 (https://arxiv.org/abs/2204.04676).
Names of parameters are those of the published checkpoints, so that these load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from models.registry import Score, register_model
from models.whole_image import WholeImageMean


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, N×C×H×W to the same; eps 1e-6 as published."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        # torch normalises the last axis. A channels_last tensor already has its channels there: no copy either way.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def simple_gate(x: Tensor) -> Tensor:
    """The product of the two halves of the channels: all the nonlinearity there is."""
    first, second = x.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """The paper's block: a gated depthwise convolution with channel attention, then a gated pointwise network."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.norm1 = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        # Simplified channel attention.
        self.sca = nn.Sequential(WholeImageMean(), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = ChannelNorm(channels)
        self.conv4 = nn.Conv2d(channels, wide, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        # Learned scales of the two branches; at zero, a new block is the identity.
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        gated = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(gated * self.sca(gated))
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
        widths = [width * 2**level for level in range(len(encoders))]
        coarsest = width * 2 ** len(encoders)
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(n, channels) for n, channels in zip(encoders, widths, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(channels, 2 * channels, 2, stride=2) for channels in widths)
        self.middle_blks = _blocks(middle, coarsest)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * channels, 4 * channels, 1, bias=False), nn.PixelShuffle(2))
            for channels in reversed(widths)
        )
        self.decoders = nn.ModuleList(
            _blocks(n, channels) for n, channels in zip(decoders, reversed(widths), strict=True)
        )
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


def _blocks(number: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(number)))


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
    tile_overlap=64,
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
