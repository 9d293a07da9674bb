"""`base`, the larger sister of `lite` for GPUs: the same folded U-Net, wider, of residual blocks.

A block that adds to its input hands on what it was given whatever its ReLUs do, so that a long run cannot shut off a
level for good, as happened to plain blocks without normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.lite import UnshuffledUNet
from models.registry import register_model


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x))), 3×3, without normalisation (the block of EDSR, Lim et al., CVPR workshops 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        # A block starts near the identity: with no normalisation, that is what keeps a deep stack trainable.
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


@register_model(
    "base",
    "the wider sister of `lite`, of residual blocks, made for GPUs",
    multiple_of=lambda options: options["unshuffle"] * 2 ** (len(options["widths"]) - 1),
    tile_overlap=128,
    parameters=4_062_660,
    gmacs=5.873,
)
def base(
    unshuffle: int = 2,
    widths: Sequence[int] = (40, 80, 128, 192),
    encoder_blocks: Sequence[int] = (2, 2, 2, 3),
    decoder_blocks: Sequence[int] = (2, 2, 2),
) -> nn.Module:
    return UnshuffledUNet(unshuffle, widths, encoder_blocks, decoder_blocks, ResidualBlock)
