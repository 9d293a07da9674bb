"""`lite`, the default: a residual U-Net on a pixel-unshuffled image, sized for a processor.

The full-resolution convolutions of a common U-Net (Ronneberger et al., MICCAI 2015) are most of its cost on a
processor. Here the image is first folded by PixelUnshuffle (Shi et al., CVPR 2016, run backwards), so that the finest
features are at 1/r of the resolution, and the network predicts what to add to the blurred image (Nah et al., CVPR
2017). No normalisation and no global pooling: every output pixel depends on a bounded neighbourhood, so tiles agree
with the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from models.registry import register_model


class PlainBlock(nn.Sequential):
    """Convolution 3×3 and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True))


class UnshuffledUNet(nn.Module):
    """N×3×H×W in [0, 1] to the same; H and W multiples of `unshuffle · 2^(levels − 1)`.

    Args:
        unshuffle: the factor by which the image is folded before the first convolution.
        widths: channels of each level, finest first.
        encoder_blocks, decoder_blocks: blocks of each level; the coarsest level has `encoder_blocks[-1]` in all.
        block: the module that a level is made of.
    """

    def __init__(
        self,
        unshuffle: int,
        widths: Sequence[int],
        encoder_blocks: Sequence[int],
        decoder_blocks: Sequence[int],
        block: type[nn.Module],
    ) -> None:
        super().__init__()
        folded = 3 * unshuffle**2
        self.fold = nn.PixelUnshuffle(unshuffle)
        self.head = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(_stack(block, width, n) for width, n in zip(widths, encoder_blocks, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1, bias=False), nn.PixelShuffle(2))
            for fine, coarse in pairwise(widths)
        )
        self.decoders = nn.ModuleList(
            _stack(block, width, n) for width, n in zip(widths[:-1], decoder_blocks, strict=True)
        )
        self.tail = nn.Conv2d(widths[0], folded, 3, padding=1)
        self.unfold = nn.PixelShuffle(unshuffle)
        # Untrained, the network gives its input back; training moves away from there.
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, blurred: Tensor) -> Tensor:
        x = self.head(self.fold(blurred))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=False):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.encoders[-1](x)
        for up, decoder, skip in zip(reversed(self.ups), reversed(self.decoders), reversed(skips), strict=True):
            x = decoder(up(x) + skip)
        return blurred + self.unfold(self.tail(x))


def _stack(block: type[nn.Module], width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(block(width) for _ in range(blocks)))


@register_model(
    "lite",
    "the default: a small residual U-Net on a pixel-unshuffled image, made for processors",
    multiple_of=lambda options: options["unshuffle"] * 2 ** (len(options["widths"]) - 1),
    tile_overlap=128,
    parameters=1_532_852,
    gmacs=1.447,
)
def lite(
    unshuffle: int = 2,
    widths: Sequence[int] = (24, 48, 96, 160),
    encoder_blocks: Sequence[int] = (2, 2, 2, 4),
    decoder_blocks: Sequence[int] = (2, 2, 2),
) -> nn.Module:
    return UnshuffledUNet(unshuffle, widths, encoder_blocks, decoder_blocks, PlainBlock)
