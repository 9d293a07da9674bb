"""Exposures of crops by filter flow: a few kernels over an image, and between them a mixture of what they give.

A movement blurs each place with a kernel of its own, which changes slowly. So the image is filtered with the kernels of
some places, and every pixel takes the mean of what those around it give, by how near they are (Hirsch et al.,
"Efficient filter flow for space-variant multiframe blind deconvolution", CVPR 2010). The kernel of a place has the
transfer function H(f) = mean over the moments of exp(2πi f·d), where d is how far from there the camera looks: that
shifts by fractions of a pixel and loses no detail, and all moments are one product of matrices.

A pair for training is made in half the time that warping the image to each moment takes, and differs by what kernels
differ in within `CELL` pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor

CELL = 192
"""Most pixels between the places whose kernels are used."""


def filtered_over_exposure(images: Tensor, matrices: Tensor, size: tuple[int, int], offset: Tensor) -> Tensor:
    """Mean over the moments of what the camera sees: B×C×size.

    Args:
        images: B×C×H×W, larger than `size` by the margin that the movement needs: what lies beyond comes from the
            other side.
        matrices: B×K×3×3 homographies of the moments, in pixels from the photo's centre.
        offset: B×2, how far (right, down) the images' centre is from the photo's, in pixels.
    """
    height, width = images.shape[2:]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    frequencies_y = torch.fft.fftfreq(height, device=images.device)
    frequencies_x = torch.fft.rfftfreq(width, device=images.device)
    spectrum = torch.fft.rfft2(images)
    total = torch.zeros(*images.shape[:2], *size, device=images.device)
    for down, share_of_row in _places(size[0], images.device):
        for right, share_of_column in _places(size[1], images.device):
            # By sums: a list of numbers would have to reach a GPU first, for which all of its work is waited for.
            place = torch.stack([offset[:, 0] + right, offset[:, 1] + down, torch.ones_like(offset[:, 0])], dim=1)
            seen = torch.einsum("bkij,bj->bki", matrices, place)
            ways = seen[..., :2] / seen[..., 2:] - place[:, None, :2]
            along_y = _unit(frequencies_y[:, None] * ways[:, None, :, 1])
            along_x = _unit(ways[..., :1] * frequencies_x)
            transfer = torch.bmm(along_y, along_x) / ways.shape[1]
            filtered = torch.fft.irfft2(spectrum * transfer.unsqueeze(1), s=(height, width))
            of_crop = filtered[..., top : top + size[0], left : left + size[1]]
            total += of_crop * (share_of_row[:, None] * share_of_column)
    return total


def _places(side: int, device: torch.device) -> list[tuple[float, Tensor]]:
    """Places along a side, in pixels from its middle, and each one's share in the pixels there; shares sum to 1."""
    count = math.ceil(side / CELL)
    cell = side / count
    # In cells, so that the centre of the first is at 0; beyond the outer centres there is one place alone.
    pixels = (((torch.arange(side, device=device) + 0.5) / cell) - 0.5).clamp(0, count - 1)
    return [((number + 0.5) * cell - side / 2, functional.relu(1 - (pixels - number).abs())) for number in range(count)]


def _unit(turns: Tensor) -> Tensor:
    """exp(2πi · turns)."""
    angles = 2 * math.pi * turns
    return torch.complex(angles.cos(), angles.sin())
