"""`base`, the larger sister of `lite` for GPUs: the same folded U-Net, wider, of residual blocks at every level."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.lite import ResidualBlock, UnshuffledUNet, multiple_of
from models.registry import register_model


@register_model(
    "base",
    "the wider sister of `lite`, of residual blocks, made for GPUs",
    multiple_of=multiple_of,
    tile_overlap=256,
    parameters=4_437_440,
    gmacs=6.613,
)
def base(
    unshuffle: int = 2,
    widths: Sequence[int] = (40, 80, 128, 192),
    encoder_blocks: Sequence[int] = (1, 2, 2, 3),
    decoder_blocks: Sequence[int] = (1, 2, 2),
    scales: int = 3,
) -> nn.Module:
    return UnshuffledUNet(unshuffle, widths, encoder_blocks, decoder_blocks, [ResidualBlock] * len(widths), scales)
