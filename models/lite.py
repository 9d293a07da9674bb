"""`lite`, the default: a residual U-Net of two levels on a pixel-unshuffled image, sized for a processor.

The full-resolution convolutions of a common U-Net (Ronneberger et al., MICCAI 2015) are most of its cost on a
processor. Here the image is first folded by PixelUnshuffle (Shi et al., CVPR 2016, run backwards), so that the finest
features are at 1/r of the resolution, and the network predicts what to add to the blurred image (Nah et al., CVPR
2017). Every level is told which blur to undo: the transfer function that models/transfer.py estimates from the image's
spectrum. The same weights restore the image at several scales (as the scales of Tao et al., CVPR 2018, share theirs),
because a motion too long for what they learned is half as long in the image at half its size. The transfer functions
also decide how much of each scale's correction is added where. No normalisation and no global pooling: every output
pixel depends on a bounded neighbourhood, so tiles agree with the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from models.registry import register_model
from models.transfer import HOP, VALUES, TransferEstimator


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x))), 3×3, without normalisation (the block of EDSR, Lim et al., CVPR workshops 2017).

    It hands on what it was given whatever its ReLU does, so that a long run cannot shut off a level for good, as
    happened to levels of plain blocks.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        # A block starts near the identity: with no normalisation, that is what keeps a deep stack trainable.
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


class Guide(nn.Sequential):
    """Adds to the features of a level what the transfer function of their place calls for."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__(nn.Linear(VALUES, width), nn.ReLU(inplace=True), nn.Linear(width, channels))

    def forward(self, x: Tensor, transfer: Tensor) -> Tensor:  # type: ignore[override]
        bias = super().forward(transfer).permute(0, 3, 1, 2)
        return x + _enlarged(bias, x)


class Gains(nn.Sequential):
    """How much of each scale's correction is wanted, place by place, by what all scales see of the blur there.

    Takes the transfer functions that were estimated at each scale, the coarsest first, each N×h×w×`VALUES`; gives as
    many gains N×1×h×w, in that order, on the windows of the finest.
    """

    def __init__(self, scales: int, width: int = 64) -> None:
        shares = nn.Linear(width, scales)
        # Untrained, all scales have the same share everywhere.
        nn.init.zeros_(shares.weight)
        nn.init.constant_(shares.bias, 1 / scales)
        super().__init__(nn.Linear(scales * VALUES, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), shares)

    def forward(self, transfers: Sequence[Tensor]) -> Sequence[Tensor]:
        planes = [transfer.permute(0, 3, 1, 2) for transfer in transfers]
        seen = torch.cat([_enlarged(plane, planes[-1]) for plane in planes], dim=1)
        return super().forward(seen.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).split(1, dim=1)


class UnshuffledUNet(nn.Module):
    """N×3×H×W in [0, 1] to the same; H and W as `multiple_of` says.

    Args:
        unshuffle: the factor by which the image is folded before the first convolution.
        widths: channels of each level, finest first.
        encoder_blocks, decoder_blocks: blocks of each level; the coarsest level has `encoder_blocks[-1]` in all.
        scales: at how many sizes the image is looked at, each half of the one before.
    """

    def __init__(
        self,
        unshuffle: int,
        widths: Sequence[int],
        encoder_blocks: Sequence[int],
        decoder_blocks: Sequence[int],
        scales: int = 1,
    ) -> None:
        super().__init__()
        folded = 3 * unshuffle**2
        self.fold = nn.PixelUnshuffle(unshuffle)
        self.head = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.transfer = TransferEstimator()
        self.guides = nn.ModuleList(Guide(width) for width in widths)
        self.encoders = nn.ModuleList(_stack(*level) for level in zip(widths, encoder_blocks, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1, bias=False), nn.PixelShuffle(2))
            for fine, coarse in pairwise(widths)
        )
        self.decoders = nn.ModuleList(_stack(*level) for level in zip(widths[:-1], decoder_blocks, strict=True))
        self.tail = nn.Conv2d(widths[0], folded, 3, padding=1)
        self.unfold = nn.PixelShuffle(unshuffle)
        self.gains = Gains(scales) if scales > 1 else None
        self.scales = scales
        # Untrained, the network gives its input back; training moves away from there.
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, blurred: Tensor) -> Tensor:
        corrections, transfers = zip(*map(self.correct, self.pyramid(blurred)), strict=True)
        if self.gains is None:
            return blurred + corrections[0]
        restored = blurred
        for correction, gain in zip(corrections, self.gains(transfers), strict=True):
            restored = restored + _enlarged(_enlarged(gain, correction) * correction, blurred)
        return restored

    def pyramid(self, blurred: Tensor) -> list[Tensor]:
        """The image at each scale at which it is looked at, the coarsest first."""
        images = [blurred]
        for _ in range(self.scales - 1):
            images.insert(0, functional.avg_pool2d(images[0], 2))
        return images

    def correct(self, blurred: Tensor) -> tuple[Tensor, Tensor]:
        """What to add to an image of one scale, N×3×H×W, and the transfer function that is estimated for it."""
        transfer = self.transfer(blurred)
        x = self.head(self.fold(blurred))
        skips = []
        for guide, encoder, down in zip(self.guides, self.encoders, self.downs, strict=False):
            x = encoder(guide(x, transfer))
            skips.append(x)
            x = down(x)
        x = self.encoders[-1](self.guides[-1](x, transfer))
        for up, decoder, skip in zip(reversed(self.ups), reversed(self.decoders), reversed(skips), strict=True):
            x = decoder(up(x) + skip)
        return self.unfold(self.tail(x)), transfer


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    """`x` at the height and width of another, N×C×H×W both; bilinear."""
    size = like.shape[2:]
    return x if x.shape[2:] == size else functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _stack(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))


def multiple_of(options: Mapping[str, Any]) -> int:
    """What the sides of an image must be multiples of, by the options of `lite` or `base`."""
    one_scale = math.lcm(HOP, options["unshuffle"] * 2 ** (len(options["widths"]) - 1))
    return int(one_scale * 2 ** (options["scales"] - 1))


@register_model(
    "lite",
    "the default: a small residual U-Net that is told the blur it sees, made for processors",
    multiple_of=multiple_of,
    tile_overlap=256,
    parameters=1_003_984,
    gmacs=2.522,
)
def lite(
    unshuffle: int = 2,
    widths: Sequence[int] = (32, 48),
    encoder_blocks: Sequence[int] = (2, 2),
    decoder_blocks: Sequence[int] = (2,),
    scales: int = 3,
) -> nn.Module:
    return UnshuffledUNet(unshuffle, widths, encoder_blocks, decoder_blocks, scales)
