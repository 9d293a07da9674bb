"""DeepDeblur: a chain of residual blocks for each of three scales, coarse results leading the finer ones.

Nah, Kim, Lee: "Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring", CVPR 2017
(https://arxiv.org/abs/1612.02177), in the shape of its authors' PyTorch release, whose enlarging between scales has
PixelShuffle in place of the paper's transposed convolution. Names of parameters are those of the release's checkpoints,
so that these load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from torch import Tensor, nn

from models.blocks import ResBlock, coarse_to_fine, gaussian_pyramid
from models.registry import Score, register_model

_SCALES = 3

# The release works on pixels from 0 to 255, less the mid-grey. Biases make that matter to its weights.
_RANGE = 255


class ResNet(nn.Module):
    """One scale: convolution, residual blocks, convolution, all 5×5. N×`inputs`×H×W to N×3×H×W."""

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, channels, 5, padding=2),
            *(ResBlock(channels) for _ in range(blocks)),
            nn.Conv2d(channels, 3, 5, padding=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Enlarge(nn.Module):
    """N×3×H×W to N×3×2H×2W: convolution 5×5 and PixelShuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.uppath = nn.Sequential(nn.Conv2d(3, 12, 5, padding=2), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.uppath(x)


class DeepDeblur(nn.Module):
    """N×3×H×W in [0, 1] to the same, not clamped; H and W multiples of 4. In training the three scales, coarsest first.

    Args:
        channels: of every hidden layer.
        blocks: residual blocks of each scale.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        # The release numbers scales from the finest, 0, to the coarsest, whose result is the first to be enlarged.
        coarsest = _SCALES - 1
        self.body_models = nn.ModuleList(
            ResNet(3 if scale == coarsest else 6, channels, blocks) for scale in range(_SCALES)
        )
        self.conv_end_models = nn.ModuleDict({str(scale): Enlarge() for scale in range(1, _SCALES)})

    def forward(self, blurred: Tensor) -> Tensor | list[Tensor]:
        pyramid = [_RANGE * (scale - 0.5) for scale in gaussian_pyramid(blurred, _SCALES)]
        enlarge = list(self.conv_end_models.values())
        # Back in float32 whatever the precision of the layers: half precision is coarse around 255.
        restored = [
            scale.float() / _RANGE + 0.5
            for scale in coarse_to_fine(pyramid, list(self.body_models)[::-1], enlarge[::-1])
        ]
        return restored if self.training else restored[-1]


def recognise(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Channels and blocks from the names and shapes of a checkpoint's tensors; None where it is no DeepDeblur."""
    head = weights.get("body_models.0.body.0.weight")
    if head is None or head.ndim != 4 or "conv_end_models.1.uppath.0.weight" not in weights:
        return None
    # The first layer of a scale is its head, the last its tail: the blocks are those between.
    blocks = next(number for number in count() if f"body_models.0.body.{number + 1}.body.0.weight" not in weights)
    return {"channels": head.shape[0], "blocks": blocks}


@register_model(
    "deepdeblur",
    "DeepDeblur: a chain of residual blocks for each of three scales, from coarse to fine",
    paper="Nah, Kim, Lee: Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring, CVPR 2017, "
    "https://arxiv.org/abs/1612.02177",
    multiple_of=2 ** (_SCALES - 1),
    # With random Xavier weights, scaled to give images, a grey square of 16 pixels changes others by half a grey level
    # up to 102 pixels away.
    tile_overlap=128,
    # There bfloat16 stays within 45 dB of float32: the image goes through all layers, and not past them.
    half_precision=False,
    parameters=11_721_321,
    gmacs=336,
    published=(
        Score("GOPRO", 29.23, 0.9162, "ssim_matlab", "paper"),
        Score("GOPRO", 30.40, 0.9018, "ssim", "PyTorch release"),
        Score("Köhler", 26.48, 0.8079, "", "paper"),
    ),
    recognise=recognise,
)
def deepdeblur(channels: int = 64, blocks: int = 19) -> nn.Module:
    return DeepDeblur(channels, blocks)
