"""DeblurGAN's generator: nine residual blocks with instance norm.

Kupyn, Budzan, Mykhailych, Mishkin, Matas: "DeblurGAN: Blind Motion Deblurring Using Conditional Adversarial Networks",
CVPR 2018 (https://arxiv.org/abs/1711.07064). Names of parameters are those of the published checkpoints, so that these
load as they are. The blocks of the paper and of its first release hold two convolutions; in later releases of the code
a slip left them one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from models.registry import Score, register_model
from models.whole_image import WholeImageMoments

_BLOCKS = 9
_CHANNELS = 256
_RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class ReflectionPad(nn.Module):
    """So many pixels more on each side, the image's reflection; or its border where it is too small for that."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        mode = "reflect" if min(x.shape[2:]) > self.width else "replicate"
        return functional.pad(x, (self.width,) * 4, mode=mode)


class InstanceNorm(nn.Module):
    """Each channel of each image to mean 0 and variance 1: `nn.InstanceNorm2d`, with statistics that tiles can share.

    Args:
        channels: C of N×C×H×W.
        running_statistics: names of buffers to have, for checkpoints that do; they are never read (see `DeblurGAN`).
    """

    def __init__(self, channels: int, running_statistics: Sequence[str] = ()) -> None:
        super().__init__()
        self.moments = WholeImageMoments()
        for name in running_statistics:
            initial = torch.tensor(0) if name == "num_batches_tracked" else torch.zeros(channels)
            self.register_buffer(name, initial)

    def forward(self, x: Tensor) -> Tensor:
        # Float32, as the moments are: in half precision a mean far from zero would leave little of the deviations.
        mean, variance = self.moments(x).chunk(2, dim=1)
        return ((x - mean) * torch.rsqrt(variance + 1e-5)).to(x.dtype)


class ResnetBlock(nn.Module):
    """N×256×H×W to the same: reflection pad, 3×3 convolution and instance norm once or twice, plus the input.

    ReLU and, in training, dropout of one half follow the first norm.
    """

    def __init__(self, convolutions: int, running_statistics: Sequence[str]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(convolutions):
            layers += [
                ReflectionPad(1),
                nn.Conv2d(_CHANNELS, _CHANNELS, 3),
                InstanceNorm(_CHANNELS, running_statistics),
            ]
            if number == 0:
                layers += [nn.ReLU(inplace=True), nn.Dropout(0.5)]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class DeblurGAN(nn.Module):
    """N×3×H×W in [0, 1] to the same, clamped as published; H and W multiples of 4.

    Args:
        convolutions: in each block; 2 in the paper and its first release, 1 in later releases.
        running_statistics: which of `running_mean`, `running_var` and `num_batches_tracked` the instance norms keep as
            buffers. Published checkpoints hold them, but the images that were published come from each image's own
            statistics, so nothing reads them.

    Raises:
        ValueError: another number of convolutions, or another name.
    """

    def __init__(self, convolutions: int, running_statistics: Sequence[str]) -> None:
        super().__init__()
        if convolutions not in (1, 2):
            raise ValueError("a block has 1 or 2 convolutions")
        if not set(running_statistics) <= set(_RUNNING_STATISTICS):
            raise ValueError(f"the running statistics are {', '.join(_RUNNING_STATISTICS)}")

        def normalised(convolution: nn.Module, channels: int) -> list[nn.Module]:
            return [convolution, InstanceNorm(channels, running_statistics), nn.ReLU(inplace=True)]

        self.model = nn.Sequential(
            ReflectionPad(3),
            *normalised(nn.Conv2d(3, 64, 7), 64),
            *normalised(nn.Conv2d(64, 128, 3, stride=2, padding=1), 128),
            *normalised(nn.Conv2d(128, _CHANNELS, 3, stride=2, padding=1), _CHANNELS),
            *(ResnetBlock(convolutions, running_statistics) for _ in range(_BLOCKS)),
            *normalised(nn.ConvTranspose2d(_CHANNELS, 128, 3, stride=2, padding=1, output_padding=1), 128),
            *normalised(nn.ConvTranspose2d(128, 64, 3, stride=2, padding=1, output_padding=1), 64),
            ReflectionPad(3),
            nn.Conv2d(64, 3, 7),
            nn.Tanh(),
        )

    def forward(self, blurred: Tensor) -> Tensor:
        # The network works in [−1, 1]. There it adds its output to the input; here that is half as much.
        return (blurred + 0.5 * self.model(2 * blurred - 1)).clamp(0, 1)


def recognise(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The options of a published checkpoint, from the names of its tensors; None where it is no DeblurGAN."""
    if "model.10.conv_block.1.weight" not in weights:
        return None
    return {
        "convolutions": 2 if "model.10.conv_block.6.weight" in weights else 1,
        "running_statistics": tuple(name for name in _RUNNING_STATISTICS if f"model.2.{name}" in weights),
    }


@register_model(
    "deblurgan",
    "DeblurGAN: nine residual blocks with instance norm, the generator of a conditional GAN",
    paper="Kupyn, Budzan, Mykhailych, Mishkin, Matas: DeblurGAN: Blind Motion Deblurring Using Conditional Adversarial "
    "Networks, CVPR 2018, https://arxiv.org/abs/1711.07064",
    multiple_of=4,
    # The convolutions see some 85 pixels: with tiles that share the statistics, 32 pixels agree with the whole image to
    # 67 dB.
    tile_overlap=64,
    # New weights stay within 47 dB in bfloat16: instance norm enlarges what rounding leaves of flat features.
    half_precision=False,
    parameters=11_378_179,
    gmacs=49.6,
    published=(Score("GOPRO", 28.70, 0.958, "cw", "paper"), Score("Köhler", 25.86, 0.802, "", "paper")),
    recognise=recognise,
)
def deblurgan(convolutions: int = 2, running_statistics: Sequence[str] = ()) -> nn.Module:
    return DeblurGAN(convolutions, running_statistics)
