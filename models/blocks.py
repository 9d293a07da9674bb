"""What some networks share: a residual block without normalisation, a convolution that is not rounded, how to go from
coarse scales to fine ones, and from windows to pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class FullPrecisionConv2d(nn.Conv2d):
    """A convolution in the precision of its weights, float32 as a rule, under autocast too.

    For networks that the image goes through, and not past: bfloat16 has 8 bits for a pixel that passes the first layer
    and the last one. Between them, what a `ResBlock` adds may be in half precision, its sum is in that of its input.
    """

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if not torch.amp.is_autocast_available(device):  # as the meta device, on which networks are counted
            return super().forward(x)
        with torch.autocast(device, enabled=False):
            return super().forward(x.to(self.weight.dtype))


class ResBlock(nn.Module):
    """N×C×H×W to the same: convolution 5×5, ReLU, convolution 5×5, plus the input.

    He et al.'s block without its normalisation and last ReLU, as Nah et al. use it ("Deep Multi-scale Convolutional
    Neural Network for Dynamic Scene Deblurring", CVPR 2017, figure 3). Names of parameters are those of their release.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 5, padding=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def gaussian_pyramid(images: Tensor, scales: int) -> list[Tensor]:
    """N×C×H×W at 1/2^(scales − 1), …, 1/2 and 1 of its size, coarsest first; H and W multiples of 2^(scales − 1).

    Each scale is the one before smoothed by a Gaussian of deviation 2/3 pixel (seven taps), and then the mean of two by
    two pixels: `pyramid_gaussian` of scikit-image, with which Nah et al.'s release trains and tests. Pixels beyond the
    border repeat it.
    """
    pyramid = [images]
    for _ in range(scales - 1):
        pyramid.insert(0, _halved(pyramid[0]))
    return pyramid


def _halved(images: Tensor) -> Tensor:
    distances = torch.arange(-3, 4, device=images.device)
    gaussian = torch.exp(-0.5 * (distances / (2 / 3)).square())
    gaussian = gaussian / gaussian.sum()
    # Smoothing and the mean of two neighbours in one: eight taps around the middle between these.
    taps = 0.5 * (functional.pad(gaussian, (0, 1)) + functional.pad(gaussian, (1, 0)))
    channels = images.shape[1]
    kernel = torch.outer(taps, taps).to(images.dtype).expand(channels, 1, -1, -1)
    return functional.conv2d(functional.pad(images, (3, 3, 3, 3), mode="replicate"), kernel, stride=2, groups=channels)


def coarse_to_fine(
    pyramid: Sequence[Tensor], networks: Sequence[nn.Module], enlarge: Sequence[nn.Module]
) -> list[Tensor]:
    """Restore each scale with the help of the coarser one's result (Nah et al., CVPR 2017, figure 4).

    Args:
        pyramid: the blurred images, N×3×H×W each, coarsest first, each scale twice the size of the one before.
        networks: one for each scale. The first takes 3 channels; the others 6, blurred images and enlarged result.
        enlarge: one for each step between scales, N×3×H×W to N×3×2H×2W.

    Returns:
        The restored images, coarsest first.
    """
    restored = [networks[0](pyramid[0])]
    for blurred, network, enlarged in zip(pyramid[1:], networks[1:], enlarge, strict=True):
        restored.append(network(torch.cat([blurred, enlarged(restored[-1])], dim=1)))
    return restored


def spread(windows: Tensor, height: int, width: int) -> Tensor:
    """For each of `height`×`width` pixels what the window around it has, near the border the one moved inside."""
    if windows.shape[2:] == (1, 1):
        return windows
    missing_rows, missing_columns = height - windows.shape[2], width - windows.shape[3]
    left, top = missing_columns // 2, missing_rows // 2
    return functional.pad(windows, (left, missing_columns - left, top, missing_rows - top), mode="replicate")
