"""MSRN: multi-scale residual blocks around a chain of plain ones, a network of its own for each of three scales.

Xu, Jiao, Zhao: the multi-scale residual network with a nine-layer critic. Its multi-scale residual block is that of Li,
Fang, Mei, Zhang: "Multi-scale Residual Network for Image Super-Resolution", ECCV 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.blocks import ResBlock, coarse_to_fine, gaussian_pyramid
from models.registry import Score, register_model

_SCALES = 3


class MultiScaleResBlock(nn.Module):
    """N×C×H×W to the same: two rounds of 3×3 and 5×5 convolutions side by side, each seeing both of the round before.

    Li et al., ECCV 2018, equations 2 to 7: S1 and P1 are 3×3 and 5×5 of the input, S2 and P2 of both; a 1×1 convolution
    brings S2 and P2 back to C channels, to which the input is added.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.s1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.p1 = nn.Conv2d(channels, channels, 5, padding=2)
        self.s2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.p2 = nn.Conv2d(2 * channels, 2 * channels, 5, padding=2)
        self.fuse = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        s1, p1 = torch.relu(self.s1(x)), torch.relu(self.p1(x))
        s2 = torch.relu(self.s2(torch.cat([s1, p1], dim=1)))
        p2 = torch.relu(self.p2(torch.cat([p1, s1], dim=1)))
        return x + self.fuse(torch.cat([s2, p2], dim=1))


class OneScale(nn.Module):
    """One scale: N×`inputs`×H×W to N×3×H×W."""

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(inputs, channels, 5, padding=2)
        self.first = MultiScaleResBlock(channels)
        self.chain = nn.Sequential(*(ResBlock(channels) for _ in range(blocks)))
        self.last = MultiScaleResBlock(channels)
        self.fuse = nn.Conv2d(2 * channels, channels, 1)
        self.tail = nn.Conv2d(channels, 3, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(self.head(x))
        last = self.last(self.chain(first))
        # Hierarchical feature fusion: what was seen early reaches the end by itself.
        return self.tail(self.fuse(torch.cat([first, last], dim=1)))


class MSRN(nn.Module):
    """N×3×H×W in [0, 1] to the same, not clamped; H and W multiples of 4. In training the three scales, coarsest first.

    Args:
        channels: of the hidden layers; inside multi-scale blocks up to four times as many.
        blocks: residual blocks of each scale between its two multi-scale ones.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(OneScale(3 if scale == 0 else 6, channels, blocks) for scale in range(_SCALES))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1) for _ in range(_SCALES - 1))

    def forward(self, blurred: Tensor) -> Tensor | list[Tensor]:
        restored = coarse_to_fine(gaussian_pyramid(blurred, _SCALES), list(self.scales), list(self.enlarge))
        return restored if self.training else restored[-1]


@register_model(
    "msrn",
    "multi-scale residual network: three scales, each with 3×3 and 5×5 convolutions side by side",
    paper="Xu, Jiao, Zhao: multi-scale residual network with a nine-layer critic",
    multiple_of=2 ** (_SCALES - 1),
    # With random Xavier weights, scaled to give images, a grey square of 16 pixels changes others by half a grey level
    # up to 69 pixels away.
    tile_overlap=96,
    # There bfloat16 stays within 49 dB of float32: the image goes through all layers, and not past them.
    half_precision=False,
    parameters=14_793_903,
    gmacs=424,
    published=(Score("GOPRO", 27.33, 0.9324, "", "paper"),),
)
def msrn(channels: int = 64, blocks: int = 17) -> nn.Module:
    return MSRN(channels, blocks)
