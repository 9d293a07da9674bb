"""`base`, the sister of `lite` for GPUs: the same folded U-Net, half as wide again.

Two coarser levels were trained with it and changed nothing (benchmarks/README.md, "Which levels of `base` are of use").
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.lite import UnshuffledUNet, multiple_of
from models.registry import register_model


@register_model(
    "base",
    "the sister of `lite`, wider for twice its work, made for GPUs",
    multiple_of=multiple_of,
    tile_overlap=256,
    parameters=1_268_912,
    gmacs=5.471,
)
def base(
    unshuffle: int = 2,
    widths: Sequence[int] = (48, 80),
    encoder_blocks: Sequence[int] = (2, 2),
    decoder_blocks: Sequence[int] = (2,),
    scales: int = 3,
) -> nn.Module:
    return UnshuffledUNet(unshuffle, widths, encoder_blocks, decoder_blocks, scales)
