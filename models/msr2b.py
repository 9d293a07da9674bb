"""MSR2B: nine multi-scale Res2Net blocks between a down- and an upsampling pair.

Qi and Wang, 2023: the generator of a conditional GAN. Its block joins the hierarchical groups of Res2Net (Gao et al.,
IEEE TPAMI 2021, https://arxiv.org/abs/1904.01169) with two convolutions of different size. The paper leaves the width
of the block's bottleneck open; half of the channels are taken.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.registry import Score, register_model

_BLOCKS = 9
_CHANNELS = 256
_BOTTLENECK = 128
_GROUP = _BOTTLENECK // 4


class PlainMiddle(nn.Sequential):
    """One 3×3 convolution and ReLU: the middle of a ResNet bottleneck (He et al., CVPR 2016), N×128×H×W to the same."""

    width = _BOTTLENECK

    def __init__(self) -> None:
        super().__init__(_conv(_BOTTLENECK, 3), nn.ReLU(inplace=True))


class Res2NetMiddle(nn.Module):
    """Res2Net's hierarchy of four groups, each of which sees what the one before made of it: N×128×H×W to the same."""

    width = _BOTTLENECK

    def __init__(self) -> None:
        super().__init__()
        self.second = _conv(_GROUP, 3)
        self.third = _conv(_GROUP, 3)
        self.fourth = _conv(_GROUP, 3)

    def forward(self, x: Tensor) -> Tensor:
        s1, s2, s3, s4 = x.chunk(4, dim=1)
        t2 = torch.relu(self.second(s2))
        t3 = torch.relu(self.third(s3 + t2))
        t4 = torch.relu(self.fourth(s4 + t3))
        return torch.cat([s1, t2, t3, t4], dim=1)


class MultiScaleMiddle(Res2NetMiddle):
    """Res2Net's groups, and beside them the three convolved ones once more at two sizes: N×128×H×W to N×320×H×W."""

    width = _BOTTLENECK + 2 * 3 * _GROUP

    def __init__(self) -> None:
        super().__init__()
        self.small = _conv(3 * _GROUP, 3)
        self.large = _conv(3 * _GROUP, 5)

    def forward(self, x: Tensor) -> Tensor:
        groups = super().forward(x)
        convolved = groups[:, _GROUP:]
        return torch.cat([groups, torch.relu(self.small(convolved)), torch.relu(self.large(convolved))], dim=1)


_MIDDLES: dict[str, Callable[[], PlainMiddle | Res2NetMiddle]] = {
    "resnet": PlainMiddle,
    "res2net": Res2NetMiddle,
    "msr2b": MultiScaleMiddle,
}


class Bottleneck(nn.Module):
    """A residual block, N×256×H×W to the same: 1×1 convolution to 128 channels, ReLU, `middle`, 1×1 back, plus input.

    The last convolution has no ReLU, or a block could only ever add.
    """

    def __init__(self, middle: PlainMiddle | Res2NetMiddle) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(_CHANNELS, _BOTTLENECK, 1),
            nn.ReLU(inplace=True),
            middle,
            nn.Conv2d(middle.width, _CHANNELS, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class MSR2BNet(nn.Module):
    """N×3×H×W in [0, 1] to the same, not clamped; H and W multiples of 4.

    Args:
        block: what the nine blocks are in their middle; the blocks are alike in all else, so that the paper's ablation
            (its Table 1) compares what it names: `msr2b`, `res2net` (without the two convolutions of different size) or
            `resnet` (one plain 3×3 convolution).

    Raises:
        ValueError: there is no such block.
    """

    def __init__(self, block: str) -> None:
        super().__init__()
        if block not in _MIDDLES:
            raise ValueError(f"there are the blocks {', '.join(_MIDDLES)}")
        self.head = nn.Sequential(
            nn.Conv2d(3, 64, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 128, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, _CHANNELS, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.ModuleList(Bottleneck(_MIDDLES[block]()) for _ in range(_BLOCKS))
        # The local skip connections: what each block gave takes part in what comes out of all.
        self.fuse = nn.Sequential(nn.Conv2d(_BLOCKS * _CHANNELS, _CHANNELS, 1), nn.ReLU(inplace=True))
        self.tail = nn.Sequential(
            nn.ConvTranspose2d(_CHANNELS, 128, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(128, 64, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 3, 1),
        )
        self.apply(_start)
        # Untrained, the network gives its input back. Were its last convolution random, training would first of all
        # silence what comes out of it, by shutting the ReLUs of most blocks for good.
        nn.init.zeros_(self.tail[-1].weight)  # type: ignore[arg-type]

    def forward(self, blurred: Tensor) -> Tensor:
        x = self.head(blurred)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return blurred + self.tail(self.fuse(torch.cat(outputs, dim=1)))


def _conv(channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2)


def _start(module: nn.Module) -> None:
    """Weights that keep the size of features through ReLU (He et al., ICCV 2015); blocks start near the identity."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # A transposed convolution of stride 2 gathers a quarter of its kernel for each pixel.
        taps = module.kernel_size[0] ** 2 / (4 if isinstance(module, nn.ConvTranspose2d) else 1)
        nn.init.normal_(module.weight, std=(2 / (module.in_channels * taps)) ** 0.5)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    elif isinstance(module, Bottleneck):
        with torch.no_grad():
            module.body[-1].weight.mul_(0.1)  # type: ignore[operator]


@register_model(
    "msr2b",
    "MSR2B: nine multi-scale Res2Net blocks at a quarter of the resolution, the generator of a conditional GAN",
    paper="Qi, Wang: motion deblurring with a conditional GAN of multi-scale Res2Net blocks (MSR2B), 2023",
    multiple_of=4,
    # The blocks see 186 pixels, but hardly what is far: with weights that keep the size of the features, tiles
    # agree with the whole image to 60 dB at 32 pixels and to 90 dB at 64.
    tile_overlap=64,
    parameters=5_444_771,
    gmacs=24.7,
    published=(
        Score("GOPRO", 29.13, 0.961, "", "paper"),
        Score("GOPRO", 28.90, 0.951, "", "paper, block=res2net"),
        Score("GOPRO", 28.11, 0.944, "", "paper, block=resnet"),
        Score("Köhler", 26.62, 0.836, "", "paper"),
    ),
)
def msr2b(block: str = "msr2b") -> nn.Module:
    return MSR2BNet(block)
